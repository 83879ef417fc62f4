"""Options of the cameras and the renderer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from core.conventions import FAR, FOVY, NEAR, ORBIT_RADIUS
from core.errors import UserError
from core.options.checks import within

RendererName = Literal["auto", "numba", "gsplat", "diff-gaussian"]
"""The registry of renderers; `core.rendering` finds the file of each by its name."""


@dataclass(frozen=True)
class CameraOptions:
    """The camera orbit and the renderer."""

    renderer: RendererName = "auto"
    """auto: gsplat on a GPU that has it, otherwise numba, on the CPU."""
    fovy: float = FOVY
    """Vertical field of view in degrees."""
    cam_radius: float = ORBIT_RADIUS
    """Distance of the cameras from the origin."""
    znear: float = NEAR
    """Near plane; published: 0.5."""
    zfar: float = FAR
    """Far plane; published: 2.5."""
    rasterize_mode: Literal["classic", "antialiased"] = "classic"
    """classic: Gaussians grow by 0.3 px^2, as published; antialiased: by 0.1 px^2 and fade as much."""

    def __post_init__(self) -> None:
        within(self, 1, 170, "fovy")
        within(self, 1e-3, 1e3, "cam_radius")
        within(self, 1e-6, 1e6, "znear", "zfar")
        if self.znear >= self.zfar:
            raise UserError(f"--znear is {self.znear} and must be smaller than --zfar, which is {self.zfar}")
