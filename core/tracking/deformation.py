"""What every deformation field offers, the choice of one by name, and the measures of its motion."""

from __future__ import annotations

from importlib import import_module
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from core.gaussians import Gaussians
from core.options.refine import Deformation
from core.rotations import quaternion_product

RING = 6  # neighbours of an anchor


class Anchors(NamedTuple):
    """Points that stand for the object's motion.

    Attributes:
        rest: canonical places ``[K, 3]``.
        ring: indices of the neighbours of each ``[K, R]``.
        moved: places ``[B, K, 3]`` at B frames.
        turns: rotations there ``[B, K, 4]``, unit quaternions.
    """

    rest: Tensor
    ring: Tensor
    moved: Tensor
    turns: Tensor


class DeformationField(Protocol):
    """Moves a canonical set to the frames of a video. A `torch.nn.Module` whose parameters the fit changes."""

    def __call__(self, canonical: Gaussians, frames: Tensor) -> Gaussians:
        """The set ``[N]`` at the frame numbers ``[B]`` (int64): leading axes ``[B]``."""
        ...

    def anchors(self, canonical: Gaussians, frames: Tensor) -> Anchors:
        """Points whose motion is regularised, at B frames."""
        ...

    def parameter_groups(self) -> list[dict[str, object]]:
        """Parameters with their rates, for Adam."""
        ...

    def smoothness(self) -> Tensor:
        """What the field itself wants small, weighted; a scalar."""
        ...


def make_field(name: Deformation, start: Gaussians, num_frames: int, nodes: int) -> DeformationField:
    """The field of a name, which moves nothing yet.

    Args:
        name: a file of this room with a function ``field_of``.
        start: the canonical set, no leading axes.
        num_frames: of the video.
        nodes: anchors.
    """
    return import_module(f"core.tracking.{name}").field_of(start, num_frames, nodes)


def far_apart(points: Tensor, count: int) -> Tensor:
    """Indices of ``count`` of the points ``[N, 3]``, each the farthest from those before (fewer if N is less)."""
    chosen, distance = [0], (points - points[0]).norm(dim=-1)
    for _ in range(min(count, len(points)) - 1):
        chosen.append(int(distance.argmax()))
        distance = torch.minimum(distance, (points - points[chosen[-1]]).norm(dim=-1))
    return torch.tensor(chosen, device=points.device)


def neighbours(points: Tensor, count: int = RING) -> Tensor:
    """The nearest other points of each ``[K, 3]``: ``[K, count]``, fewer if there are not as many."""
    count = min(count, len(points) - 1)
    return torch.cdist(points, points).topk(count + 1, largest=False).indices[:, 1:]


def blend_weights(points: Tensor, rest: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The nearest of the places ``[K, 3]`` to each point ``[N, 3]`` and how much each carries it.

    Returns:
        indices ``[N, count]``, fewer if K is less, and weights of that shape, which fall with distance; rows sum to 1.
    """
    distances, near = torch.cdist(points, rest).topk(min(count, len(rest)), largest=False)
    weights = (-2 * (distances / distances[:, -1:].clamp_min(1e-3)).square()).exp()
    return near, weights / weights.sum(-1, keepdim=True)


def quaternion_of(turns: Tensor) -> Tensor:
    """Rotation vectors (axis times angle ``[..., 3]``) as unit quaternions ``[..., 4]``; smooth at zero."""
    angle = (turns.square().sum(-1, keepdim=True) + 1e-12).sqrt()
    return torch.cat([(angle / 2).cos(), turns * ((angle / 2).sin() / angle)], dim=-1)


def rotation_matrix(quats: Tensor) -> Tensor:
    """Unit quaternions ``[..., 4]`` as matrices ``[..., 3, 3]``."""
    w, x, y, z = quats.unbind(-1)
    rows = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def inverse_rotation(quats: Tensor) -> Tensor:
    """The inverse of unit quaternions ``[..., 4]``."""
    return quats * quats.new_tensor([1.0, -1.0, -1.0, -1.0])


def relative_rotation(before: Tensor, after: Tensor) -> Tensor:
    """Unit quaternions that turn the unit quaternions ``before`` into ``after``."""
    return quaternion_product(after, inverse_rotation(before))


def arap_term(anchors: Anchors) -> Tensor:
    """As-rigid-as-possible energy (Sorkine and Alexa 2007): mean squared distance, in mean lengths of an edge, between
    where neighbours are and where each anchor's turn would carry them."""
    edges = anchors.rest[anchors.ring] - anchors.rest[:, None]
    turned = torch.einsum("bkij,krj->bkri", rotation_matrix(anchors.turns), edges)
    moved = anchors.moved[:, anchors.ring] - anchors.moved[:, :, None]
    return (moved - turned).square().sum(-1).mean() / edges.square().sum(-1).mean()


def velocity_term(anchors: Anchors) -> Tensor:
    """Mean squared change of velocity between successive frames, in mean lengths of an edge; 0 below three frames."""
    if len(anchors.moved) < 3:
        return anchors.moved.sum() * 0
    edges = anchors.rest[anchors.ring] - anchors.rest[:, None]
    change = anchors.moved[2:] - 2 * anchors.moved[1:-1] + anchors.moved[:-2]
    return change.square().sum(-1).mean() / edges.square().sum(-1).mean()
