"""Videos: exact rates and counts, pictures that come back, clear errors, no half-written files."""

import resource
import subprocess
import tracemalloc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from imageio_ffmpeg import get_ffmpeg_exe
from PIL import Image
from torch import Tensor

from core.errors import UserError
from core.images import save_image
from core.media import read_video, select_frames, windows, write_video

NTSC = Fraction(30000, 1001)


def grey(level: float, height: int = 48, width: int = 64) -> Tensor:
    return torch.full((3, height, width), level)


def make_video(path: Path, num_frames: int = 5, fps: Fraction | int = 24, size: tuple[int, int] = (48, 64)) -> Path:
    """Frame i is grey of level i / 10."""
    with write_video(path, fps, size) as video:
        for index in range(num_frames):
            video.write(grey(index / 10, *size))
    return path


def ffmpeg(*arguments: str | Path) -> None:
    subprocess.run([get_ffmpeg_exe(), "-y", "-loglevel", "error", *map(str, arguments)], check=True)


def levels(frames: Iterator[Tensor]) -> list[float]:
    return [round(frame.mean().item(), 2) for frame in frames]


@pytest.mark.parametrize("fps", [NTSC, Fraction(24000, 1001), 24, 25, 16, Fraction(25, 2), Fraction(15000, 1001)])
def test_rates_and_counts_are_exact(tmp_path: Path, fps: Fraction | int) -> None:
    video = read_video(make_video(tmp_path / "a.mp4", 7, fps))
    assert (video.fps, video.num_frames, video.size) == (fps, 7, (48, 64))
    assert levels(video.frames()) == [index / 10 for index in range(7)]


def test_a_video_of_one_frame_and_a_single_image(tmp_path: Path) -> None:
    video = read_video(make_video(tmp_path / "a.mp4", 1))
    assert (video.num_frames, video.fps) == (1, 24)
    save_image(grey(0.2), tmp_path / "a.png")
    image = read_video(tmp_path / "a.png")
    assert image.num_frames == 1
    assert levels(image.frames()) == [0.2]


def test_the_picture_comes_back(tmp_path: Path) -> None:
    # Smooth, because 4:2:0 halves the colour resolution; not symmetric, so that a flip would show.
    y, x = torch.meshgrid(torch.linspace(0, 1, 48), torch.linspace(0, 1, 64), indexing="ij")
    picture = torch.stack([x, y, 1 - x * y])
    with write_video(tmp_path / "a.mp4", 24, (48, 64)) as video:
        video.write(picture)
    (frame,) = read_video(tmp_path / "a.mp4").frames()
    assert (frame - picture).abs().mean() < 0.01
    assert (frame - picture).abs().max() < 0.08


@pytest.mark.parametrize("color", [(1.0, 1.0, 1.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.2, 0.5, 0.8)])
def test_colours_come_back(tmp_path: Path, color: tuple[float, float, float]) -> None:
    with write_video(tmp_path / "a.mp4", 24, (32, 32)) as video:
        video.write(torch.tensor(color)[:, None, None].expand(3, 32, 32))
    (frame,) = read_video(tmp_path / "a.mp4").frames()
    assert torch.allclose(frame.mean((-2, -1)), torch.tensor(color), atol=0.01)


def test_frames_at_chosen_indices(tmp_path: Path) -> None:
    video = read_video(make_video(tmp_path / "a.mp4", 8))
    assert levels(video.frames(range(0, 8, 3))) == [0.0, 0.3, 0.6]
    assert levels(video.frames([2, 2, 5])) == [0.2, 0.2, 0.5]
    assert levels(video.frames([])) == []
    for wrong in ([8], [3, 2], [-1]):
        with pytest.raises(IndexError):
            list(video.frames(wrong))


def test_memory_does_not_grow_with_the_length_of_the_video(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", 60, size=(240, 320))
    tracemalloc.start()  # sees bytes and arrays; tensors are counted by their references
    seen, alive = [], 0
    for frame in read_video(path).frames():
        seen.append(weakref.ref(frame))
        alive = max(alive, sum(reference() is not None for reference in seen))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(seen) == 60
    assert alive <= 2
    assert peak < 10 * 240 * 320 * 4


def test_odd_sizes_are_kept_when_read_and_made_even_when_written(tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=67x51", "-frames:v", 2, "-pix_fmt", "yuv444p", tmp_path / "odd.mp4")
    assert read_video(tmp_path / "odd.mp4").size == (51, 67)
    assert read_video(make_video(tmp_path / "a.mp4", size=(51, 67))).size == (52, 68)


def test_rotation_and_pixel_shape_are_honoured(tmp_path: Path) -> None:
    with write_video(tmp_path / "a.mp4", 24, (48, 64)) as video:
        video.write(torch.cat([torch.zeros(3, 48, 32), torch.ones(3, 48, 32)], dim=-1))  # white on the right
    ffmpeg("-display_rotation", 90, "-i", tmp_path / "a.mp4", "-c", "copy", tmp_path / "turned.mp4")
    turned = read_video(tmp_path / "turned.mp4")
    (frame,) = turned.frames()
    assert turned.size == (64, 48)
    assert frame[:, :28].mean() > 0.95  # 90 degrees counterclockwise: white on top
    assert frame[:, 36:].mean() < 0.05
    ffmpeg("-i", tmp_path / "a.mp4", "-vf", "setsar=2", tmp_path / "wide.mp4")
    assert read_video(tmp_path / "wide.mp4").size == (48, 128)


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.webm", ["-c:v", "libvpx-vp9", "-pix_fmt", "yuva420p"]), ("a.mov", ["-c:v", "png"])],
)
def test_alpha_is_composited_on_white(tmp_path: Path, name: str, codec: list[str]) -> None:
    image = Image.new("RGBA", (64, 48), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (32, 0, 64, 48))
    image.save(tmp_path / "a.png")
    ffmpeg("-i", tmp_path / "a.png", *codec, tmp_path / name)
    (frame,) = read_video(tmp_path / name).frames()
    assert frame[..., :28].mean() > 0.98
    assert frame[..., 36:].mean() < 0.02


def test_gif_with_transparency_and_uneven_times(tmp_path: Path) -> None:
    images = [Image.new("RGBA", (8, 8), (0, 0, 0, 0)) for _ in range(3)]
    for index, image in enumerate(images):
        image.putpixel((index, 0), (255, 0, 0, 255))
    images[0].save(
        tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=[100, 300, 100], disposal=2, loop=0
    )
    video = read_video(tmp_path / "a.gif")
    assert video.num_frames == 3
    assert video.fps == 5  # frames at 0, 0.1 and 0.4 s
    frames = torch.stack(list(video.frames()))
    assert frames[:, :, 4:].eq(1).all()
    assert [frames[i, 1, 0, i].item() for i in range(3)] == [0, 0, 0]


@pytest.mark.parametrize(
    ("num_frames", "fps", "stride"),
    [
        *((300, Fraction(30), 2), (300, NTSC, 2), (32, Fraction(16), 1), (7, Fraction(25), 1)),
        *((7, Fraction(24), 1), (9, Fraction(60), 4), (1, Fraction(120), 8), (3, Fraction(8), 1)),
    ],
)
def test_selection_keeps_real_time_and_the_ends(num_frames: int, fps: Fraction, stride: int) -> None:
    indices, rate = select_frames(num_frames, fps)
    assert list(indices) == list(range(0, num_frames, stride))
    assert num_frames - 1 - indices[-1] < stride
    assert rate * stride == fps


@pytest.mark.parametrize("length", [2, 4, 16])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 16, 17, 31, 32])
def test_windows_cover_everything_and_share_their_borders(n: int, length: int) -> None:
    cut = list(windows(range(n), length))
    assert cut[0] + [item for window in cut[1:] for item in window[1:]] == list(range(n))
    assert all(len(window) == length for window in cut[:-1])
    assert 1 <= len(cut[-1]) <= length
    assert all(before[-1] == after[0] for before, after in pairwise(cut))
    assert len(cut) == (1 if n <= length else 1 + -(-(n - length) // (length - 1)))


def test_windows_of_nothing_and_windows_that_cannot_move() -> None:
    assert list(windows([], 4)) == []
    assert list(windows(range(5), 2, overlap=0)) == [[0, 1], [2, 3], [4]]
    with pytest.raises(ValueError, match="cannot share"):
        list(windows(range(3), 1))


def bad_file(kind: str, folder: Path) -> Path:
    path = folder / "bad.mp4"
    if kind == "missing":
        return path
    if kind == "folder":
        path.mkdir()
    elif kind == "text with the suffix of text":
        path = folder / "bad.txt"
        path.write_text("no video\n" * 200)
    elif kind == "sound only":
        ffmpeg("-f", "lavfi", "-i", "sine", "-t", 1, path)
    elif kind == "truncated":  # the index is at the front, so half of it would play
        whole = make_video(folder / "whole.mp4", 40).read_bytes()
        path.write_bytes(whole[: len(whole) * 3 // 4])
    elif kind == "truncated matroska":
        whole = make_video(folder / "whole.mkv", 40).read_bytes()
        path.write_bytes(whole[: len(whole) * 3 // 4])
    elif kind == "without index":
        ffmpeg("-i", make_video(folder / "whole.mp4", 40), "-c", "copy", folder / "late.mp4")
        path.write_bytes((folder / "late.mp4").read_bytes()[:1000])
    else:
        path.write_bytes({"empty": b"", "text": b"no video\n" * 20, "noise": bytes(range(256)) * 40}[kind])
    return path


@pytest.mark.parametrize(
    "kind",
    [
        *("missing", "folder", "empty", "text", "text with the suffix of text"),
        *("noise", "sound only", "truncated", "truncated matroska", "without index"),
    ],
)
def test_a_bad_file_is_one_clear_error(tmp_path: Path, kind: str) -> None:
    path = bad_file(kind, tmp_path)
    with pytest.raises(UserError) as error:
        read_video(path)
    message = str(error.value)
    assert message.startswith(f"cannot read video {path}: ")
    assert "; " in message  # what to do about it
    assert "\n" not in message


def test_a_file_that_shrinks_after_opening_is_an_error(tmp_path: Path) -> None:
    video = read_video(make_video(tmp_path / "a.mp4", 6))
    make_video(tmp_path / "a.mp4", 3)
    with pytest.raises(UserError, match="frame 3 of 6 does not decode"):
        list(video.frames())


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file of this process and its children may grow beyond ``size`` bytes, as if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_one_clear_error_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"

    def write_noise() -> None:
        with write_video(path, 24, (256, 256)) as video:
            for _ in range(12):
                video.write(torch.rand(3, 256, 256))

    with file_size_limit(20_000), pytest.raises(UserError, match=r"cannot write .*a\.mp4: "):
        write_noise()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_video_leaves_the_old_one(tmp_path: Path, error: type[BaseException]) -> None:
    path = make_video(tmp_path / "a.mp4", 2)
    before = path.read_bytes()

    def write_half() -> None:
        with write_video(path, 24, (48, 64)) as video:
            video.write(grey(0.5))
            raise error

    with pytest.raises(error):
        write_half()
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_video_without_frames_or_with_frames_of_another_size_is_refused(tmp_path: Path) -> None:
    def write(*frames: Tensor) -> None:
        with write_video(tmp_path / "a.mp4", 24, (48, 64)) as video:
            for frame in frames:
                video.write(frame)

    with pytest.raises(ValueError, match="at least one frame"):
        write()
    with pytest.raises(ValueError, match=r"\(3, 48, 64\).*\(3, 32, 64\)"):
        write(grey(0.5, 32, 64))
    assert list(tmp_path.iterdir()) == []
