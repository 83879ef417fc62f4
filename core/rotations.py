"""Rotate, scale and mirror the Gaussians of a frame; quaternion product, rotation matrices, covariances."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from core.gaussians import Gaussians


def turn(gaussians: Gaussians, degrees: float) -> Gaussians:
    """Turn Gaussians about the world's y axis: what was seen from azimuth a is then seen from a + ``degrees``."""
    return _rotated(gaussians, 1, degrees)


def tilt(gaussians: Gaussians, degrees: float) -> Gaussians:
    """Turn Gaussians about the world's x axis: from azimuth 0, what was seen from elevation e is then seen from
    e - ``degrees``."""
    return _rotated(gaussians, 0, degrees)


def scaled(gaussians: Gaussians, factor: float) -> Gaussians:
    """Scale Gaussians about the origin."""
    if factor == 1:
        return gaussians
    return replace(gaussians, means=factor * gaussians.means, scales=factor * gaussians.scales)


def mirrored(gaussians: Gaussians) -> Gaussians:
    """Mirror Gaussians: x becomes -x."""
    flip = gaussians.means.new_tensor([-1.0, 1.0, 1.0])
    # A reflection in x maps the rotation (w, x, y, z) to (w, x, -y, -z).
    quats = gaussians.quats * gaussians.quats.new_tensor([1.0, 1.0, -1.0, -1.0])
    return replace(gaussians, means=gaussians.means * flip, quats=quats)


def half_turn(gaussians: Gaussians) -> Gaussians:
    """Turn Gaussians by 180 degrees about the world's z axis. Only signs and positions change: no rounding."""
    means = gaussians.means * gaussians.means.new_tensor([-1.0, -1.0, 1.0])
    about_z = gaussians.quats.new_tensor([0.0, 0.0, 0.0, 1.0])
    return replace(gaussians, means=means, quats=quaternion_product(about_z, gaussians.quats))


def quaternion_product(a: Tensor, b: Tensor) -> Tensor:
    """The rotation b, then a: Hamilton product of (w, x, y, z) on the last axis; other axes broadcast."""
    (aw, ax, ay, az), (bw, bx, by, bz) = a.unbind(-1), b.unbind(-1)
    w = aw * bw - ax * bx - ay * by - az * bz
    x = aw * bx + ax * bw + ay * bz - az * by
    y = aw * by - ax * bz + ay * bw + az * bx
    z = aw * bz + ax * by - ay * bx + az * bw
    return torch.stack([w, x, y, z], dim=-1)


def rotation_matrices(quats: Tensor) -> Tensor:
    """Matrices ``[..., 3, 3]`` of quaternions (w, x, y, z) ``[..., 4]``, which need not be normalised."""
    w, x, y, z = F.normalize(quats, dim=-1).unbind(-1)
    entries = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]
    return torch.stack(entries, dim=-1).unflatten(-1, (3, 3))


def covariances(gaussians: Gaussians) -> Tensor:
    """Covariance matrices ``[..., N, 3, 3]``, squared world units: R diag(scales^2) R^T."""
    axes = rotation_matrices(gaussians.quats) * gaussians.scales[..., None, :]
    return axes @ axes.mT


def _rotated(gaussians: Gaussians, axis: int, degrees: float) -> Gaussians:
    """Rotate by the right hand about axis 0 (x) or 1 (y)."""
    angle = math.radians(degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    x, y, z = gaussians.means.unbind(-1)
    means = [cos * x + sin * z, y, cos * z - sin * x] if axis else [x, cos * y - sin * z, sin * y + cos * z]
    turned = gaussians.quats.new_zeros(4)
    turned[0], turned[1 + axis] = math.cos(angle / 2), math.sin(angle / 2)
    quats = quaternion_product(turned, gaussians.quats)
    return replace(gaussians, means=torch.stack(means, dim=-1), quats=quats)
