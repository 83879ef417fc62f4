"""A batch of samples of the motion network, and what may be done to it without making it less true."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from core.gaussians import Gaussians
from core.rotations import quaternion_product
from core.tracking.deformation import quaternion_of, rotation_matrix
from core.tracking.pose import Pose


@dataclass(frozen=True)
class Samples:
    """A batch.

    Attributes:
        sets: first frames ``[B]``.
        centres: of these ``[B, 3]``.
        frames: of the videos, cut to the window ``[B, 3, 80, 80]``.
        shares: of the windows ``[B]``.
        start: poses that the network is to improve ``[B, 3]``.
        before, after: points of the surface in the first and in this frame ``[B, P, 3]``.
    """

    sets: Gaussians
    centres: Tensor
    frames: Tensor
    shares: Tensor
    start: Pose
    before: Tensor
    after: Tensor


def recoloured(samples: Samples, draw: np.random.Generator) -> Samples:
    """Channels change places in half of the samples, and what is not white is lightened or darkened by channel."""
    count = len(samples.shares)
    order = np.stack([draw.permutation(3) if draw.random() < 0.5 else np.arange(3) for _ in range(count)])
    order, gains = torch.from_numpy(order), torch.from_numpy(draw.uniform(0.6, 1.4, (count, 3))).float()
    frames = torch.take_along_dim(samples.frames, order[:, :, None, None], 1)
    colors = torch.take_along_dim(samples.sets.colors, order[:, None], 2)
    frames = (1 - (1 - frames) * gains[:, :, None, None]).clamp(0, 1)
    colors = (1 - (1 - colors) * gains[:, None]).clamp(0, 1)
    return replace(samples, frames=frames, sets=replace(samples.sets, colors=colors))


def rolled(samples: Samples, draw: np.random.Generator) -> Samples:
    """Camera and world turned about the optical axis, in 60 % of the samples, normally by 26 degrees."""
    count = len(samples.shares)
    angles = torch.from_numpy(0.45 * draw.normal(size=count) * (draw.random(count) < 0.6)).float()
    cos, sin, zero = angles.cos(), angles.sin(), torch.zeros(count)
    affine = torch.stack([torch.stack([cos, -sin, zero], -1), torch.stack([sin, cos, zero], -1)], 1)
    grid = F.affine_grid(affine, list(samples.frames.shape), align_corners=False)
    about = torch.stack([zero, zero, angles], -1)
    quat = quaternion_of(about)
    matrix = rotation_matrix(quat)
    sets = replace(
        samples.sets,
        means=samples.sets.means @ matrix.mT,
        quats=quaternion_product(quat[:, None], samples.sets.quats),
    )
    # In the rolled world a turn R is Z R Z^-1: its vector rolls along.
    start = Pose(*((matrix @ part[..., None])[..., 0] for part in samples.start))
    return replace(
        samples,
        sets=sets,
        centres=(matrix @ samples.centres[..., None])[..., 0],
        frames=1 - F.grid_sample(1 - samples.frames, grid, align_corners=False),
        start=start,
        before=samples.before @ matrix.mT,
        after=samples.after @ matrix.mT,
    )
