"""Options of the cameras and the renderer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from core.errors import UserError


@dataclass(frozen=True)
class CameraOptions:
    """The orbit all cameras live on."""

    fovy: float = 49.1
    """Vertical field of view in degrees."""
    cam_radius: float = 1.5
    """Distance of the orbit cameras from the origin."""
    znear: float = 0.05
    """Near plane of the renderer. Published: 0.5, which cuts the corners of the cube off."""
    zfar: float = 10.0
    """Far plane of the renderer. Published: 2.5, likewise."""
    renderer: Literal["auto", "numba", "gsplat", "diff-gaussian"] = "auto"
    """Rasteriser; auto takes gsplat on CUDA and numba otherwise."""
    rasterize_mode: Literal["classic", "antialiased"] = "classic"
    """classic: every Gaussian grows by 0.3 px^2, as published; antialiased: by 0.1 px^2 and fades as much, so that
    results look alike at all image sizes."""

    def __post_init__(self) -> None:
        if not 0 < self.fovy < 180:
            raise UserError(f"--fovy is {self.fovy} and must lie between 0 and 180 degrees")
        if not 0 < self.znear < self.zfar:
            raise UserError(f"--znear {self.znear} and --zfar {self.zfar} must be positive and in this order")
        if not self.cam_radius > 0:
            raise UserError(f"--cam_radius is {self.cam_radius} and must be positive")
