"""Which views of a scene are inputs and which are rendered and measured."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from core.errors import UserError
from core.nvs.dataset import finished
from core.nvs.posed import PosedImages, in_frame
from core.nvs.scenes import Scene
from core.options.lact import NvsOptions, lact_preset

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Split:
    """A scene's views, chosen.

    Attributes:
        scene: whose.
        inputs, targets: numbers of views.
        poses: of all views that were drawn, by number, as the network takes them.
        size: height and width of the images.
    """

    scene: Scene
    inputs: tuple[int, ...]
    targets: tuple[int, ...]
    poses: dict[int, Tensor]
    size: tuple[int, int]

    def load(self, views: tuple[int, ...]) -> PosedImages:
        """Some views ``[v]``."""
        posed = finished(self.scene.load(views, self.size), "world")
        c2w = posed.cameras.c2w.clone()
        for row, view in enumerate(views):
            c2w[row] = self.poses[view]
        return PosedImages(posed.images, replace(posed.cameras, c2w=c2w))


def split_views(scene: Scene, options: NvsOptions) -> Split:
    """Draw views as published: of an object the first of a random sample are inputs; of a scene the inputs are sorted.

    Inputs and targets never share a view.

    Raises:
        UserError: the scene has no view left to render.
    """
    available = len(scene)
    count = min(options.num_all_views, available)
    left = count - options.num_input_views
    if left < 1:
        raise UserError(
            f"{scene.name} has {available} views and {count} are drawn: --num_input_views {options.num_input_views} "
            f"leaves none to render; ask for at most {count - 1}"
        )
    if options.num_input_views == 1:
        _log.info("one input view: sides that it does not show can only be guessed")
    draw = np.random.default_rng(options.seed)
    drawn = draw.permutation(available)[:count].tolist()
    targets = drawn[-min(options.num_target_views or left, left) :]
    inputs = drawn[: options.num_input_views]
    frame = lact_preset(options.config).frame
    if options.scene_inference:
        inputs, frame = sorted(inputs), "scene"
    c2w = in_frame(scene.poses(drawn), frame)
    poses = dict(zip(drawn, c2w.float(), strict=True))
    return Split(scene, tuple(inputs), tuple(targets), poses, tuple(options.image_size))
