"""Renders of Gaussian sets from cameras around the object."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from core.cameras import INPUT_AZIMUTHS, orbit_cameras
from core.gaussians import Gaussians
from core.options import CameraOptions

from . import make_renderer

# Images of one render call; bounds the memory whatever the number of sets and views.
_PIXELS_AT_ONCE = 1 << 24


class OrbitRenderer:
    """Draws sets on white from cameras around the object, level ones unless told otherwise.

    Args:
        options: orbit radius, field of view, clipping planes and the backend's name.
        size: side of the square images in pixels.
        device: where the sets will be.

    Attributes:
        name: the backend that draws.
    """

    def __init__(self, options: CameraOptions, size: int, device: torch.device | None = None) -> None:
        self.options = options
        self.size = size
        self.renderer = make_renderer(
            options.renderer,
            near=options.znear,
            far=options.zfar,
            rasterize_mode=options.rasterize_mode,
            device=device,
        )
        self.name = self.renderer.name

    @torch.inference_mode()
    def __call__(
        self,
        gaussians: Gaussians,
        azimuths: Sequence[float] = INPUT_AZIMUTHS,
        *,
        elevations: Sequence[float] | None = None,
        size: int | None = None,
    ) -> Tensor:
        """Render every set from every azimuth.

        Args:
            gaussians: T sets, leading axes ``[T]``.
            azimuths: V angles in degrees.
            elevations: V angles in degrees, positive above the horizon; None: all 0.
            size: side of the images, if not the usual one.

        Returns:
            RGB in [0, 1] ``[T, V, 3, S, S]`` on the device of the renderer.
        """
        size = size or self.size
        if self.name == "numba":
            gaussians = gaussians.to("cpu")
        at_once = max(1, _PIXELS_AT_ONCE // size**2)
        starts = range(0, len(azimuths), at_once)
        angles = torch.tensor([azimuths, elevations or [0.0] * len(azimuths)], dtype=torch.float32)
        return torch.cat([self._draw(gaussians, angles[:, i : i + at_once], size, at_once) for i in starts], dim=1)

    def _draw(self, gaussians: Gaussians, angles: Tensor, size: int, at_once: int) -> Tensor:
        cameras = orbit_cameras(
            *angles,
            radius=self.options.cam_radius,
            fovy=self.options.fovy,
            size=(size, size),
            device=gaussians.means.device,
        )
        step = max(1, at_once // angles.shape[1])
        parts = [gaussians[start : start + step] for start in range(0, gaussians.shape[0], step)]
        images = [self.renderer(part, cameras.expand(*part.shape, angles.shape[1])).image for part in parts]
        return torch.cat(images).clamp(0, 1)
