"""Laws of what a video gives: its used frames, and what it shows between them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
import torch
from PIL import Image

from core.inference.inputs import Source, open_sources
from core.options.input import InputOptions
from tests.tiny import SIZE, square_frame, square_video


def source_of(folder: Path, frames: int, fps: int) -> Source:
    square_video(folder / "in" / "x.mp4", frames, fps)
    (source,) = open_sources(str(folder / "in" / "x.mp4"), str(folder / "out"), InputOptions(), lambda name: [name])
    return source


def test_an_animated_picture_is_centred_between_its_frames_too(tmp_path: Path) -> None:
    path = tmp_path / "in" / "x.png"
    path.parent.mkdir()
    images = [Image.fromarray((square_frame(k, 48, 48).permute(1, 2, 0) * 255).byte().numpy()) for k in (0, 6, 12)]
    images[0].save(path, save_all=True, append_images=images[1:], duration=100)
    for recenter in (False, True):
        (source,) = open_sources(str(path), str(tmp_path / "out"), InputOptions(), lambda name: [name], recenter)
        used, between = list(source.frames(SIZE)), list(source.between(SIZE, 2))
        assert len(used) == 3
        for before, after, (image,) in zip(used[:-1], used[1:], between, strict=True):
            torch.testing.assert_close(image, (before + after) / 2)


@pytest.mark.parametrize(("frames", "fps", "step"), [(1, 15, 1), (4, 15, 1), (7, 30, 2), (8, 30, 2), (9, 60, 4)])
@pytest.mark.parametrize("rate", [1, 2, 3, 4])
def test_between_used_frames_lie_blends_of_the_two_nearest_of_the_file(
    tmp_path: Path, frames: int, fps: int, step: int, rate: int
) -> None:
    """Of all frames, also of those that are passed over: where a time is a frame's own, that frame is shown."""
    source = source_of(tmp_path, frames, fps)
    every = list(source.video.frames())
    used, between = list(source.frames(SIZE)), list(source.between(SIZE, rate))
    assert source.indices.step == step and len(used) == 1 + (frames - 1) // step
    assert len(between) == max(1, len(used) - 1) and sum(map(len, between)) == (rate - 1) * (len(used) - 1)
    for pair, images in enumerate(between):
        for k, image in enumerate(images, start=1):
            place = step * (pair + Fraction(k, rate))
            below = int(place)
            above = below if place == below else below + 1
            expected = every[below] + float(place - below) * (every[above] - every[below])
            torch.testing.assert_close(image, expected, atol=1e-6, rtol=0)
