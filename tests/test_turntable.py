"""The turntable: the camera orbits while time runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from core.conventions import INPUT_AZIMUTHS
from core.errors import UserError
from core.gaussians import Gaussians
from core.images import letterbox
from core.inference.sequence import GaussianFrame
from core.inference.turntable import AZIMUTHS, Canvas, Turntable, frame_indices, write_still_turntable
from core.media import read_video
from tests.tiny import lopsided_gaussians


class PaintedOrbit:
    """In place of a renderer: every image has one colour, made of its Gaussians (green) and its azimuth (red)."""

    size = 8

    def __init__(self) -> None:
        self.drawn: Counter = Counter()

    def __call__(
        self, gaussians: Gaussians, azimuths: Sequence[float] = INPUT_AZIMUTHS, size: int | None = None
    ) -> torch.Tensor:
        size = size or self.size
        images = torch.zeros(len(gaussians.means), len(azimuths), 3, size, size)
        for t, index in enumerate(gaussians.colors[:, 0, 1].tolist()):
            for v, azimuth in enumerate(azimuths):
                self.drawn[round(index * 100), azimuth] += 1
                images[t, v, 0], images[t, v, 1] = azimuth / 360, index
        return images


def gaussians_number(index: int) -> Gaussians:
    """Gaussians whose colour encodes their number (under 100), leading axes ``[1]``."""
    gaussians = lopsided_gaussians()
    return replace(gaussians, colors=torch.full_like(gaussians.colors, index / 100))


def frame_number(index: int, orbit: PaintedOrbit) -> GaussianFrame:
    """`gaussians_number` at a time."""
    return GaussianFrame(Fraction(index), gaussians_number(index)[0], orbit)


CANVAS = Canvas(16, 10)


@pytest.mark.parametrize(
    ("video", "height"), [((480, 640), 384), ((1080, 1920), 288), ((512, 512), 512), ((640, 480), 512), ((1, 5000), 2)]
)
def test_a_wide_video_loses_its_bars_and_a_tall_one_keeps_its_width(video: tuple[int, int], height: int) -> None:
    canvas = Canvas.of(512, video)
    assert canvas == Canvas(512, height)
    shown = canvas.crop(letterbox(torch.zeros(3, *video), 512))
    assert shown.shape == (3, height, 512)
    if video[1] >= video[0] > 1:
        assert float(shown.max()) < 0.01, "no bar is left and nothing of the picture is lost"


def test_once_round_with_four_stops() -> None:
    counts = Counter(AZIMUTHS)
    assert len(AZIMUTHS) == 536
    assert list(AZIMUTHS) == sorted(AZIMUTHS)
    assert counts == {azimuth: 45 if azimuth in (0, 90, 180, 270) else 1 for azimuth in range(360)}


@pytest.mark.parametrize(
    ("rate", "count", "start", "after_ten_seconds"),
    [
        (Fraction(8), 178, [0, 0, 0, 0, 1, 1, 1, 1, 2], 80),
        (Fraction(15), 178, [0, 0, 1, 1, 2, 2], 150),
        (Fraction(30000, 2002), 178, [0, 0, 0, 1, 1, 2], 149),  # slightly slower than 15
        (Fraction(45), 5000, [0, 1, 3, 4, 6, 7], 450),
        (Fraction(120), 5000, [0, 4, 8, 12], 1200),
        (Fraction(15), 7, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 0, 0, 1], 150 % 7),
        (Fraction(15), 1, [0, 0, 0], 0),
    ],
)
def test_time_runs_at_the_rate_of_the_sequence(
    rate: Fraction, count: int, start: list[int], after_ten_seconds: int
) -> None:
    shown = frame_indices(count, rate)
    assert len(shown) == 536
    assert shown[: len(start)] == start and shown[300] == after_ten_seconds


@pytest.mark.parametrize(("count", "rate"), [(1, 8), (5, 24), (40, 15)])
def test_every_frame_shows_its_gaussians_from_its_azimuth(tmp_path: Path, count: int, rate: int) -> None:
    """Gaussians come once and in order, the images of the video do not. Views that were drawn before are reused."""
    orbit = PaintedOrbit()
    turntable = Turntable(tmp_path / "t.mp4", count, Fraction(rate), CANVAS)
    for index in range(count):
        frame = frame_number(index, orbit)
        frame.views(CANVAS.size)
        turntable.add(index, frame)
    turntable.finish()
    video = read_video(tmp_path / "t.mp4")
    assert (video.fps, video.num_frames, video.size) == (30, 536, (10, 16))
    for frame, azimuth, index in zip(video.frames(), AZIMUTHS, frame_indices(count, Fraction(rate)), strict=True):
        red, green, _ = frame.mean(dim=(1, 2)).tolist()
        assert red == pytest.approx(azimuth / 360, abs=0.03)
        assert green == pytest.approx(index / 100, abs=0.03)
    assert set(orbit.drawn.values()) == {1}, "no image is rendered twice"


def test_a_sequence_longer_than_the_video_draws_only_what_is_seen(tmp_path: Path) -> None:
    orbit = PaintedOrbit()
    turntable = Turntable(tmp_path / "t.mp4", 90, Fraction(1), CANVAS)
    for index in range(90):
        turntable.add(index, frame_number(index, orbit))
    turntable.finish()
    assert {index for index, _ in orbit.drawn} == set(range(18))


def test_still_turntable(tmp_path: Path) -> None:
    write_still_turntable(gaussians_number(50), tmp_path / "s.mp4", PaintedOrbit(), Canvas(20, 12))
    video = read_video(tmp_path / "s.mp4")
    assert (video.fps, video.num_frames, video.size) == (30, 90, (12, 20))
    reds = [float(frame[0].mean()) for frame in video.frames()]
    assert reds == pytest.approx([azimuth / 360 for azimuth in range(0, 360, 4)], abs=0.03)


def test_a_full_disk_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turntable = Turntable(tmp_path / "t.mp4", 1, Fraction(8), CANVAS)
    turntable.spool.close()
    with open("/dev/full", "wb", buffering=0) as turntable.spool, pytest.raises(UserError, match=r"t\.mp4.*No space"):
        turntable.add(0, frame_number(0, PaintedOrbit()))
