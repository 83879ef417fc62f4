"""Training samples: views of one scene, drawn at random."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torch.utils.data import Dataset

from core.errors import UserError
from core.nvs.posed import PosedImages, normalize_poses, turned
from core.nvs.scenes import Scene


class ViewDataset(Dataset):
    """Samples of ``views`` views; the first are inputs, the last targets.

    Sample k shows scene k modulo their number; which views, in which order and at which moment depends on seed and k.

    Args:
        scenes: at least one, each with enough views.
        size: height and width.
        views: of a sample.
        normalize: move the cameras to a frame of their own.
        seed: of all choices.
        augment: turn each sample about the z axis by a random angle, and mirror every other one.
    """

    def __init__(
        self,
        scenes: Sequence[Scene],
        size: tuple[int, int],
        views: int,
        normalize: bool,
        seed: int,
        augment: bool = False,
    ) -> None:
        self.scenes, self.size, self.views, self.normalize, self.seed = scenes, size, views, normalize, seed
        self.augment = augment

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, key: int) -> PosedImages:
        scene = self.scenes[key % len(self.scenes)]
        if len(scene) < self.views:
            raise UserError(f"{scene.name} has {len(scene)} views, and --num_all_views asks for {self.views}")
        draw = np.random.default_rng((self.seed, key))
        posed = scene.load(draw.permutation(len(scene))[: self.views].tolist(), self.size, draw.random())
        if self.augment:
            posed = turned(posed, draw.uniform(0, 2 * math.pi), mirror=draw.random() < 0.5)
        return finished(posed, self.normalize)


def finished(posed: PosedImages, normalize: bool) -> PosedImages:
    """As the network takes them: cameras normalised where asked for, then float32."""
    cameras = posed.cameras
    if normalize:
        cameras = replace(cameras, c2w=normalize_poses(cameras.c2w))
    return PosedImages(posed.images, replace(cameras, c2w=cameras.c2w.float(), intrinsics=cameras.intrinsics.float()))
