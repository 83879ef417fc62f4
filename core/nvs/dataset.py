"""Training samples: views of one scene, drawn at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torch.utils.data import Dataset

from core.errors import UserError
from core.nvs.posed import PosedImages, in_frame, mirrored
from core.nvs.scenes import Scene
from core.options.lact import Frame


class ViewDataset(Dataset):
    """Samples of ``views`` views; the first are inputs, the last targets.

    Sample k shows scene k modulo their number; which views, in which order and at which moment depends on seed and k.

    Args:
        scenes: at least one, each with enough views.
        size: height and width.
        views: of a sample.
        frame: of the cameras of a sample.
        seed: of all choices.
        mirror: mirror every other sample.
    """

    def __init__(
        self,
        scenes: Sequence[Scene],
        size: tuple[int, int],
        views: int,
        frame: Frame,
        seed: int,
        mirror: bool = False,
    ) -> None:
        self.scenes, self.size, self.views, self.frame, self.seed = scenes, size, views, frame, seed
        self.mirror = mirror

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, key: int) -> PosedImages:
        scene = self.scenes[key % len(self.scenes)]
        if len(scene) < self.views:
            raise UserError(f"{scene.name} has {len(scene)} views, and --num_all_views asks for {self.views}")
        draw = np.random.default_rng((self.seed, key))
        posed = scene.load(draw.permutation(len(scene))[: self.views].tolist(), self.size, draw.random())
        if self.mirror and draw.random() < 0.5:
            posed = mirrored(posed)
        return finished(posed, self.frame)


def finished(posed: PosedImages, frame: Frame) -> PosedImages:
    """As the network takes them: cameras in a frame, then float32."""
    cameras = posed.cameras
    c2w = in_frame(cameras.c2w, frame).float()
    return PosedImages(posed.images, replace(cameras, c2w=c2w, intrinsics=cameras.intrinsics.float()))
