"""Sets of Gaussians turned, tilted, scaled and mirrored as wholes."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from core.gaussians import Gaussians


def turn(gaussians: Gaussians, degrees: float) -> Gaussians:
    """Turn sets about the world's y axis: what was seen from azimuth a is then seen from a + ``degrees``."""
    return _rotated(gaussians, 1, degrees)


def tilt(gaussians: Gaussians, degrees: float) -> Gaussians:
    """Turn sets about the world's x axis: from azimuth 0, what was seen from elevation e is then seen from
    e - ``degrees``."""
    return _rotated(gaussians, 0, degrees)


def scaled(gaussians: Gaussians, factor: float) -> Gaussians:
    """Sets made larger about the origin."""
    if factor == 1:
        return gaussians
    return replace(gaussians, means=factor * gaussians.means, scales=factor * gaussians.scales)


def mirrored(gaussians: Gaussians) -> Gaussians:
    """Sets with left and right exchanged: x becomes -x."""
    flip = gaussians.means.new_tensor([-1.0, 1.0, 1.0])
    # A reflection keeps the turning axis across it and the angle about it: (w, x, -y, -z).
    quats = gaussians.quats * gaussians.quats.new_tensor([1.0, 1.0, -1.0, -1.0])
    return replace(gaussians, means=gaussians.means * flip, quats=quats)


def _rotated(gaussians: Gaussians, axis: int, degrees: float) -> Gaussians:
    """Rotate by the right hand about axis 0 (x) or 1 (y)."""
    angle = math.radians(degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    x, y, z = gaussians.means.unbind(-1)
    means = [cos * x + sin * z, y, cos * z - sin * x] if axis else [x, cos * y - sin * z, sin * y + cos * z]
    # The quaternion of the turn is c in place 0 and s in that of the axis; its product with (w, x, y, z):
    c, s = math.cos(angle / 2), math.sin(angle / 2)
    w, x, y, z = gaussians.quats.unbind(-1)
    if axis:
        quats = [c * w - s * y, c * x + s * z, c * y + s * w, c * z - s * x]
    else:
        quats = [c * w - s * x, c * x + s * w, c * y - s * z, c * z + s * y]
    return replace(gaussians, means=torch.stack(means, dim=-1), quats=torch.stack(quats, dim=-1))
