"""What a tracked object carries: vertices of its mesh, points whose path is measured."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from core.gaussians import Gaussians
from core.rotations import rotation_matrices
from core.tracking.deformation import blend_weights, relative_rotation

NEAR = 12  # Gaussians that carry a point
SOLID = 0.3  # they are more opaque than this: floating haze carries nothing
_AT_ONCE = 2048


@torch.no_grad()
def carried(points: Tensor, gaussians: Gaussians) -> Tensor:
    """Where points that belong to frame 0 are at all frames.

    Each goes where the solid Gaussians nearest to it would carry it, blended by distance (linear-blend skinning).

    Args:
        points: ``[P, 3]``, world units.
        gaussians: tracked, leading axes ``[T]``.

    Returns:
        ``[T, P, 3]``; frame 0 holds the points as they were given.
    """
    solid = gaussians.opacities[0] > SOLID
    solid = solid if solid.any() else torch.ones_like(solid)
    means, quats = gaussians.means[:, solid], F.normalize(gaussians.quats[:, solid], dim=-1)
    matrices = rotation_matrices(relative_rotation(quats[:1], quats))
    parts = []
    for part in points.split(_AT_ONCE):
        near, weights = blend_weights(part, means[0], NEAR)
        from_centres = part[:, None] - means[0, near]
        moved = means[:, near] + torch.einsum("tpkij,pkj->tpki", matrices[:, near], from_centres)
        parts.append(torch.einsum("pk,tpki->tpi", weights, moved))
    return torch.cat([points[None], torch.cat(parts, dim=1)[1:]])
