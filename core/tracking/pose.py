"""The pose of the whole object in a frame: one turn and one shift, found before its parts move.

One camera leaves the depth of freely moving nodes open: they stretch where the object comes nearer or turns. Six
numbers for all of it are determined better. What the poses leave is for the nodes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from core.gaussians import Gaussians
from core.rotations import quaternion_product
from core.tracking.deformation import inverse_rotation, quaternion_of, rotation_matrix

TURN_RATE, SHIFT_RATE = 3e-2, 1.5e-2  # radians and world units, of Adam
SLOWEST = 0.1  # the rate of the last step, as a share of the first
SHIFT_SCALE = 0.5  # world units that are as far as a turn by one radian


class Pose(NamedTuple):
    """A turn about the object's centre, then a shift.

    Attributes:
        turn: rotation vector ``[..., 3]``, radians.
        shift: ``[..., 3]``, world units.
    """

    turn: Tensor
    shift: Tensor

    def applied_to(self, points: Tensor, centre: Tensor) -> Tensor:
        """Points ``[..., P, 3]`` after the pose about ``centre`` ``[..., 3]``."""
        turned = (points - centre[..., None, :]) @ rotation_matrix(quaternion_of(self.turn)).mT
        return turned + (centre + self.shift)[..., None, :]

    def away_from(self, other: Pose) -> Tensor:
        """Squared difference of two poses ``[3]``; turns do not wrap."""
        return (self.turn - other.turn).square().sum() + ((self.shift - other.shift) / SHIFT_SCALE).square().sum()


def still(like: Tensor) -> Pose:
    """No motion."""
    return Pose(like.new_zeros(3), like.new_zeros(3))


def centre_of(gaussians: Gaussians) -> Tensor:
    """The mean ``[3]`` of a set's centres, weighted by opacity; the origin for an empty set."""
    weights = gaussians.opacities[..., None]
    return (weights * gaussians.means).sum(-2) / weights.sum(-2).clamp_min(1e-9)


def posed(gaussians: Gaussians, pose: Pose, centre: Tensor) -> Gaussians:
    """Gaussians after a pose about ``centre``; leading axes are those of the pose."""
    quats = quaternion_product(quaternion_of(pose.turn)[..., None, :], gaussians.quats)
    return replace(gaussians, means=pose.applied_to(gaussians.means, centre), quats=quats)


def find_pose(loss: Callable[[Pose], Tensor], starts: Sequence[Pose], steps: int) -> Pose:
    """The pose of the smallest loss on descents of ``steps`` > 0 from several starts, themselves included."""
    best, least = starts[0], math.inf
    for start in starts:
        pose = Pose(*(part.clone().requires_grad_() for part in start))
        groups = [{"params": [pose.turn], "lr": TURN_RATE}, {"params": [pose.shift], "lr": SHIFT_RATE}]
        optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99), eps=1e-15)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, SLOWEST ** (1 / steps))
        for step in range(steps + 1):
            value = loss(pose)
            if (now := float(value.detach())) < least:
                best, least = Pose(*(part.detach().clone() for part in pose)), now
            if step < steps:
                optimizer.zero_grad()
                value.backward()
                optimizer.step()
                schedule.step()
    return best


def follow_pose(places: Tensor, turns: Tensor, before: Pose, after: Pose, centre: Tensor) -> tuple[Tensor, Tensor]:
    """What moved with the object in one pose, in another pose.

    Args:
        places: ``[K, 3]`` when the object was in the pose ``before``.
        turns: rotation vectors ``[K, 3]`` there.
        before, after: poses about ``centre``.

    Returns:
        places and turns in the pose ``after``.
    """
    first, second = quaternion_of(before.turn), quaternion_of(after.turn)
    change = quaternion_product(second, inverse_rotation(first))
    places = (places - centre - before.shift) @ rotation_matrix(change).mT + centre + after.shift
    return places, rotation_vector(quaternion_product(change, quaternion_of(turns)))


def rotation_vector(quats: Tensor) -> Tensor:
    """Unit quaternions ``[..., 4]`` as rotation vectors of at most half a turn, the inverse of `quaternion_of`."""
    quats = torch.where(quats[..., :1] < 0, -quats, F.normalize(quats, dim=-1))
    sine = quats[..., 1:].norm(dim=-1, keepdim=True)
    return quats[..., 1:] * 2 * torch.atan2(sine, quats[..., :1]) / sine.clamp_min(1e-9)
