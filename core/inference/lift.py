"""Four raw views of the first frame become one set of Gaussians, turned so that azimuth 0 shows the frame.

The raw views need not agree in 3D, nor need the first of them match the frame: they are fused into Gaussians, the
azimuth that looks most like the frame is searched, and the set is turned by it. Renders at 0, 90, 180 and 270 degrees
are then consistent side views. (Published: the cameras are turned and the Gaussians thrown away.)
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from core.gaussians import Gaussians
from core.inference.align import Pose, aligned, find_pose
from core.rendering.orbit import OrbitRenderer


@dataclass(frozen=True)
class Lifted:
    """Frame 0 in 3D.

    Attributes:
        gaussians: one set; azimuth 0 looks like the frame.
        pose: from which the raw set looks like the frame.
        error: mean squared error to the frame there.
        views: renders ``[4, 3, S, S]`` at azimuth 0, 90, 180, 270.
    """

    gaussians: Gaussians
    pose: Pose
    error: float
    views: Tensor


def lift(
    raw: Gaussians, frame: Tensor, orbit: OrbitRenderer, *, elevation: bool = False, scale: bool = False
) -> Lifted:
    """Align raw Gaussians with the frame.

    Args:
        raw: one set ``[1]``, fused from four raw views at 0, 90, 180, 270 degrees from an unknown first azimuth.
        frame: the first frame ``[3, H, H]``.
        orbit: renders the result.
        elevation, scale: search these as well as the azimuth.
    """
    found = find_pose(raw, frame, orbit, elevation=elevation, scale=scale)
    gaussians = aligned(raw, found.pose)
    return Lifted(gaussians[0], found.pose, found.error, orbit(gaussians)[0])
