"""Packed clips: what comes back, and what damaged files get."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from core.errors import UserError
from core.export import packed
from core.export.packed import GROUP, STEPS, load_clip, write_clip
from core.gaussians import Gaussians
from core.losses import psnr
from tests.moving_splats import COUNTS, RATE, moving_frames, render, tracked_frames, write_moving_clip
from tests.splat_scenes import random_gaussians


@pytest.fixture
def clip_file(tmp_path: Path) -> Path:
    return write_moving_clip(tmp_path / "x.l4gm")


def test_frames_come_back_to_half_a_step(clip_file: Path) -> None:
    clip = load_clip(clip_file)
    assert clip.rate == RATE and [clip[index].num for index in range(len(clip))] == list(COUNTS)
    for index, frame in reversed(list(enumerate(moving_frames()))):
        found = clip[index]
        for name, step in (("means", STEPS[0]), ("colors", STEPS[6]), ("opacities", STEPS[9])):
            torch.testing.assert_close(getattr(found, name), getattr(frame, name), rtol=0, atol=0.501 * step)
        torch.testing.assert_close(found.scales.log(), frame.scales.log(), rtol=0, atol=0.501 * STEPS[3])
        turned = torch.nn.functional.cosine_similarity(found.quats, frame.quats, dim=-1).abs()
        assert (turned > 1 - STEPS[10] ** 2).all()


def test_pictures_stay(clip_file: Path) -> None:
    clip, frames = load_clip(clip_file), moving_frames()
    for azimuth in (0, 90, 200):
        assert psnr(render(clip[0], azimuth, 128)[None], render(frames[0], azimuth, 128)[None]) > 45


def test_gaussians_that_move_take_less_and_come_back_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Differences in time, over more than a group; a file of version 1 holds the very same numbers."""
    path = write_moving_clip(tmp_path / "x.l4gm", tracked_frames())
    found, size = list(load_clip(path)), path.stat().st_size
    inside = [np.diff(packed._levels(frame), axis=1, prepend=np.int16(0)) for frame in tracked_frames()]
    blocks = iter([packed._zipped(inside[:GROUP]), packed._zipped(inside[GROUP:])])
    monkeypatch.setattr(packed, "_deflated", lambda _: (next(blocks), False))
    monkeypatch.setattr(packed, "VERSION", 1)
    old = load_clip(write_moving_clip(path, tracked_frames()))
    assert len(found) == len(old) == GROUP + 3 and size < 0.75 * path.stat().st_size
    for one, other in zip(found, old, strict=True):
        assert all(torch.equal(value, getattr(other, name)) for name, value in vars(one).items())


def test_extreme_values(tmp_path: Path) -> None:
    """Opacity and scale 0, positions at the end of the range, more frames than a group holds."""
    extreme = replace(
        random_gaussians(num=3).to(torch.float32),
        means=torch.tensor([[15.9, -15.9, 0.0]] * 3),
        scales=torch.tensor([[0.0, 1e-4, 10.0]] * 3),
        opacities=torch.tensor([0.0, 1.0, 0.5]),
        quats=torch.tensor([[-1.0, 0, 0, 0], [0, 0, 0, 1], [0, -5, 0, 0]]),
    )
    with write_clip(tmp_path / "x.l4gm", Fraction(30000, 1001), 2 * GROUP + 1) as clip:
        for _ in range(2 * GROUP + 1):
            clip.add(extreme)
    clip = load_clip(tmp_path / "x.l4gm")
    assert len(clip) == 2 * GROUP + 1 and clip.rate == Fraction(30000, 1001)
    for found in (clip[0], clip[2 * GROUP]):
        torch.testing.assert_close(found.means, extreme.means, rtol=0, atol=STEPS[0])
        torch.testing.assert_close(found.scales, extreme.scales, rtol=STEPS[3], atol=2e-9)
        torch.testing.assert_close(found.quats[1].abs(), torch.tensor([0.0, 0, 0, 1]))
    with pytest.raises(IndexError):
        clip[2 * GROUP + 1]


def write_all(path: Path, frames: list[Gaussians]) -> None:
    with write_clip(path, RATE, len(frames)) as clip:
        for frame in frames:
            clip.add(frame)


@pytest.mark.parametrize("field", ["nan", "far", "negative"])
def test_what_cannot_be_packed_is_refused_and_leaves_no_file(tmp_path: Path, field: str) -> None:
    good = random_gaussians(num=3)
    bad = {
        "nan": replace(good, colors=good.colors * torch.nan),
        "far": replace(good, means=good.means + 20),
        "negative": replace(good, scales=-good.scales),
    }[field]
    with pytest.raises(UserError, match=r"x\.l4gm.*frame 2"):
        write_all(tmp_path / "x.l4gm", [good, bad])
    assert not list(tmp_path.iterdir())


def test_a_frame_too_few_is_no_clip(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 frames"), write_clip(tmp_path / "x.l4gm", RATE, 2) as clip:
        clip.add(random_gaussians(num=3))
    assert not list(tmp_path.iterdir())


def read_all(path: Path) -> None:
    clip = load_clip(path)
    for index in range(len(clip)):
        clip[index]


def test_a_cut_file_is_refused_wherever_it_is_cut(clip_file: Path) -> None:
    data = clip_file.read_bytes()
    for length in [*range(0, 200), *range(200, len(data), 97), len(data) - 1]:
        clip_file.write_bytes(data[:length])
        with pytest.raises(UserError, match=r"x\.l4gm"):
            read_all(clip_file)


def test_a_changed_byte_is_noticed(clip_file: Path) -> None:
    data = clip_file.read_bytes()
    for place in [*range(0, 200), *range(200, len(data), 97)]:
        clip_file.write_bytes(data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :])
        with pytest.raises(UserError, match=r"x\.l4gm"):
            read_all(clip_file)


def forged(header: dict[str, object], groups: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<8sIII", b"L4GMCLIP", 1, len(text), zlib.crc32(text)) + text + groups


GOOD = {"num_frames": 1, "frame_rate": "10", "steps": STEPS}
ONES = zlib.compress(bytes([1]) * 28 * 5)
BOMB = zlib.compress(bytes(1 << 24), 9)


@pytest.mark.parametrize(
    "data",
    [
        forged({**GOOD, "num_frames": 10**9}),
        forged({**GOOD, "num_frames": -1}),
        forged({**GOOD, "num_frames": "1"}),
        forged({**GOOD, "frame_rate": "0"}),
        forged({**GOOD, "frame_rate": "1/0"}),
        forged({**GOOD, "frame_rate": []}),
        forged({**GOOD, "frame_rate": "1e99999999"}),
        forged({**GOOD, "frame_rate": float("inf")}),
        forged({**GOOD, "steps": [10**400] * 14}),
        forged({**GOOD, "steps": [1e300] * 14}, struct.pack("<IIII", 1, len(ONES), zlib.crc32(ONES), 5) + ONES),
        forged({**GOOD, "steps": [1]}),
        forged({**GOOD, "steps": ["x"] * 14}),
        forged({}),
        forged(GOOD, struct.pack("<IIII", 1, len(BOMB), zlib.crc32(BOMB), 5) + BOMB),  # 16 MB for 5 Gaussians
        forged(GOOD, struct.pack("<IIII", 2**32 - 1, 0, 0, 5)),
        forged(GOOD, struct.pack("<IIII", 1, 2**32 - 1, 0, 2**32 - 1)),
        forged(GOOD, struct.pack("<IIII", 0, 0, 0, 0)),
        forged({**GOOD, "num_frames": 2}, struct.pack("<IIIII", 2 | 1 << 31, len(ONES), zlib.crc32(ONES), 2, 3) + ONES),
        b"PK\3\4" + bytes(100),
        b"",
    ],
)
def test_forged_files_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.l4gm").write_bytes(data)
    with pytest.raises(UserError, match=r"x\.l4gm"):
        read_all(tmp_path / "x.l4gm")


def test_a_missing_clip_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load_clip(tmp_path / "none.l4gm")
