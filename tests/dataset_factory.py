"""Datasets of tiny clips, for the tests of the data code."""

from dataclasses import replace
from pathlib import Path

import torch

from core.data.batch import ClipBatch
from core.data.dataset import ClipDataset
from core.options import CameraOptions, DataOptions

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


def make_dataset(options: DataOptions, split: str = "train", batch_size: int = 1, seed: int = 0) -> ClipDataset:
    return ClipDataset(options, CameraOptions(), input_size=SIZE, split=split, batch_size=batch_size, seed=seed)


def same(a: ClipBatch, b: ClipBatch) -> bool:
    fields = ("grid", "images", "masks", "frames", "view_ids")
    return a.names == b.names and all(torch.equal(getattr(a, name), getattr(b, name)) for name in fields)
