"""Videos as phones and screens write them: high range, uneven times, codecs that nobody knows, many frames."""

from __future__ import annotations

import resource
from fractions import Fraction
from pathlib import Path

import pytest

from core.errors import UserError
from core.inference.inputs import open_sources
from core.media import read_video
from core.options.input import InputOptions
from tests.test_media import ffmpeg

PQ = "colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:log-level=none:lossless=1"


@pytest.mark.parametrize(("level", "shown"), [(0.2, (0.0, 0.25)), (0.58, (0.7, 1.0))])
def test_ten_bits_of_high_range_become_an_ordinary_picture(
    tmp_path: Path, level: float, shown: tuple[float, float]
) -> None:
    """In PQ, 0.58 is the white of a page (203 cd/m2), which would look grey if it were taken as it is."""
    grey = f"color=black:s=64x64:d=0.1:r=10,format=yuv420p10le,lutyuv=y={int(64 + 876 * level)}:u=512:v=512"
    tags = "-color_primaries bt2020 -color_trc smpte2084 -colorspace bt2020nc".split()
    ffmpeg("-f", "lavfi", "-i", grey, "-c:v", "libx265", "-x265-params", PQ, *tags, tmp_path / "a.mp4")
    video = read_video(tmp_path / "a.mp4")
    assert video.high_range and not video.may_have_alpha
    frame = next(video.frames())
    assert shown[0] <= frame.mean() <= shown[1] and frame.std() < 0.01


def test_a_codec_that_nobody_knows_is_named(tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=64x48:d=0.5", tmp_path / "a.mp4")
    (tmp_path / "a.mp4").write_bytes((tmp_path / "a.mp4").read_bytes().replace(b"avc1", b"zzz1"))
    with pytest.raises(UserError, match=r"a.mp4: ffmpeg has no decoder for its codec zzz1; convert it to H.264"):
        read_video(tmp_path / "a.mp4")


def test_uneven_times_are_known_and_even_ones_are_not_kept(tmp_path: Path) -> None:
    uneven = "testsrc=s=32x32:r=10:d=2,setpts='if(lt(N,10),N,10+4*(N-10))/(10*TB)'"
    ffmpeg("-f", "lavfi", "-i", uneven, "-fps_mode", "passthrough", "-enc_time_base", "1/1000", tmp_path / "a.mp4")
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=32x32:r=30000/1001:d=1", tmp_path / "b.mp4")
    times = read_video(tmp_path / "a.mp4").times
    assert times[:3] == pytest.approx((0, 0.1, 0.2), abs=0.002) and times[-1] == pytest.approx(4.6, abs=0.002)
    assert read_video(tmp_path / "b.mp4").times == ()


def test_a_picture_every_hour_has_a_rate(tmp_path: Path) -> None:
    path = tmp_path / "slow.mkv"
    hours = "color=white:s=32x32:r=1:d=3,setpts='3600*N/TB'"
    ffmpeg("-f", "lavfi", "-i", hours, "-fps_mode", "passthrough", "-enc_time_base", "1/1000", path)
    video = read_video(path)
    assert (video.num_frames, video.fps, video.times) == (3, Fraction(1, 3600), ())


def test_an_uneven_video_plays_in_real_time(tmp_path: Path) -> None:
    """Its frames at even times are written to a file of their own."""
    (tmp_path / "in").mkdir()
    uneven = "color=white:s=32x32:r=10:d=2,setpts='if(lt(N,10),N,10+4*(N-10))/(10*TB)'"
    path = tmp_path / "in" / "a.mp4"
    ffmpeg("-f", "lavfi", "-i", uneven, "-fps_mode", "passthrough", "-enc_time_base", "1/1000", path)
    (source,) = open_sources(str(path), str(tmp_path / "out"), InputOptions(), lambda name: [name])
    clip = read_video(path)
    assert source.matte == "none" and source.video.path == tmp_path / "out" / "a_input.mov"
    assert source.video.num_frames == clip.num_frames and source.rate == clip.fps != Fraction(10)


def test_a_long_video_is_opened_and_thinned_in_little_memory(tmp_path: Path) -> None:
    """10,000 frames: 15 MB of numbers and no picture more."""
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "a.mp4"
    ffmpeg("-f", "lavfi", "-i", "color=white:s=32x32:r=30:d=333.4", "-preset", "ultrafast", path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    options = InputOptions(start=300, duration=2)
    (source,) = open_sources(str(path), str(tmp_path / "out"), options, lambda name: [name])
    assert source.video.num_frames == 10002 and source.indices == range(9000, 9060, 2)
    assert len(list(source.frames(16))) == 30
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 15_000
