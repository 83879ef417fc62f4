"""A video of the fit as it stands, renewed while it runs."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from time import perf_counter

import torch
from einops import rearrange
from torch import Tensor

from core.cameras import orbit_cameras
from core.media import write_video
from core.options import CameraOptions
from core.rendering.orbit import render_in_parts
from core.tracking.fit import Fit

SIZE = 192  # pixels a side
AZIMUTHS = (0.0, 90.0)
SHARE = 0.04  # of the time of the fit
FIRST = 15.0  # seconds of the fit before the first one
MOST_FRAMES = 48


class Preview:
    """The video's first frames from the front and from the side, in a file that is whole at all times.

    Args:
        path: of the file.
        rate: frames a second.
        camera: the orbit.
    """

    def __init__(self, path: Path, rate: Fraction, camera: CameraOptions) -> None:
        self.path, self.rate, self.camera = path, rate, camera
        self._next = perf_counter() + FIRST

    def __call__(self, fit: Fit) -> None:
        """Renew the file, unless that would take more than `SHARE` of the time."""
        start = perf_counter()
        if start < self._next:
            return
        images = self._render(fit)
        with write_video(self.path, self.rate, (SIZE, len(AZIMUTHS) * SIZE)) as video:
            for image in images:
                video.write(image)
        end = perf_counter()
        self._next = end + (end - start) * (1 - SHARE) / SHARE

    @torch.no_grad()
    def _render(self, fit: Fit) -> Tensor:
        """``[T, 3, SIZE, 2 * SIZE]``."""
        frames = fit.frames(MOST_FRAMES)
        orbit = {"radius": self.camera.cam_radius, "fovy": self.camera.fovy, "size": (SIZE, SIZE)}
        cameras = orbit_cameras(torch.tensor(AZIMUTHS), **orbit).expand(len(frames.means), len(AZIMUTHS))
        images = render_in_parts(fit.renderer, frames, cameras.to(frames.means.device))[0]
        return rearrange(images, "t v c h w -> t c h (v w)")
