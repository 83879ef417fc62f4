"""Puts the parts of inference together; one session serves all videos of a command."""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path
from typing import Protocol

from torch import Tensor

from core.data.input_grid import INPUT_AZIMUTHS
from core.errors import UserError
from core.images import resize_area
from core.inference.lift import Lifted, lift
from core.inference.network import Network, choose_dtype, default_device
from core.inference.orbit import OrbitRenderer
from core.inference.provenance import versions
from core.inference.side_views import check_mode
from core.multiview.single_view import views_from_frame
from core.options import PRESETS, ModelOptions, Options


class Filmed(Protocol):
    """Something whose frame 0 is known: a video, or an object that is evaluated."""

    def first_frame(self, size: int) -> Tensor:
        """Frame 0 as ``[3, size, size]`` in [0, 1]."""
        ...


class Session:
    """Networks, renderer and options of one command. Networks are loaded when they are first used, and once.

    Nothing in inference is random: the same files, options and machine give the same results, whatever the seed.

    Args:
        options: of the command line.

    Raises:
        UserError: an option cannot be, or the reconstruction checkpoint cannot be used.
    """

    def __init__(self, options: Options) -> None:
        check_options(options)
        self.options = options
        self.workspace = Path(options.train.workspace)
        self.device = default_device()
        self.dtype = choose_dtype(options.infer.precision, self.device)
        self.orbit = OrbitRenderer(options.camera, options.data.output_size, self.device)

    @cached_property
    def network(self) -> Network:
        """The reconstruction model."""
        resume = self.options.train.resume
        if resume is None:
            raise UserError("--resume is missing: give the checkpoint of the reconstruction model")
        return self._load(resume, self.options.model)

    @cached_property
    def interpolation(self) -> Network | None:
        """The interpolation model; None where none is asked for."""
        path = self.options.infer.interpresume
        return self._load(path, self.options.model) if path else None

    @cached_property
    def single_view(self) -> Network:
        """A model that was trained with view dropout: the session's own one, otherwise that of the preset nano."""
        if self.options.data.prob_view_dropout > 0:
            return self.network
        nano = PRESETS["nano"]
        try:
            return self._load(str(nano.train.resume), nano.model)
        except UserError as error:
            raise UserError(
                f"there are no side-view images, and the model that would make them cannot be loaded: {error}"
            ) from error

    def raw_views(self, source: Filmed) -> Tensor:
        """Four views ``[4, 3, S, S]`` from frame 0 alone."""
        model = self.single_view
        return views_from_frame(source.first_frame(model.size), model.reconstruct, self.orbit)

    def lift(self, source: Filmed, raw_views: Tensor) -> Lifted:
        """Fuse raw views and align them with frame 0."""
        size = self.network.size
        views = resize_area(raw_views, (size, size))
        return lift(views, source.first_frame(size), self.network.reconstruct, self.orbit)

    def describe(self) -> dict[str, object]:
        """What shaped the results beside the video, for their metadata."""
        camera = self.options.camera
        networks = ("network", "interpolation", "single_view")
        used = {name: self.__dict__[name] for name in networks if self.__dict__.get(name)}
        return {
            "checkpoints": {name: {"file": str(used[name].path), "sha256": used[name].sha256} for name in used},
            "cameras": {
                "world": "y up, azimuth 0 on +z looks at what the video shows",
                "azimuths": list(INPUT_AZIMUTHS),
                "elevation": 0.0,
                "radius": camera.cam_radius,
                "fovy": camera.fovy,
                "near": camera.znear,
                "far": camera.zfar,
                "size": self.orbit.size,
            },
            "precision": str(self.dtype).removeprefix("torch."),
            "device": self.device.type,
            "renderer": self.orbit.name,
            "seed": "none: nothing is random",
            "versions": versions(),
        }

    def _load(self, path: str, model: ModelOptions) -> Network:
        return Network(path, model, self.options.camera, device=self.device, dtype=self.dtype)


def check_options(options: Options) -> None:
    """Refuse option values that cannot be.

    Raises:
        UserError: naming the option.
    """
    check_mode(options.infer.side_views)
    least_one = {
        "num_frames": options.data.num_frames,
        "output_size": options.data.output_size,
        "interpolate_rate": options.infer.interpolate_rate,
        "interp_batch": options.infer.interp_batch,
    }
    for name, value in least_one.items():
        if value < 1:
            raise UserError(f"--{name} is {value} and must be at least 1")
    if not (math.isfinite(options.infer.target_fps) and options.infer.target_fps > 0):
        raise UserError(f"--target_fps is {options.infer.target_fps} and must be a positive number")
