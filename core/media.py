"""Videos in and out, one frame at a time, through the ffmpeg program that imageio-ffmpeg carries."""

from __future__ import annotations

import math
import re
import subprocess
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, Literal, TypeVar

import numpy as np
from torch import Tensor

from core.errors import UserError
from core.ffmpeg import SCALE_FLAGS, SQUARE_PIXELS, TO_STANDARD_RANGE, decoding, log_reason, log_text, running
from core.files import atomic_path, regular_file
from core.images import check_size, on_white, to_uint8

T = TypeVar("T")

PICTURE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
# ffmpeg plays what is left of such a file and reports success; only its log shows it.
TRUNCATED = re.compile(r"^\[.*\] (.*(?:ended prematurely|partial file).*)$", re.MULTILINE)
# The decoders that ffmpeg takes for these two unasked drop the alpha channel.
ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
ALPHA_FORMATS = re.compile(r"yuva|rgba|argb|bgra|abgr|gbrap|ya8|ya16|pal8|gray\w*a")


@dataclass(frozen=True)
class Video:
    """A video file whose frames are decoded on demand; `read_video` makes it.

    Attributes:
        path: the file.
        fps: frames per second, exact (30000/1001 stays 30000/1001). For a file with uneven time stamps it is the
            average rate, so that playing all frames at it keeps the duration.
        num_frames: number of frames that decode, counted.
        size: (height, width) as a player shows it: rotated upright, with square pixels.
        decoder: name of the decoder to insist on; empty for ffmpeg's own choice.
        may_have_alpha: the pixel format has an alpha channel, used or not.
        times: seconds from the first frame to each, where they are uneven by more than half a frame; else empty.
        high_range: PQ or HLG, which is mapped to the range of ordinary pictures.
    """

    path: Path
    fps: Fraction
    num_frames: int
    size: tuple[int, int]
    decoder: str = ""
    may_have_alpha: bool = False
    times: tuple[float, ...] = ()
    high_range: bool = False

    def frames(self, indices: Sequence[int] | None = None) -> Iterator[Tensor]:
        """Decode the frames at rising ``indices`` (default: all) one by one as ``[3, H, W]`` in [0, 1].

        Alpha is composited on white. One frame is held at a time, whatever the length of the video.

        Raises:
            UserError: the file ends earlier than when it was opened.
            IndexError: an index is out of range or smaller than the one before.
        """
        return map(on_white, self.pixels(indices))

    def pixels(self, indices: Sequence[int] | None = None, size: tuple[int, int] | None = None) -> Iterator[np.ndarray]:
        """As `frames`, but uint8 ``[H, W, 4]`` with straight alpha.

        Args:
            indices: of the frames; default: all.
            size: (height, width) to which the decoder reduces every frame (area average); None: as it is.
        """
        height, width = size or self.size
        reduced = [f"scale={width}:{height}:flags=area+accurate_rnd+full_chroma_int"] if size else []
        filters = [*([TO_STANDARD_RANGE] if self.high_range else []), SQUARE_PIXELS, *reduced]
        position, data = -1, b""
        output = ["-f", "rawvideo", "-pix_fmt", "rgba", "-"]
        with decoding(self.path, self.decoder, output, filters=filters) as process:
            for index in range(self.num_frames) if indices is None else indices:
                if not max(position, 0) <= index < self.num_frames:
                    raise IndexError(f"frame {index} after {position} of the {self.num_frames} in {self.path}")
                while position < index:
                    data = process.stdout.read(height * width * 4)
                    position += 1
                if len(data) < height * width * 4:
                    raise _unreadable(self.path, f"frame {position} of {self.num_frames} does not decode")
                yield np.frombuffer(bytearray(data), np.uint8).reshape(height, width, 4)


def kind_of(path: str | Path) -> Literal["video", "picture"]:
    """Whether a file is a video or a picture by its suffix, for messages: ffmpeg decodes both."""
    return "picture" if Path(path).suffix.lower() in PICTURE_SUFFIXES else "video"


def read_video(path: str | Path) -> Video:
    """Open a video, or an image as a video of one frame. Decodes it once to learn its exact rate and length.

    Raises:
        UserError: the file is missing, empty, truncated, damaged, of a codec that ffmpeg lacks, or not a video.
    """
    path, kind = regular_file(path, kind_of(path)), kind_of(path)
    if path.stat().st_size == 0:
        raise _unreadable(path, "the file is empty")
    # The framecrc format states time base and size, then prints one line for each decoded frame.
    header: dict[str, str] = {}
    stamps = array("q")
    with tempfile.TemporaryFile() as log:
        with decoding(path, "", ["-f", "framecrc", "-"], log) as process:
            for line in process.stdout:
                key, _, value = line.decode().partition(":")
                if key.startswith("#"):
                    header[key] = value.strip()
                else:
                    stamps.append(int(line.split(b",")[2]))
            status = process.wait()
        report = log_text(log)
    _check_report(path, report, bool(status or not stamps))
    width, height = (int(side) for side in header["#dimensions 0"].split("x"))
    check_size(kind, path, width, height)
    tick = Fraction(header["#tb 0"])
    fps = _rate(1 / tick, len(stamps), stamps[-1] - stamps[0])
    codec, pixels = re.search(r"Video: (\w+)(?: \([^)]*\))*, (\w+(?:\([^)]*\))?)|$", report).groups(default="")
    has_alpha = bool(re.search(r"alpha_mode\s*: 1", report))
    return Video(
        path,
        fps,
        len(stamps),
        (height, width),
        decoder=ALPHA_DECODERS.get(codec, "") if has_alpha else "",
        may_have_alpha=has_alpha or bool(ALPHA_FORMATS.match(pixels)),
        times=_uneven(stamps, tick, fps),
        high_range="smpte2084" in pixels or "arib-std-b67" in pixels,
    )


def _check_report(path: Path, report: str, failed: bool) -> None:
    """Raise `UserError` where ffmpeg's log says that the file did not decode, or not to its end."""
    if "Format not on whitelist" in report:
        raise _unreadable(path, f"it is no {kind_of(path)} but a playlist, a text or of an unknown kind")
    if "no decoder found for" in report:
        codec = re.search(r"Video: \w+ .*?\((\S+) / 0x|$", report)[1] or "which it does not know"
        raise UserError(
            f"cannot read video {path}: ffmpeg has no decoder for its codec {codec}; convert it to H.264 with the "
            f"program that made it"
        )
    cut = TRUNCATED.search(report)
    if cut or failed:
        reason = cut[1] if cut else log_reason(report) or "no frame decodes"
        raise _unreadable(path, f"it is truncated, damaged or not a {kind_of(path)} ({reason})")


def select_frames(num_frames: int, fps: Fraction, target_fps: float = 15) -> tuple[range, Fraction]:
    """Thin a video out towards ``target_fps``: keep every stride-th frame, beginning with the first.

    The stride is floor(fps / target + 0.1), at least 1: 60 fps gives 4, 30 and 30000/1001 give 2, and 25, 24 and
    16 give 1. (Published: int(fps) // 15, where 29.97 gives 1.) No frame at the end is left out.

    Returns:
        the source indices 0, s, 2s, ... < num_frames, and the exact rate fps / s at which they play in real time.
    """
    stride = max(1, math.floor(fps / Fraction(target_fps) + Fraction(1, 10)))
    return range(0, num_frames, stride), fps / stride


def windows(items: Iterable[T], length: int, overlap: int = 1) -> Iterator[list[T]]:
    """Cut a stream into lists of ``length`` items of which neighbours share ``overlap``; the last may be shorter.

    Every item appears and every window brings a new one, so n items make one window if n <= length, otherwise
    1 + ceil((n - length) / (length - overlap)). One window is held at a time.
    """
    if not 0 <= overlap < length:
        raise ValueError(f"windows of {length} items cannot share {overlap}")
    window: list[T] = []
    for item in items:
        if len(window) == length:
            yield window
            window = window[length - overlap :]
        window.append(item)
    if window:
        yield window


@contextmanager
def write_video(
    path: str | Path, fps: Fraction | int, size: tuple[int, int], crf: int = 17, alpha: bool = False
) -> Iterator[VideoEncoder]:
    """Write an H.264 video frame by frame: ``with write_video(path, fps, size) as video: video.write(frame)``.

    The file appears, whole, when the block ends well; otherwise nothing is left of it. Pixels are yuv420p (BT.709)
    so that every player opens it. That needs even sides: of an odd one the last row or column is repeated.

    Args:
        path: file to write; the suffix chooses the container (mp4, mov, mkv).
        fps: exact frame rate.
        size: (height, width) of the frames.
        crf: x264's quality, the smaller the better; 17 looks lossless.
        alpha: the frames are RGBA, straight, and written without loss as PNG; the container is mov.

    Raises:
        UserError: the file cannot be written (full disk, folder without permission).
        ValueError: no frame was written.
    """
    height, width = size
    pixels = "rgba" if alpha else "rgb24"
    source = (
        f"-f rawvideo -pix_fmt {pixels} -framerate {fps} -video_size {width + width % 2}x{height + height % 2} -i -"
    )
    color = f"-vf scale=out_color_matrix=bt709:out_range=tv:{SCALE_FLAGS} -colorspace bt709 -color_primaries bt709"
    codec = f"{color} -color_trc bt709 -color_range tv -c:v libx264 -pix_fmt yuv420p -crf {crf} -movflags +faststart"
    codec = "-c:v png -pix_fmt rgba" if alpha else codec
    command = ["-y", "-loglevel", "error", *source.split(), *codec.split()]
    with (
        tempfile.TemporaryFile() as log,
        atomic_path(path) as temporary,
        running([*command, f"file:{temporary}"], stdin=subprocess.PIPE, stderr=log) as process,
    ):
        encoder = VideoEncoder(Path(path), size, process, log)
        yield encoder
        encoder.finish()


@dataclass
class VideoEncoder:
    """Takes the frames of one video; `write_video` makes it."""

    path: Path
    size: tuple[int, int]
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    num_frames: int = 0

    def write(self, frame: Tensor) -> None:
        """Append one frame ``[3, H, W]`` in [0, 1]."""
        if frame.shape != (3, *self.size):
            raise ValueError(f"{self.path} takes frames {(3, *self.size)}, got {tuple(frame.shape)}")
        self.write_pixels(to_uint8(frame))

    def write_pixels(self, pixels: np.ndarray) -> None:
        """Append one frame as uint8 ``[H, W, 3]``, with alpha ``[H, W, 4]``."""
        height, width = self.size
        pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        with self._reporting():
            self.process.stdin.write(pixels.tobytes())
        self.num_frames += 1

    def finish(self) -> None:
        """Wait until the encoder has written everything."""
        if not self.num_frames:
            raise ValueError(f"{self.path}: a video needs at least one frame")
        with self._reporting():
            self.process.stdin.close()
            if self.process.wait():
                raise OSError

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            status = self.process.wait()
            reason = log_reason(log_text(self.log)) or f"the encoder stopped with status {status}"
            raise UserError(f"cannot write {self.path}: {reason}; free some space or choose another folder") from error


def _rate(nominal: Fraction, num_frames: int, ticks: int) -> Fraction:
    """Frames per second from the nominal rate and the first-to-last distance in ticks of 1 / nominal seconds."""
    even = num_frames == 1 or ticks in (0, num_frames - 1)
    if even:
        return nominal
    average = nominal * (num_frames - 1) / ticks
    largest = 1001 if average >= 1 else 10**6  # one picture an hour is a rate too
    return max(average.limit_denominator(largest), Fraction(1, largest))


def _uneven(stamps: Sequence[int], tick: Fraction, fps: Fraction) -> tuple[float, ...]:
    """Seconds of the frames where one is more than half a frame away from its place at an even rate; else empty."""
    times = np.asarray(stamps, np.float64) * float(tick)
    times -= times[0]
    even = np.arange(len(times)) / float(fps)
    return tuple(times.tolist()) if np.abs(times - even).max() * float(fps) > 0.5 else ()


def _unreadable(path: Path, reason: str) -> UserError:
    kind = kind_of(path)
    advice = (
        "give a whole png, jpg, webp or tif"
        if kind == "picture"
        else f"give a whole mp4, mov, webm or gif, or mend a damaged one with: ffmpeg -i {path} mended.mp4"
    )
    return UserError(f"cannot read {kind} {path}: {reason}; {advice}")
