"""Align Gaussians of the first frame: rotate and scale them until azimuth 0 shows the frame.

The four raw views that the Gaussians were fused from need not be consistent in 3D, nor need the first of them match the
frame. So the azimuth that looks most like the frame is searched and the Gaussians are turned by it: their renders at
0, 90, 180 and 270 degrees are consistent side views. (Published: the cameras are rotated and the Gaussians discarded.)

Poses are compared in one render call: a coarse grid of small images, then the neighbours of the best few at full size.
(Published: 360 single renders of 512 pixels, azimuth only.)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import product

from einops import reduce
from torch import Tensor

from core.gaussians import Gaussians
from core.images import resize_area
from core.rendering.orbit import OrbitRenderer
from core.rotations import scaled, tilt, turn

SEARCH_SIZE = 128  # pixels at which the best are compared
COARSE_SIZE = 64
COARSE_STEP = 6  # degrees of azimuth
KEEP = 3  # poses of the coarse grid that are refined
_STEEPEST = 89  # degrees
_TILTS = (-30, -20, -10, 0, 10, 20, 30)
_SIZES = tuple(1.06**k for k in range(-6, 7))  # 0.70 ... 1.42
_FINE = 1.015  # step of size at the end
_ROUNDS = 12  # descent steps at the end


@dataclass(frozen=True, order=True)
class Pose:
    """The camera's pose relative to the Gaussians.

    Attributes:
        azimuth: degrees, -180 to 179.
        elevation: degrees, positive above the horizon.
        scale: by which the Gaussians must grow to look as large as the frame.
    """

    azimuth: float = 0.0
    elevation: float = 0.0
    scale: float = 1.0


@dataclass(frozen=True)
class PoseMatch:
    """A pose, and the mean squared error between its render and the frame."""

    pose: Pose
    error: float


def find_pose(
    gaussians: Gaussians,
    frame: Tensor,
    orbit: OrbitRenderer,
    *,
    level: float = 0.0,
    elevation: bool = False,
    scale: bool = False,
    size: int = SEARCH_SIZE,
) -> PoseMatch:
    """The pose whose render has the smallest error to the frame, in whole degrees and steps of 1.5 % of size.

    Args:
        gaussians: of one time, leading axes ``[1]``.
        frame: ``[3, H, H]`` in [0, 1].
        orbit: renders.
        level: elevation at which is searched, degrees.
        elevation, scale: search these as well as the azimuth.
        size: side in pixels at which the best are compared.

    Returns:
        The best pose; ties prefer the smallest azimuth.
    """
    search = _Search(gaussians, frame, orbit)
    tilts = [_not_above(level + tilted) for tilted in (_TILTS if elevation else (0,))]
    coarse = [Pose(a, e) for a, e in product(range(-180, 180, COARSE_STEP), tilts)]
    coarse_size = min(COARSE_SIZE, size)
    best = search.best(coarse, coarse_size, KEEP)
    if scale:  # first: a wrong size disturbs the other searches
        best = search.best((replace(pose, scale=s) for pose in best for s in _SIZES), coarse_size, KEEP)
    if elevation:
        around = product((-4, -2, 0, 2, 4), (-6, -3, 0, 3, 6))
        best = search.best((_moved(pose, a, e) for a, e in around for pose in best), coarse_size, KEEP)
    reach = range(1 - COARSE_STEP, COARSE_STEP)
    (best,) = search.best((_moved(pose, a) for pose in best for a in reach), size, 1)
    tilts = (-1, 0, 1) if elevation else (0,)
    sizes = (1 / _FINE, 1.0, _FINE) if scale else (1.0,)
    for _ in range(_ROUNDS if elevation or scale else 0):
        start = best
        (best,) = search.best([_moved(start, *step) for step in product((-1, 0, 1), tilts, sizes)], size, 1)
        if best == start:
            break
    return PoseMatch(best, search.errors([best], size)[best])


class _Search:
    """Errors of poses; those of one call are rendered together."""

    def __init__(self, gaussians: Gaussians, frame: Tensor, orbit: OrbitRenderer) -> None:
        self.gaussians, self.frame, self.orbit = gaussians, frame, orbit

    def errors(self, poses: Iterable[Pose], size: int) -> dict[Pose, float]:
        """Mean squared error of each pose."""
        target = resize_area(self.frame, (size, size))
        errors: dict[Pose, float] = {}
        ordered = sorted(set(poses))
        for scale in sorted({pose.scale for pose in ordered}):
            group = [pose for pose in ordered if pose.scale == scale]
            images = self.orbit(
                scaled(self.gaussians, scale),
                [pose.azimuth for pose in group],
                elevations=[pose.elevation for pose in group],
                size=size,
            )[0]
            values = reduce((images - target.to(images)) ** 2, "v c h w -> v", "mean")
            errors.update(zip(group, values.tolist(), strict=True))
        return errors

    def best(self, poses: Iterable[Pose], size: int, count: int) -> list[Pose]:
        """The ``count`` poses with the smallest error; ties prefer the smallest azimuth."""
        errors = self.errors(poses, size)
        return sorted(errors, key=lambda pose: (errors[pose], pose))[:count]


def _moved(pose: Pose, azimuth: int = 0, elevation: int = 0, scale: float = 1.0) -> Pose:
    turned = (pose.azimuth + azimuth + 180) % 360 - 180
    return Pose(turned, _not_above(pose.elevation + elevation), pose.scale * scale)


def _not_above(elevation: float) -> float:
    """Short of straight above and straight below, where an orbit has no azimuth."""
    return min(max(elevation, -_STEEPEST), _STEEPEST)


def aligned(gaussians: Gaussians, pose: Pose) -> Gaussians:
    """Transform Gaussians so that azimuth and elevation 0 show what the pose showed."""
    return scaled(tilt(turn(gaussians, -pose.azimuth), pose.elevation), pose.scale)


@dataclass(frozen=True)
class Lifted:
    """Frame 0 in 3D.

    Attributes:
        gaussians: of one time, no leading axes; azimuth 0 looks like the frame, from the elevation that was given.
        pose: from which the raw Gaussians look like the frame.
        error: mean squared error to the frame there.
        views: renders ``[4, 3, S, S]`` at azimuth 0, 90, 180, 270, the first like the frame.
    """

    gaussians: Gaussians
    pose: Pose
    error: float
    views: Tensor


def lift(
    raw: Gaussians,
    frame: Tensor,
    orbit: OrbitRenderer,
    *,
    level: float = 0.0,
    elevation: bool = False,
    scale: bool = False,
) -> Lifted:
    """Align raw Gaussians with the frame.

    Args:
        raw: leading axes ``[1]``, fused from four raw views at 0, 90, 180, 270 degrees from an unknown first azimuth.
        frame: the first frame ``[3, H, H]``.
        orbit: renders the result.
        level: elevation in degrees from which the frame is seen. The Gaussians stay upright; infer_4d, which knows no
            elevation, takes the frame's camera for the horizon: in the views they are tilted.
        elevation, scale: search these as well as the azimuth.
    """
    match = find_pose(raw, frame, orbit, level=level, elevation=elevation, scale=scale)
    pose = match.pose
    upright = aligned(raw, replace(pose, elevation=pose.elevation - level))
    return Lifted(upright[0], pose, match.error, orbit(aligned(raw, pose))[0])
