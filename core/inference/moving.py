"""The first frame's object moves as the front video shows: side views ``moved``.

    first frame's four views -> network -> Gaussians ─┬─> motion network, beside each frame -> moved Gaussians
                                                      │                                          │ renders
                              frame ──────────────────┴───────────> network <── side views ──────┘

Of a later frame, the front view's Gaussians are the network's, which saw it; those of the side views are the first
frame's, moved, where they lie within the front's silhouette. Side views that stay as they were contradict a front that
turned; these agree with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from core.conventions import INPUT_AZIMUTHS, NUM_VIEWS
from core.gaussians import Gaussians, combine
from core.images import resize_area
from core.inference.network import Network
from core.nano.scene import foreground
from core.rendering.orbit import OrbitRenderer
from core.tracking.motion_network import Motion
from core.tracking.pose import centre_of
from core.tracking.prediction import MotionPredictor, between, moved, no_motion


class MovingObject:
    """One video's object.

    Args:
        front: view 0 of the first frame ``[3, S, S]``.
        side_views: views 1..3 of it ``[3, 3, S, S]``; None: not known.
        network: the reconstruction model.
        predictor: finds the motion.
        orbit: renders.

    Attributes:
        first: Gaussians of the first frame ``[N]``, as many of each view, in the order of the views.
        centre: about which it turns ``[3]``.
    """

    def __init__(
        self,
        front: Tensor,
        side_views: Tensor | None,
        network: Network,
        predictor: MotionPredictor,
        orbit: OrbitRenderer,
    ) -> None:
        self.network, self.predictor, self.orbit, self._start = network, predictor, orbit, front
        self.first = network.reconstruct(front[None], side_views)[0]
        self.centre = centre_of(self.first.visible())

    def still(self) -> Moved:
        """The object in the first frame."""
        return Moved(self, no_motion(self.centre))

    def motions(self, frames: Iterable[Tensor]) -> Iterator[Motion]:
        """The motion at later frames ``[3, S, S]``, in their order."""
        return self.predictor.motions(self.first, self._start, frames)

    def at(self, fronts: Tensor, motions: Sequence[Motion], network: Network | None = None) -> Gaussians:
        """The object at some times.

        Args:
            fronts: view 0 ``[T, 3, S, S]``.
            motions: since the first frame.
            network: sees the fronts; None: the object's own.

        Returns:
            Gaussians with leading axes ``[T]``.
        """
        sets = combine([moved(self.first, motion, self.centre) for motion in motions], torch.stack)
        network = network or self.network
        views = resize_area(self.orbit(sets, INPUT_AZIMUTHS[1:]), (network.size, network.size))
        fresh = network.reconstruct(fronts, views)
        sides = self._in_silhouette(_views(sets, 1, NUM_VIEWS), fronts)
        return combine([_views(fresh, 0, 1), sides], partial(torch.cat, dim=1))

    def _in_silhouette(self, sets: Gaussians, fronts: Tensor) -> Gaussians:
        """Sets ``[T]`` without what lies beside the object in the front view: places that a limb has left."""
        camera = self.orbit.options
        reach = math.tan(math.radians(camera.fovy / 2)) * (camera.cam_radius - sets.means[..., 2])
        places = sets.means[..., :2] / reach[..., None] * sets.means.new_tensor([1.0, -1.0])
        shown = F.max_pool2d(foreground(fronts).to(places), 3, 1, 1)
        shown = F.grid_sample(shown, places[:, None], padding_mode="border", align_corners=False)[:, 0, 0]
        return replace(sets, opacities=sets.opacities * shown)


@dataclass(frozen=True)
class Moved:
    """Where a frame's Gaussians come from.

    Attributes:
        body: the video's object.
        motion: since its first frame.
    """

    body: MovingObject
    motion: Motion

    def towards(self, other: Moved, steps: int) -> list[Motion]:
        """The motions at ``steps`` - 1 times between this one and another."""
        return [between(self.motion, other.motion, step / steps) for step in range(1, steps)]


def _views(gaussians: Gaussians, first: int, end: int) -> Gaussians:
    """Those of views ``first`` to ``end`` - 1."""
    each = gaussians.num // NUM_VIEWS
    return gaussians.map(lambda field: field[:, first * each : end * each])
