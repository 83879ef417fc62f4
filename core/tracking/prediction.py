"""The first frame's Gaussians follow the front video: every frame by itself, from the first frame's pose.

The network's pose is then fitted to the frame and stays near: a pose that is free to go errs more than the network's.
Starting from the pose of the frame before finds larger turns, and mistakes grow along the video.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from core.cameras import Cameras, concatenate, orbit_cameras
from core.conventions import INPUT_AZIMUTHS
from core.gaussians import Gaussians
from core.options import CameraOptions
from core.rendering import Renderer
from core.rotations import quaternion_product
from core.tracking.deformation import inverse_rotation, quaternion_of, relative_rotation
from core.tracking.image_loss import image_loss
from core.tracking.motion_network import (
    IMAGE_SIZE,
    LATTICE,
    Motion,
    MotionNetwork,
    mean_motion,
    mirrored_motion,
    mirrored_pose,
)
from core.tracking.observations import SMALL, orbit_views
from core.tracking.pose import Pose, centre_of, find_pose, posed, rotation_vector, still

ROUNDS = 2  # renders and comparisons, as in training
POSE_STEPS = 10  # of the fit to a frame
NEAR_WEIGHT, STILL_WEIGHT = 5.0, 1.0  # of the squared distance from the network's pose, and from none
_SOLID, _OUTER, _MARGIN, _LEAST = 0.3, 0.98, 1.3, 0.3


class MotionPredictor:
    """Moves the Gaussians of a first frame as the video shows.

    Args:
        network: trained.
        renderer: draws, on the device of the Gaussians or on the CPU.
        options: of the orbit.
    """

    def __init__(self, network: MotionNetwork, renderer: Renderer, options: CameraOptions) -> None:
        self.network, self.renderer, self.options = network, renderer, options

    def motions(self, first: Gaussians, start: Tensor, frames: Iterable[Tensor]) -> Iterator[Motion]:
        """The motion at every frame, leading axes ``[1]``, about the centre of the visible Gaussians.

        The network's pose is fitted to the frame. What network and fit find in the first frame itself, where nothing
        has moved, is taken off everywhere.

        Args:
            first: set of the first frame, no leading axes.
            start: this frame ``[3, S, S]``, RGB in [0, 1] on white.
            frames: later ones in their order.
        """
        first = first.visible()
        share, centre = object_share(first, self.options), centre_of(first)
        bias = self._match(first, centre, start, share)
        offset = self._fitted(first, centre, start, without(bias, bias))
        for frame in frames:
            found = without(bias, self._match(first, centre, frame, share))
            yield without(offset, self._fitted(first, centre, frame, found))

    @torch.no_grad()
    def _match(self, first: Gaussians, centre: Tensor, frame: Tensor, share: float) -> Motion:
        """The motion at a frame, leading axes ``[1]``."""
        frames, shares = cut(frame[None].to(centre), share), centre.new_full((1,), share)
        motion = no_motion(centre)
        for _ in range(ROUNDS):
            sets = posed(first[None], motion.pose, centre)
            pairs = compared(self.renderer, self.options, sets, frames, shares)
            motion = self._both(pairs, motion.pose, reach_of(self.options, shares))
        return motion

    def _fitted(self, first: Gaussians, centre: Tensor, frame: Tensor, motion: Motion) -> Motion:
        """A motion whose pose goes to where the frame shows it, near its own and near none."""
        device = centre.device if self.renderer.on_gpu else torch.device("cpu")

        def own(tensor: Tensor) -> Tensor:
            return tensor.to(device).clone()  # gradients flow through no tensor of the inference mode

        with torch.inference_mode(False), torch.enable_grad():
            first, centre, found = first.map(own), own(centre), motion.map(own)
            before, none = found.only_pose(), still(centre)
            seen = orbit_views(own(frame)[None, None], INPUT_AZIMUTHS[:1], self.options).resized(SMALL)

            def loss(pose: Pose) -> Tensor:
                there = moved(first, found.with_pose(pose), centre)
                unlikely = NEAR_WEIGHT * pose.away_from(before) + STILL_WEIGHT * pose.away_from(none)
                return image_loss(self.renderer, there[None], seen) + unlikely

            pose = find_pose(loss, [before], POSE_STEPS)
        return motion.with_pose(Pose(*(part.to(motion.reach) for part in pose)))

    def _both(self, pairs: Tensor, pose: Pose, reach: Tensor) -> Motion:
        """The mean of what the network finds here and in a mirror; validation: 5 % less error."""
        rows = torch.ones(len(reach), dtype=torch.bool, device=reach.device)
        motion = self.network(pairs, pose, reach)
        seen_in_mirror = self.network(pairs.flip(-1), mirrored_pose(pose, rows), reach)
        return mean_motion(motion, mirrored_motion(seen_in_mirror, rows))


def compared(renderer: Renderer, options: CameraOptions, sets: Gaussians, frames: Tensor, shares: Tensor) -> Tensor:
    """The network's input ``[B, 8, 80, 80]``: frames beside renders of sets.

    Args:
        renderer, options: as of `MotionPredictor`.
        sets: first frames in the pose so far ``[B]``.
        frames: of the videos, cut to the windows ``[B, 3, 80, 80]``.
        shares: that the windows show ``[B]``.
    """
    drawn = renderer(sets, windows(options, shares).to(sets.means.device))
    image, alpha, depth = (x[:, 0].to(frames) for x in (drawn.image, drawn.alpha, drawn.depth))
    near = (depth - options.cam_radius * alpha) / reach_of(options, shares)[:, None, None, None]
    return torch.cat([frames, image, alpha, near.clamp(-1.2, 1.2)], dim=1)


def reach_of(options: CameraOptions, share: Tensor | float) -> Tensor | float:
    """Half the side of what a window shows at the origin, world units."""
    return share * options.cam_radius * math.tan(math.radians(options.fovy / 2))


def no_motion(like: Tensor) -> Motion:
    """None, leading axes ``[1]``."""
    pose = Pose(*(part[None] for part in still(like)))
    return Motion(pose, like.new_zeros(1, 3, LATTICE, LATTICE, LATTICE), like.new_ones(1))


def without(bias: Motion, motion: Motion) -> Motion:
    """A motion without the part that is none."""
    off = inverse_rotation(quaternion_of(bias.pose.turn))
    turn = rotation_vector(quaternion_product(quaternion_of(motion.pose.turn), off))
    pose = Pose(turn, motion.pose.shift - bias.pose.shift)
    return motion._replace(pose=pose, bend=motion.bend - bias.bend)


def between(before: Motion, after: Motion, share: float) -> Motion:
    """The motion a share of the way from one to another; it turns at a constant rate."""
    first, last = quaternion_of(before.pose.turn), quaternion_of(after.pose.turn)
    change = share * rotation_vector(relative_rotation(first, last))
    turn = rotation_vector(quaternion_product(quaternion_of(change), first))
    shift, bend = (
        torch.lerp(a, b, share) for a, b in ((before.pose.shift, after.pose.shift), (before.bend, after.bend))
    )
    return Motion(Pose(turn, shift), bend, after.reach)


def moved(first: Gaussians, motion: Motion, centre: Tensor) -> Gaussians:
    """A set without leading axes after a motion with leading axes ``[1]``. A bend shifts Gaussians; it does not turn
    them."""
    turned = posed(first, motion.only_pose(), centre)
    return replace(turned, means=turned.means + motion.displacement(turned.means[None])[0])


def object_share(gaussians: Gaussians, options: CameraOptions) -> float:
    """The middle part of the front images, as a share of their side, that shows an object however it turns about the
    origin."""
    solid = gaussians.means[gaussians.opacities >= _SOLID]
    if not len(solid):
        return 1.0
    outer = float(solid.norm(dim=-1).quantile(_OUTER))
    return min(1.0, max(_LEAST, _MARGIN * outer / reach_of(options, 1.0)))


def cut(frames: Tensor, share: float) -> Tensor:
    """The middle part of images ``[B, 3, S, S]`` at the network's size."""
    side = frames.shape[-1]
    half = max(1, round(share * side / 2))
    part = frames[..., side // 2 - half : side // 2 + half, side // 2 - half : side // 2 + half]
    return F.interpolate(part, (IMAGE_SIZE, IMAGE_SIZE), mode="bilinear", antialias=True, align_corners=False)


def windows(options: CameraOptions, shares: Tensor) -> Cameras:
    """Front cameras ``[B, 1]`` that see the middle part of an image."""
    size, tangent = (IMAGE_SIZE, IMAGE_SIZE), math.tan(math.radians(options.fovy / 2))
    angles = [2 * math.degrees(math.atan(share * tangent)) for share in shares.tolist()]
    cameras = [orbit_cameras(torch.zeros(1), radius=options.cam_radius, fovy=angle, size=size) for angle in angles]
    return concatenate(cameras, dim=0)[:, None]
