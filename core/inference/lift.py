"""Four raw views of the first frame become one set of Gaussians, turned so that azimuth 0 shows the frame.

The raw views need not agree in 3D, nor need the first of them match the frame: they are fused into Gaussians, the
azimuth that looks most like the frame is searched, and the set is turned by it. Renders at 0, 90, 180 and 270 degrees
are then consistent side views. (Published: the cameras are turned and the Gaussians thrown away.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from einops import reduce
from torch import Tensor

from core.gaussians import Gaussians
from core.images import resize_area
from core.inference.orbit import OrbitRenderer

SEARCH_AZIMUTHS = range(-180, 180)
SEARCH_SIZE = 128  # pixels; the published search draws 512 and compares at 256


@dataclass(frozen=True)
class Lifted:
    """Frame 0 in 3D.

    Attributes:
        gaussians: one set; azimuth 0 looks like the frame.
        azimuth: degrees by which the camera had to go round the raw set to see the frame.
        error: mean squared error to the frame there.
        views: renders ``[4, 3, S, S]`` at azimuth 0, 90, 180, 270.
    """

    gaussians: Gaussians
    azimuth: int
    error: float
    views: Tensor


def lift(
    raw_views: Tensor, frame: Tensor, reconstruct: Callable[[Tensor, Tensor], Gaussians], orbit: OrbitRenderer
) -> Lifted:
    """Fuse four raw views and align them with the frame.

    Args:
        raw_views: ``[4, 3, S, S]`` in [0, 1] at about 0, 90, 180, 270 degrees from an unknown first azimuth.
        frame: the first frame ``[3, H, H]``.
        reconstruct: view 0 ``[1, 3, S, S]`` and views 1..3 ``[3, 3, S, S]`` to Gaussians ``[1]``.
        orbit: renders the result.
    """
    raw = reconstruct(raw_views[:1], raw_views[1:])
    azimuth, error = find_azimuth(raw, frame, orbit)
    aligned = turn(raw, -azimuth)
    return Lifted(aligned[0], azimuth, error, orbit(aligned)[0])


def find_azimuth(
    gaussians: Gaussians, frame: Tensor, orbit: OrbitRenderer, size: int = SEARCH_SIZE
) -> tuple[int, float]:
    """The azimuth whose render is nearest to the frame, in whole degrees from -180 to 179; the first of equals wins.

    All candidates are drawn in one call and compared over the whole image, background included.

    Args:
        gaussians: one set with leading axes ``[1]``.
        frame: ``[3, H, H]`` in [0, 1].
        orbit: renders.
        size: side in pixels at which images are compared.

    Returns:
        azimuth in degrees and the mean squared error there.
    """
    images = orbit(gaussians, SEARCH_AZIMUTHS, size=size)[0]
    target = resize_area(frame, (size, size)).to(images)
    errors = reduce((images - target) ** 2, "v c h w -> v", "mean")
    best = int(errors.argmin())
    return SEARCH_AZIMUTHS[best], float(errors[best])


def turn(gaussians: Gaussians, degrees: float) -> Gaussians:
    """Turn sets about the world's y axis: what was seen from azimuth a is then seen from a + ``degrees``."""
    half = torch.deg2rad(torch.tensor(degrees / 2, dtype=torch.float64))
    cos, sin = float(torch.cos(2 * half)), float(torch.sin(2 * half))
    x, y, z = gaussians.means.unbind(-1)
    means = torch.stack([cos * x + sin * z, y, cos * z - sin * x], dim=-1)
    # The quaternion of the turn is (c, 0, s, 0); its product with (w, x, y, z):
    c, s = float(torch.cos(half)), float(torch.sin(half))
    w, x, y, z = gaussians.quats.unbind(-1)
    quats = torch.stack([c * w - s * y, c * x + s * z, c * y + s * w, c * z - s * x], dim=-1)
    return replace(gaussians, means=means, quats=quats)
