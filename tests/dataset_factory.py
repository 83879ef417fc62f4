"""Datasets of tiny clips, for the tests of the data code."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from core.data.batch import ClipBatch
from core.data.dataset import ClipDataset
from core.options import CameraOptions, DataOptions
from tests.clip_factory import write_clip

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


@pytest.fixture
def clips(tmp_path: Path) -> tuple[Path, list[str]]:
    """Five clips of three objects, 5 frames each."""
    names = ["p-fish-0", "p-fish-1", "p-cow-0", "p-cow-1", "p-robot-0"]
    for name in names:
        write_clip(tmp_path, name, frames=5)
    return tmp_path, names


def same(a: ClipBatch, b: ClipBatch) -> bool:
    fields = ("grid", "images", "masks", "frames", "view_ids")
    return a.names == b.names and all(torch.equal(getattr(a, name), getattr(b, name)) for name in fields)
