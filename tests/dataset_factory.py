"""Datasets of tiny clips, for the tests of the data code."""

from dataclasses import replace
from pathlib import Path

import torch

from core.cameras import Cameras
from core.data.batch import ClipBatch
from core.data.dataset import ClipDataset
from core.options import CameraOptions, DataOptions, SideViewOptions
from core.view_grid import ViewGrid

SIZE = 16


def make_options(home: Path, names: list[str], **settings: object) -> DataOptions:
    (home / "list.txt").write_text("\n".join(names) + "\n")
    plain = DataOptions(
        datalist=str(home / "list.txt"),
        data_home=str(home),
        num_frames=3,
        num_views=6,
        output_size=SIZE,
        num_workers=0,
        prob_grid_distortion=0.0,
        prob_cam_jitter=0.0,
    )
    return replace(plain, **settings)


def make_dataset(
    options: DataOptions, split: str = "train", batch_size: int = 1, seed: int = 0, **side_views: str
) -> ClipDataset:
    sides = SideViewOptions(**side_views)
    return ClipDataset(options, CameraOptions(), sides, input_size=SIZE, split=split, batch_size=batch_size, seed=seed)


def tensor_of(images: torch.Tensor, cameras: Cameras) -> torch.Tensor:
    """The grid ``[B, T, V, 9, H, W]`` of images and cameras ``[B, T, V]``."""
    return ViewGrid.of(images, cameras).tensor()


def same(a: ClipBatch, b: ClipBatch) -> bool:
    fields = ("images", "masks", "frames", "view_ids")
    equal = all(torch.equal(getattr(a, name), getattr(b, name)) for name in fields)
    return a.names == b.names and equal and torch.equal(a.grid.tensor(), b.grid.tensor())
