"""Deformation by nodes: sparse control points that turn and shift, and carry what is near them.

As in embedded deformation (Sumner et al. 2007): a point goes where the nodes around it would carry it, blended by
distance (linear-blend skinning). A node has a rotation vector and a shift at every frame of the video.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.gaussians import Gaussians
from core.rotations import quaternion_product
from core.tracking.deformation import Anchors, blend_weights, far_apart, neighbours, quaternion_of, rotation_matrix

SKIN = 4  # nodes that carry a Gaussian
SOLID = 0.3  # nodes stand where Gaussians are more opaque than this, not on floating haze
TURN_RATE, SHIFT_RATE = 1e-2, 5e-3  # radians and world units, of Adam


class NodeField(nn.Module):
    """Control points and their motion.

    Args:
        points: Gaussians that are carried ``[N, 3]``.
        rest: the nodes ``[K, 3]``.
        num_frames: of the video.
    """

    def __init__(self, points: Tensor, rest: Tensor, num_frames: int) -> None:
        super().__init__()
        self.turns = nn.Parameter(rest.new_zeros(num_frames, *rest.shape))
        self.shifts = nn.Parameter(rest.new_zeros(num_frames, *rest.shape))
        self.register_buffer("poses", rest.new_zeros(num_frames, 6))  # turn and shift of the whole object, of the fit
        parts = {"rest": rest.clone(), "ring": neighbours(rest), "weights": skin_weights(points, rest)}
        for name, tensor in parts.items():  # they follow from the points, and the weights are large
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, canonical: Gaussians, frames: Tensor) -> Gaussians:
        """See `core.tracking.deformation.DeformationField`."""
        return self.carried(canonical, self.turns[frames], self.shifts[frames])

    def carried(self, canonical: Gaussians, turns: Tensor, shifts: Tensor) -> Gaussians:
        """The set ``[N]`` after each node has turned and shifted, both ``[B, K, 3]``: leading axes ``[B]``."""
        quats = quaternion_of(turns)
        matrices = rotation_matrix(quats)
        offsets = self.rest + shifts - torch.einsum("bkij,kj->bki", matrices, self.rest)
        motion = torch.cat([matrices.flatten(2), offsets, quats], dim=-1)
        # A dense product: gathering four nodes a Gaussian has a backward pass that adds up one by one.
        count, (batch, nodes, channels) = len(self.weights), motion.shape
        blended = (self.weights @ motion.transpose(0, 1).reshape(nodes, -1)).reshape(count, batch, channels)
        matrices, offsets, quats = blended.transpose(0, 1).split([9, 3, 4], dim=-1)
        means = (matrices.unflatten(-1, (3, 3)) * canonical.means[:, None]).sum(-1) + offsets
        turned = quaternion_product(F.normalize(quats, dim=-1), canonical.quats)
        constant = (canonical.opacities, canonical.scales, canonical.colors)
        opacities, scales, colors = (field.expand(batch, *field.shape) for field in constant)
        return Gaussians(means, opacities, scales, turned, colors)

    def anchors(self, canonical: Gaussians, frames: Tensor) -> Anchors:
        """The nodes themselves."""
        return self.anchors_at(self.turns[frames], self.shifts[frames])

    def anchors_at(self, turns: Tensor, shifts: Tensor) -> Anchors:
        """The nodes after turns and shifts ``[B, K, 3]``."""
        return Anchors(self.rest, self.ring, self.rest + shifts, quaternion_of(turns))

    def parameter_groups(self) -> list[dict[str, object]]:
        """Turns and shifts with their rates, for Adam."""
        return [{"params": [self.turns], "lr": TURN_RATE}, {"params": [self.shifts], "lr": SHIFT_RATE}]

    def smoothness(self) -> Tensor:
        """Nothing beside the measures of all fields."""
        return self.shifts.new_zeros(())


def field_of(start: Gaussians, num_frames: int, nodes: int) -> NodeField:
    """Nodes spread over the solid part of a set (no leading axes)."""
    solid = start.means[start.opacities > SOLID]
    solid = solid if len(solid) >= nodes else start.means
    return NodeField(start.means, solid[far_apart(solid, nodes)], num_frames)


def skin_weights(points: Tensor, rest: Tensor) -> Tensor:
    """How much each node ``[K, 3]`` carries each point ``[N, 3]``: ``[N, K]``, rows sum to one, four of them not 0."""
    near, weights = blend_weights(points, rest, SKIN)
    return torch.zeros(len(points), len(rest), device=points.device).scatter(1, near, weights)
