"""A model ready to run: images in, Gaussians out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from core.cameras import INPUT_AZIMUTHS, Cameras, input_cameras, orbit_cameras
from core.checkpoint import file_hash, load_weights
from core.data.input_grid import blend_between_ends, build_grid
from core.errors import UserError
from core.gaussians import FAINT, Gaussians
from core.model import L4GM
from core.options import CameraOptions, ModelOptions
from core.places import find

Precision = Literal["auto", "fp32", "bf16", "fp16"]

DTYPES: Mapping[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str = "auto") -> torch.device:
    """The device that ``--device`` names; ``auto``: the first CUDA device if there is one, otherwise the CPU.

    Raises:
        UserError: torch does not see that device.
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    index = int(name.partition(":")[2] or 0)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if index >= count:
        raise UserError(f"--device {name}: torch sees {count} GPUs (the first is number 0); use --device auto or cpu")
    return torch.device(index)


def choose_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The type of weights and activations; normalisation statistics and the head are float32 whatever it is.

    ``auto``: float16 on a GPU, as published; on a CPU bfloat16 where it has instructions for it, otherwise float32.
    """
    if precision != "auto":
        return DTYPES[precision]
    if device.type != "cpu":
        return torch.float16
    return torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else torch.float32


class Network:
    """The reconstruction or the interpolation model with the cameras of inference.

    Args:
        path: checkpoint; every tensor of the model must be in it.
        model: sizes and widths.
        camera: orbit and field of view of the four input views.
        device, dtype: where it runs, and the type of weights and activations.

    Raises:
        UserError: the checkpoint cannot be used, see `core.checkpoint.load_weights`.
    """

    def __init__(
        self,
        path: str | Path,
        model: ModelOptions,
        camera: CameraOptions,
        *,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.path = find(path)
        self.size = model.input_size
        self.device = device or torch.device("cpu")
        self.model = _load(self.path, model, self.device, dtype)
        cameras = input_cameras(size=self.size, radius=camera.cam_radius, fovy=camera.fovy)
        self.camera, self.cameras = camera, cameras.to(self.device)

    @cached_property
    def sha256(self) -> str:
        """Hash of the checkpoint file."""
        return file_hash(self.path)

    def reconstruct(self, frames: Tensor, side_views: Tensor, azimuths: Sequence[float] = INPUT_AZIMUTHS) -> Gaussians:
        """One chunk of a video.

        Args:
            frames: ``[T, 3, S, S]``: view 0 of each time step, RGB in [0, 1], S = ``size``.
            side_views: ``[3, 3, S, S]``: views 1..3, the same for all time steps; or ``[T, 3, 3, S, S]``.
            azimuths: of the four views in degrees; view 0 is taken for the front, the others go round from there.

        Returns:
            T sets, leading axes ``[T]``.
        """
        sides = side_views.to(self.device).expand(len(frames), *side_views.shape[-4:])
        images = torch.cat([frames[:, None].to(self.device), sides], dim=1)[None]
        return self._run(images, self._cameras_at(azimuths))[0]

    def reconstruct_alone(self, frames: Tensor, side_views: Tensor) -> Gaussians:
        """As `reconstruct`, but every frame is a video of one: nothing passes from one time to another."""
        sides = side_views.to(self.device).expand(len(frames), *side_views.shape)
        images = torch.cat([frames[:, None].to(self.device), sides], dim=1)
        return self._run(images[:, None], self.cameras)[:, 0]

    def interpolate(self, ends: Tensor, rate: int, *, first: bool = True) -> Gaussians:
        """Sets at the times 0, 1/rate, ..., M - 1 of M successive moments.

        The network sees a pair of neighbours at a time, all pairs at once. Its inputs between the two are linear
        blends of them, all four views alike. What lies at a moment comes from the pair that it ends.

        Args:
            ends: the four views ``[M, 4, 3, S, S]`` of each moment, M > 1.
            rate: number of steps from one moment to the next.
            first: whether to begin with time 0, not with 1/rate.

        Returns:
            Gaussians with leading axes ``[rate (M - 1) + 1]``, without the first ``[rate (M - 1)]``.
        """
        before, after = ends[:-1, None], ends[1:, None]
        middle = before.expand(-1, rate - 1, -1, -1, -1, -1)  # not read, see blend_between_ends
        wanted = torch.ones(len(before), rate + 1, dtype=torch.bool, device=self.device)
        wanted[:, 0] = False
        wanted[0, 0] = first
        return self._run(torch.cat([before, middle, after], dim=1), self.cameras, blend=True, wanted=wanted)

    def insert(self, first: Tensor, frames: Tensor, side_views: Tensor) -> Gaussians:
        """Sets at times between frames, with the side views of the first frame of all.

        The network sees an interval at a time, all at once: the first frame of all, to which the side views belong, and
        the interval's own.

        Args:
            first: the video's first frame ``[3, S, S]``.
            frames: view 0 at the K times in each of P intervals ``[P, K, 3, S, S]``.
            side_views: views 1..3 of the first frame ``[3, 3, S, S]``.

        Returns:
            Gaussians with leading axes ``[P K]``.
        """
        fronts = torch.cat([first.expand(len(frames), 1, *first.shape), frames], dim=1)[:, :, None].to(self.device)
        sides = side_views.to(self.device).expand(*fronts.shape[:2], *side_views.shape)
        wanted = torch.ones(fronts.shape[:2], dtype=torch.bool, device=self.device)
        wanted[:, 0] = False
        return self._run(torch.cat([fronts, sides], dim=2), self.cameras, wanted=wanted)

    def _cameras_at(self, azimuths: Sequence[float]) -> Cameras:
        if tuple(azimuths) == INPUT_AZIMUTHS:
            return self.cameras
        turns = torch.tensor(azimuths) - azimuths[0]
        orbit = {"radius": self.camera.cam_radius, "fovy": self.camera.fovy, "size": (self.size, self.size)}
        return orbit_cameras(turns, **orbit).to(self.device)

    @torch.inference_mode()
    def _run(self, images: Tensor, cameras: Cameras, blend: bool = False, wanted: Tensor | None = None) -> Gaussians:
        images = images.to(self.device)
        cameras = cameras.expand(*images.shape[:3])
        if blend:
            images, cameras = blend_between_ends(images, cameras)
        gaussians = self.model(build_grid(images, cameras), wanted, FAINT)
        if not gaussians.is_finite():
            raise UserError(
                f"the network {self.path} gives NaN or infinity; try --precision fp32, and check that "
                f"the checkpoint belongs to the preset"
            )
        return gaussians


def _load(path: Path, options: ModelOptions, device: torch.device, dtype: torch.dtype) -> L4GM:
    with _unfilled(device, dtype):
        model = L4GM(options)
    model.requires_grad_(False).eval()
    # What follows the last feature map is cheap and makes the values: it stays float32.
    for last in (model.unet.norm_out, model.unet.conv_out, model.conv):
        last.float()
    load_weights(model, path)
    return model.to(memory_format=torch.channels_last)


class _NoInit(TorchFunctionMode):
    """Leaves out everything in torch.nn.init."""

    def __torch_function__(
        self, func: Callable, types: object, args: tuple = (), kwargs: dict[str, object] | None = None
    ) -> object:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return (kwargs or {}).get("tensor", args[0] if args else None)
        return func(*args, **(kwargs or {}))


@contextmanager
def _unfilled(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Modules built inside have storage of this type and no start values, which the checkpoint would overwrite.

    For `big` a random start takes seconds and its float32 copy twice the memory of the weights.
    """
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device, _NoInit():
            yield
    finally:
        torch.set_default_dtype(default)
