"""Options of the cameras and the renderer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from core.errors import UserError
from core.options.checks import within


@dataclass(frozen=True)
class CameraOptions:
    """The orbit of all cameras, and what draws."""

    renderer: Literal["auto", "numba", "gsplat", "diff-gaussian"] = "auto"
    """auto: gsplat on a GPU that has it, otherwise numba, on the CPU."""
    fovy: float = 49.1
    """Vertical field of view in degrees."""
    cam_radius: float = 1.5
    """Distance of the cameras from the origin."""
    znear: float = 0.05
    """Near plane. Published: 0.5, which cuts off corners of the cube."""
    zfar: float = 10.0
    """Far plane. Published: 2.5, likewise."""

    def __post_init__(self) -> None:
        within(self, 1, 170, "fovy")
        within(self, 1e-3, 1e3, "cam_radius")
        within(self, 1e-6, 1e6, "znear", "zfar")
        if self.znear >= self.zfar:
            raise UserError(f"--znear is {self.znear} and must be smaller than --zfar, which is {self.zfar}")
