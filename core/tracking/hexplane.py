"""The published deformation field of DreamGaussian4D: six feature planes over pairs of x, y, z, t and small heads.

Names and shapes of the tensors are those of the published state dict, so that its files load. Its outputs are added to
centres, logarithms of scales and quaternions; its opacity head and its time network are there and not used, as
published. The regularisers that the published configuration lists and its program never calls are `smoothness`.
"""

from __future__ import annotations

from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.gaussians import Gaussians
from core.tracking.deformation import Anchors, far_apart, neighbours, relative_rotation

BOUND, FEATURES, SPACE, TIME, WIDTH = 1.6, 32, 32, 12, 64
PAIRS = tuple(combinations(range(4), 2))  # xy xz xt yz yt zt
PLANE_RATE, NETWORK_RATE = 6.4e-3, 6.4e-4
PLANE_TV, TIME_SMOOTHNESS, PLANE_L1 = 1e-4, 1e-2, 1e-4  # as the published configuration has them
HEADS = {"pos": 3, "scales": 3, "rotations": 4, "opacity": 1}


class _Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.main_stream = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = x.relu()
        return x + self.main_stream(x)


class _Head(nn.Module):
    """Starts at exactly zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.feature_out = nn.Sequential(_Residual(), nn.Linear(WIDTH, width))
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        return self.feature_out(x)


class _Grid(nn.Module):
    def __init__(self, time: int) -> None:
        super().__init__()
        sizes = (SPACE, SPACE, SPACE, time)
        planes = [nn.Parameter(torch.ones(1, FEATURES, sizes[b], sizes[a])) for a, b in PAIRS]
        for plane, pair in zip(planes, PAIRS, strict=True):
            if 3 not in pair:
                nn.init.uniform_(plane, 0.1, 0.5)
        self.grids = nn.ModuleList([nn.ParameterList(planes)])
        self.aabb = nn.Parameter(torch.tensor([[BOUND] * 3, [-BOUND] * 3]), requires_grad=False)

    def forward(self, points: Tensor, time: Tensor) -> Tensor:
        """Features ``[B, N, 32]`` of points ``[N, 3]`` at times ``[B]`` in [-1, 1]."""
        places = 2 * (points - self.aabb[0]) / (self.aabb[1] - self.aabb[0]) - 1
        shape = (len(time), len(points))
        axes = [*(axis.expand(shape) for axis in places.unbind(-1)), time[:, None].expand(shape)]
        product = points.new_ones(())
        for plane, (a, b) in zip(self.grids[0], PAIRS, strict=True):
            at = torch.stack([axes[a], axes[b]], dim=-1)[None]
            read = F.grid_sample(plane, at, mode="bilinear", padding_mode="border", align_corners=True)
            product = product * read[0].permute(1, 2, 0)
        return product


class _Network(nn.Module):
    def __init__(self, time: int) -> None:
        super().__init__()
        self.grid = _Grid(time)
        self.feature_out = nn.Sequential(nn.Linear(FEATURES, WIDTH))
        nn.init.xavier_uniform_(self.feature_out[0].weight)
        for name, width in HEADS.items():
            setattr(self, f"{name}_deform", _Head(width))


class HexPlaneField(nn.Module):
    """The field; it moves nothing at first.

    Args:
        num_frames: T of the video; the time of frame t is 2 t / T - 1.
        time_resolution: of the planes with time: 12, or 22 and 32 in other published configurations.
        anchors: indices ``[K]`` of the Gaussians whose motion is regularised.
        ring: neighbours among these ``[K, R]``.
    """

    def __init__(self, num_frames: int, time_resolution: int = TIME, anchors: Tensor | None = None,
                 ring: Tensor | None = None) -> None:  # fmt: skip
        super().__init__()
        self.num_frames = num_frames
        self.timenet = nn.Sequential(nn.Linear(9, WIDTH), nn.ReLU(), nn.Linear(WIDTH, FEATURES))
        for layer in (self.timenet[0], self.timenet[2]):
            nn.init.xavier_uniform_(layer.weight)
        self.deformation_net = _Network(time_resolution)
        for name, count in {"time": 4, "pos": 10, "rotation_scaling": 2, "opacity": 2}.items():
            self.register_buffer(f"{name}_poc", 2.0 ** torch.arange(count))
        self.register_buffer("anchor_index", anchors, persistent=False)
        self.register_buffer("ring", ring, persistent=False)

    def forward(self, canonical: Gaussians, frames: Tensor) -> Gaussians:
        """See `core.tracking.deformation.DeformationField`; frames may be fractions."""
        shift, growth, turn = self._change(canonical.means, frames)
        constant = (canonical.opacities, canonical.colors)
        opacities, colors = (field.expand(len(frames), *field.shape) for field in constant)
        scales = canonical.scales * growth.exp()
        return Gaussians(canonical.means + shift, opacities, scales, canonical.quats + turn, colors)

    def _change(self, points: Tensor, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        network = self.deformation_net
        features = network.feature_out(network.grid(points, 2 * frames.to(points) / self.num_frames - 1))
        return network.pos_deform(features), network.scales_deform(features), network.rotations_deform(features)

    def anchors(self, canonical: Gaussians, frames: Tensor) -> Anchors:
        """Some of the Gaussians; what turns is their quaternion."""
        rest, quats = canonical.means[self.anchor_index], canonical.quats[self.anchor_index]
        shift, _, turn = self._change(rest, frames)
        turns = relative_rotation(F.normalize(quats, dim=-1), F.normalize(quats + turn, dim=-1))
        return Anchors(rest, self.ring, rest + shift, turns)

    def parameter_groups(self) -> list[dict[str, object]]:
        """Planes and networks with their published rates, for Adam."""
        planes = list(self.deformation_net.grid.grids.parameters())
        known = {id(plane) for plane in planes}
        others = [p for p in self.parameters() if p.requires_grad and id(p) not in known]
        return [{"params": planes, "lr": PLANE_RATE}, {"params": others, "lr": NETWORK_RATE}]

    def smoothness(self) -> Tensor:
        """Total variation of the planes in space, second differences along time, and distance of the planes with time
        from one, each with its published weight."""
        total = self.time_poc.new_zeros(())
        for plane, pair in zip(self.deformation_net.grid.grids[0], PAIRS, strict=True):
            if 3 in pair:  # time lies along the rows
                second = plane[..., 2:, :] - 2 * plane[..., 1:-1, :] + plane[..., :-2, :]
                total = total + TIME_SMOOTHNESS * second.square().mean() + PLANE_L1 * (1 - plane).abs().mean()
            else:
                total = total + PLANE_TV * (plane.diff(dim=-1).square().mean() + plane.diff(dim=-2).square().mean())
        return total


def field_of(start: Gaussians, num_frames: int, nodes: int) -> HexPlaneField:
    """The field for a set (no leading axes), with as many anchors as there would be nodes."""
    chosen = far_apart(start.means, nodes)
    return HexPlaneField(num_frames, anchors=chosen, ring=neighbours(start.means[chosen])).to(start.means)
