"""Renders of many frames and views with bounded memory, and from orbit cameras."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from core.cameras import Cameras, orbit_cameras
from core.conventions import INPUT_AZIMUTHS
from core.gaussians import Gaussians
from core.options import CameraOptions
from core.rendering import Renderer, configured_renderer

# Of one render call; bounds the memory for any number of frames and views.
_PIXELS_AT_ONCE = 1 << 24


@torch.inference_mode()
def render_in_parts(
    renderer: Renderer, gaussians: Gaussians, cameras: Cameras, background: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Render T frames, each from its own V cameras, in calls of bounded memory.

    Args:
        gaussians: leading axes ``[T]``.
        cameras: leading axes ``[T, V]``.
        background: RGB ``[3]``; None: white.

    Returns:
        RGB ``[T, V, 3, H, W]`` and alpha ``[T, V, 1, H, W]``, both clamped to [0, 1], on the renderer's device.
    """
    if not renderer.on_gpu:
        gaussians = gaussians.to("cpu")
    cameras = cameras.to(gaussians.means.device)
    at_once = max(1, _PIXELS_AT_ONCE // math.prod(cameras.size))
    across = min(at_once, cameras.shape[1])
    down, rows = at_once // across, []
    for t in range(0, cameras.shape[0], down):
        views = (cameras[t : t + down, v : v + across] for v in range(0, cameras.shape[1], across))
        outputs = [renderer(gaussians[t : t + down], part, background) for part in views]
        rows.append([torch.cat(part, dim=1) for part in zip(*((x.image, x.alpha) for x in outputs), strict=True)])
    image, alpha = (torch.cat(part).clamp(0, 1) for part in zip(*rows, strict=True))
    return image, alpha


class OrbitRenderer:
    """Draws frames on white from cameras around the object, at elevation 0 unless given.

    Args:
        options: orbit radius, field of view, clipping planes and the backend's name.
        size: side of the square images in pixels.
        device: where the Gaussians will be.

    Attributes:
        name: the backend.
    """

    def __init__(self, options: CameraOptions, size: int, device: torch.device | None = None) -> None:
        self.options = options
        self.size = size
        self.renderer = configured_renderer(options, device)
        self.name = self.renderer.name

    def __call__(
        self,
        gaussians: Gaussians,
        azimuths: Sequence[float] = INPUT_AZIMUTHS,
        *,
        elevations: Sequence[float] | None = None,
        size: int | None = None,
    ) -> Tensor:
        """Render every frame from every azimuth.

        Args:
            gaussians: T frames, leading axes ``[T]``.
            azimuths: V angles in degrees.
            elevations: V angles in degrees, positive above the horizon; None: all 0.
            size: side of the images, if not the usual one.

        Returns:
            RGB in [0, 1] ``[T, V, 3, S, S]`` on the device of the renderer.
        """
        size = size or self.size
        azimuths = torch.as_tensor(azimuths, dtype=torch.float32)
        cameras = orbit_cameras(
            azimuths,
            torch.zeros_like(azimuths) if elevations is None else torch.as_tensor(elevations, dtype=torch.float32),
            radius=self.options.cam_radius,
            fovy=self.options.fovy,
            size=(size, size),
        )
        return render_in_parts(self.renderer, gaussians, cameras.expand(*gaussians.shape, len(azimuths)))[0]
