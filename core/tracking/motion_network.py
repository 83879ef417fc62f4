"""How an object has moved since the first frame of a video: a network that compares a frame with a render.

    frame ───────────────────────────────────┐
    first frame's Gaussians, moved so far ───┴─> turn, shift, bend
                  ^──────────────────────────────────┘ repeated from the better pose

One camera hardly tells a turn from a bend: the pose of least image error is often not the pose of the object. The
network has learnt from surfaces whose motion is known. Rendering and comparing by turns is how 6D poses of known
objects are found (DeepIM, Li et al. 2018).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.rotations import quaternion_product
from core.tracking.deformation import quaternion_of
from core.tracking.pose import Pose, rotation_vector

IMAGE_SIZE = 80  # pixels a side of what the network sees
CHANNELS = 8  # frame RGB; render RGB, alpha, depth
LATTICE = 4  # corners a side of the lattice that bends
_WIDTHS, _CODE, _GROUPS = (32, 64, 96, 128), 384, 8
_TURN, _SHIFT, _BEND = 0.5, 0.3, 0.3  # what an output of 1 stands for: radians, and shares of the reach


class Motion(NamedTuple):
    """The motion since the first frame: the object turns about its centre, is shifted, then bends.

    Attributes:
        pose: turn and shift ``[..., 3]``.
        bend: displacements ``[..., 3, L, L, L]`` (z, y, x) at the corners of a cube around the origin, world units.
        reach: half the side of the cube ``[...]``, world units.
    """

    pose: Pose
    bend: Tensor
    reach: Tensor

    def places(self, points: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
        """Points ``[..., P, 3]`` of the first frame after the pose about ``centre`` ``[..., 3]``, and after all."""
        turned = self.pose.applied_to(points, centre)
        return turned, turned + self.displacement(turned)

    def only_pose(self) -> Pose:
        """The pose of a motion with leading axes ``[1]``, without them."""
        return Pose(*(part[0] for part in self.pose))

    def with_pose(self, pose: Pose) -> Motion:
        """A motion with leading axes ``[1]`` in another pose, which has none."""
        return self._replace(pose=Pose(*(part[None] for part in pose)))

    def map(self, change: Callable[[Tensor], Tensor]) -> Motion:
        """The motion with every tensor changed."""
        return Motion(Pose(*map(change, self.pose)), change(self.bend), change(self.reach))

    def displacement(self, points: Tensor) -> Tensor:
        """What the bend adds to points ``[B, P, 3]`` that the pose has moved; beyond the cube as at its border."""
        reach = self.reach[:, None, None]
        grid = (points / reach)[:, None, None]
        bent = F.grid_sample(self.bend, grid, align_corners=True, padding_mode="border")
        return bent[:, :, 0, 0].mT


class VideoMotion(NamedTuple):
    """The motion of a video's object.

    Attributes:
        centre: about which it turns ``[3]``.
        later: since the first frame, at each frame after it, leading axes ``[1]``.
    """

    centre: Tensor
    later: Sequence[Motion]

    def to(self, device: torch.device) -> VideoMotion:
        """The motion on a device."""
        return VideoMotion(self.centre.to(device), [motion.map(lambda x: x.to(device)) for motion in self.later])


class _Block(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1)
        self.norm1 = nn.GroupNorm(_GROUPS, after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1)
        self.norm2 = nn.GroupNorm(_GROUPS, after)
        self.skip = nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        short = self.skip(F.avg_pool2d(x, self.stride) if self.stride > 1 else x)
        return F.silu(self.norm2(self.conv2(F.silu(self.norm1(self.conv1(x))))) + short)


class MotionNetwork(nn.Module):
    """See the module. It starts with no motion at all."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(CHANNELS, _WIDTHS[0], 5, 2, 2)
        steps = zip(_WIDTHS, (*_WIDTHS[1:], _WIDTHS[-1]), (2, 2, 2, 1), strict=True)
        self.blocks = nn.Sequential(*(_Block(before, after, stride) for before, after, stride in steps))
        places = (IMAGE_SIZE // 16) ** 2
        # Flat, not a mean: where something moves is what the code is about.
        self.code = nn.Sequential(
            nn.Flatten(), nn.Dropout(0.1), nn.Linear(_WIDTHS[-1] * places, _CODE), nn.SiLU(),
            nn.Linear(_CODE, _CODE), nn.SiLU(),
        )  # fmt: skip
        self.pose = nn.Linear(_CODE, 6)
        self.bend = nn.Linear(_CODE, 3 * LATTICE**3)
        for layer in (self.pose, self.bend):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, pairs: Tensor, before: Pose, reach: Tensor) -> Motion:
        """A better motion.

        Args:
            pairs: ``[B, 8, 80, 80]``, a frame and the render of its set in the pose so far, see
                `core.tracking.prediction.compared`.
            before: that pose ``[B, 3]``.
            reach: half the side of what the images show, at the origin ``[B]``, world units.
        """
        code = self.code(self.blocks(F.silu(self.stem(pairs))))
        turn, shift = self.pose(code).split(3, dim=-1)
        change = quaternion_of(_TURN * turn)
        turned = rotation_vector(quaternion_product(change, quaternion_of(before.turn)))
        pose = Pose(turned, before.shift + _SHIFT * reach[:, None] * shift)
        bend = _BEND * reach[:, None] * self.bend(code)
        return Motion(pose, bend.unflatten(1, (3, LATTICE, LATTICE, LATTICE)), reach)


def mirrored_pose(pose: Pose, rows: Tensor) -> Pose:
    """Poses as a mirror in x shows them: a turn keeps its part about x, a shift its parts along y and z."""
    signs = pose.turn.new_tensor([[1.0, -1.0, -1.0], [-1.0, 1.0, 1.0]])
    return Pose(*(torch.where(rows[:, None], x * sign, x) for x, sign in zip(pose, signs, strict=True)))


def mirrored_motion(motion: Motion, rows: Tensor) -> Motion:
    """The network's motions, mirrored back."""
    bend = motion.bend.flip(-1) * motion.bend.new_tensor([-1.0, 1.0, 1.0])[:, None, None, None]
    bend = torch.where(rows[:, None, None, None, None], bend, motion.bend)
    return motion._replace(pose=mirrored_pose(motion.pose, rows), bend=bend)


def mean_motion(one: Motion, other: Motion) -> Motion:
    """The mean of two motions, leading axes ``[B]``; of the turns, half the way from one to the other."""
    quats = [quaternion_of(motion.pose.turn) for motion in (one, other)]
    same = (quats[0] * quats[1]).sum(-1, keepdim=True) >= 0
    turn = rotation_vector(quats[0] + torch.where(same, quats[1], -quats[1]))
    pose = Pose(turn, (one.pose.shift + other.pose.shift) / 2)
    return Motion(pose, (one.bend + other.bend) / 2, one.reach)
