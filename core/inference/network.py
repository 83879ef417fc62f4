"""A model ready to run: images in, Gaussians out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from core.architectures import build_model
from core.cameras import Cameras, input_cameras, orbit_cameras
from core.checkpoint import file_hash, load_weights
from core.conventions import INPUT_AZIMUTHS
from core.data.side_views import insertion_grid, interval_grid, side_view_grid
from core.errors import UserError
from core.gaussians import FAINT, Gaussians
from core.lact.temporal import TemporalMemory, remembering
from core.model import FastL4GM
from core.options import CameraOptions, ModelOptions
from core.places import find
from core.view_grid import ViewGrid

Precision = Literal["auto", "fp32", "bf16", "fp16"]

DTYPES: Mapping[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The type of weights and activations; normalisation statistics and the head are always float32.

    ``auto``: float16 on a GPU, as published; on a CPU bfloat16 if it has instructions for it, otherwise float32.
    """
    if precision != "auto":
        return DTYPES[precision]
    if device.type != "cpu":
        return torch.float16
    return torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else torch.float32


def choose_diffusion_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The same for diffusion networks, which on a CPU are float32 unless the precision is given."""
    return torch.float32 if (precision, device.type) == ("auto", "cpu") else choose_dtype(precision, device)


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

    @property
    def levels(self) -> list[nn.Module]:
        """The levels of the U-Net, each of which runs once in a call of the network."""
        unet = self.model.unet
        return [*unet.down_blocks, unet.mid_block, *unet.up_blocks]

    @cached_property
    def sha256(self) -> str:
        """Hash of the checkpoint file."""
        return file_hash(self.path)

    def reconstruct(
        self,
        frames: Tensor,
        side_views: Tensor | None = None,
        azimuths: Sequence[float] = INPUT_AZIMUTHS,
        elevation: float = 0.0,
        memory: TemporalMemory | None = None,
    ) -> Gaussians:
        """One chunk of a video.

        Args:
            frames: ``[T, 3, S, S]``: view 0 of each time step, RGB in [0, 1], S = ``size``.
            side_views: views 1..3: ``[3, 3, S, S]`` the same for all time steps, ``[T, 3, 3, S, S]`` of every one, None
                if only the frames are known.
            azimuths: of the four views in degrees; view 0 is the front, the others are relative to it.
            elevation: of all four in degrees, positive above the horizon.
            memory: of the chunks before, which this one adds to (`new_memory`); None: there are none.

        Returns:
            Gaussians with leading axes ``[T]``.
        """
        source = "none" if side_views is None else "first" if side_views.ndim == 4 else "every"
        sides = None if side_views is None else side_views[None].to(self.device)
        cameras = self._cameras_at(azimuths, elevation).expand(1, len(frames), len(azimuths))
        with nullcontext() if memory is None else remembering(self.model, memory):
            return self._run(side_view_grid(frames[None].to(self.device), sides, cameras, source))[0]

    def new_memory(self) -> TemporalMemory | None:
        """For the chunks of a video in their order; None for temporal attention, which sees one chunk alone."""
        return {} if self.model.options.use_temp_attn and self.model.options.temporal == "lact" else None

    def reconstruct_alone(self, frames: Tensor, side_views: Tensor | None) -> Gaussians:
        """As `reconstruct`, but every frame is a video of its own: no information passes between times."""
        cameras = self.cameras.expand(len(frames), 1, *self.cameras.shape)
        front, sides = frames[:, None].to(self.device), None
        if side_views is not None:
            sides = side_views.to(self.device).expand(len(frames), *side_views.shape)
        return self._run(side_view_grid(front, sides, cameras, "none" if sides is None else "first"))[:, 0]

    def interpolate(self, ends: Tensor, rate: int, *, first: bool = True) -> Gaussians:
        """Gaussians at the times 0, 1/rate, ..., M - 1 of M successive time steps.

        The network sees a pair of neighbours at a time, all pairs at once. Inputs between the two are linear blends,
        for all four views. The result at a time step comes from the pair that ends there.

        Args:
            ends: the four views ``[M, 4, 3, S, S]`` of each time step, M > 1.
            rate: number of steps from one to the next.
            first: whether to begin with time 0, not with 1/rate.

        Returns:
            Gaussians with leading axes ``[rate (M - 1) + 1]``, without the first ``[rate (M - 1)]``.
        """
        frame_mask = torch.ones(len(ends) - 1, rate + 1, dtype=torch.bool)
        frame_mask[:, 0] = False
        frame_mask[0, 0] = first
        return self._run(interval_grid(ends.to(self.device), self.cameras, rate), frame_mask)

    def insert(self, first: Tensor, frames: Tensor, side_views: Tensor) -> Gaussians:
        """Gaussians at times between frames, with the side views of the first frame of all.

        The network sees an interval at a time, all at once: the first frame of all, to which the side views belong, and
        the interval's own.

        Args:
            first: the video's first frame ``[3, S, S]``.
            frames: view 0 at the K times in each of P intervals ``[P, K, 3, S, S]``.
            side_views: views 1..3 of the first frame ``[3, 3, S, S]``.

        Returns:
            Gaussians with leading axes ``[P K]``.
        """
        first, frames, side_views = (images.to(self.device) for images in (first, frames, side_views))
        grid = insertion_grid(first, frames, side_views, self.cameras)
        frame_mask = torch.ones(grid.shape[:2], dtype=torch.bool)
        frame_mask[:, 0] = False
        return self._run(grid, frame_mask)

    def _cameras_at(self, azimuths: Sequence[float], elevation: float) -> Cameras:
        if tuple(azimuths) == INPUT_AZIMUTHS and elevation == 0:
            return self.cameras
        turns = torch.tensor(azimuths) - azimuths[0]
        orbit = {"radius": self.camera.cam_radius, "fovy": self.camera.fovy, "size": (self.size, self.size)}
        return orbit_cameras(turns, elevation, **orbit).to(self.device)

    @torch.inference_mode()
    def _run(self, grid: ViewGrid, frame_mask: Tensor | None = None) -> Gaussians:
        gaussians = self.model(grid, frame_mask, FAINT)
        if not gaussians.is_finite():
            raise UserError(
                f"the network {self.path} gives NaN or infinity; try --precision fp32, and check that "
                f"the checkpoint belongs to the preset"
            )
        return gaussians


def _load(path: Path, options: ModelOptions, device: torch.device, dtype: torch.dtype) -> FastL4GM:
    """The network with the checkpoint's tensors; it is made without initial values, which for `big` cost seconds and
    gigabytes."""
    with torch.device("meta"):
        model = build_model(options)
    model.to(dtype).requires_grad_(False).eval()
    # The layers after the last feature map are cheap and determine the values: they stay float32.
    for last in (model.unet.norm_out, model.unet.conv_out, model.conv):
        last.float()
    load_weights(model, path)
    return model.to(device, memory_format=torch.channels_last)
