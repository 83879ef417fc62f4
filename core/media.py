"""Videos in and out, one frame at a time, through the ffmpeg program that imageio-ffmpeg carries."""

from __future__ import annotations

import math
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, Literal, TypeVar

import numpy as np
from imageio_ffmpeg import get_ffmpeg_exe
from torch import Tensor

from core.errors import UserError
from core.files import atomic_path, regular_file
from core.images import MAX_SIDE, check_size, on_white, to_uint8

T = TypeVar("T")

PICTURE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
SCALE_FLAGS = "flags=bicubic+accurate_rnd+full_chroma_int"
# Non-square pixels are resampled to square ones, as players do.
SQUARE_PIXELS = f"scale=w=round(iw*sar):h=ih:{SCALE_FLAGS},setsar=1"
# ffmpeg decodes the rest of a truncated file and reports success; only its log shows the error.
TRUNCATED = re.compile(r"^\[.*\] (.*(?:ended prematurely|partial file).*)$", re.MULTILINE)
# ffmpeg's default decoders of these two drop the alpha channel.
ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
# Self-contained formats. Playlists (concat, hls, dash, sdp, image2's patterns) name other files and hosts; text
# would be played as a film of a terminal.
CONTAINERS = (
    "mov,matroska,avi,gif,mpeg,mpegts,mpegvideo,m4v,mjpeg,flv,ogg,asf,mxf,dv,nut,ivf,h264,hevc,av1,obu,yuv4mpegpipe,"
    "apng,png_pipe,jpeg_pipe,jpegxl_pipe,bmp_pipe,tiff_pipe,webp_pipe,webp_anim"
)


@dataclass(frozen=True)
class Video:
    """A video file whose frames are decoded on demand; `read_video` makes it.

    Attributes:
        path: the file.
        fps: frames per second, exact (30000/1001 stays 30000/1001). For a file with uneven time stamps it is the
            average rate, so that playing all frames at it keeps the duration.
        num_frames: number of frames that decode, counted.
        size: (height, width) as a player shows it: rotated upright, with square pixels.
        decoder: name of the decoder; empty for ffmpeg's default.
    """

    path: Path
    fps: Fraction
    num_frames: int
    size: tuple[int, int]
    decoder: str = ""

    def frames(self, indices: Sequence[int] | None = None) -> Iterator[Tensor]:
        """Decode the frames at rising ``indices`` (default: all) one by one as ``[3, H, W]`` in [0, 1].

        Alpha is composited on white. One frame is in memory at a time.

        Raises:
            UserError: the file has become shorter since it was opened.
            IndexError: an index is out of range or smaller than the one before.
        """
        height, width = self.size
        position, data = -1, b""
        output = ["-f", "rawvideo", "-pix_fmt", "rgba", "-"]
        with _decoder(self.path, self.decoder, output) as process:
            for index in range(self.num_frames) if indices is None else indices:
                if not max(position, 0) <= index < self.num_frames:
                    raise IndexError(f"frame {index} after {position} of the {self.num_frames} in {self.path}")
                while position < index:
                    data = process.stdout.read(height * width * 4)
                    position += 1
                if len(data) < height * width * 4:
                    raise _unreadable(self.path, f"frame {position} of {self.num_frames} does not decode")
                yield on_white(np.frombuffer(bytearray(data), np.uint8).reshape(height, width, 4))


def kind_of(path: str | Path) -> Literal["video", "picture"]:
    """Whether a file is a video or a picture by its suffix, for messages: ffmpeg decodes both."""
    return "picture" if Path(path).suffix.lower() in PICTURE_SUFFIXES else "video"


def read_video(path: str | Path) -> Video:
    """Open a video, or an image as a video of one frame. Decodes it once to learn its exact rate and length.

    Raises:
        UserError: the file is missing, empty, truncated, damaged or not a video.
    """
    path, kind = regular_file(path, kind_of(path)), kind_of(path)
    if path.stat().st_size == 0:
        raise _unreadable(path, "the file is empty")
    # The framecrc format states time base and size, then prints one line for each decoded frame.
    header: dict[str, str] = {}
    stamps: list[int] = []  # first and last presentation time
    num_frames = 0
    with tempfile.TemporaryFile() as log:
        with _decoder(path, "", ["-f", "framecrc", "-"], log) as process:
            for line in process.stdout:
                key, _, value = line.decode().partition(":")
                if key.startswith("#"):
                    header[key] = value.strip()
                else:
                    stamps[1:] = [int(line.split(b",")[2])]
                    num_frames += 1
            status = process.wait()
        report = _text(log)
    cut = TRUNCATED.search(report)
    codec = re.search(r"Video: (\w+)|$", report)[1]
    if "Format not on whitelist" in report:
        raise _unreadable(path, f"it is no {kind} but a playlist, a text or of an unknown kind")
    if cut or status or not num_frames:
        reason = cut[1] if cut else _reason(report) or "no frame decodes"
        raise _unreadable(path, f"it is truncated, damaged or not a {kind} ({reason})")
    width, height = (int(side) for side in header["#dimensions 0"].split("x"))
    check_size(kind, path, width, height)
    fps = _rate(1 / Fraction(header["#tb 0"]), num_frames, stamps[-1] - stamps[0])
    has_alpha = re.search(r"alpha_mode\s*: 1", report)
    return Video(path, fps, num_frames, (height, width), ALPHA_DECODERS.get(codec, "") if has_alpha else "")


def select_frames(num_frames: int, fps: Fraction, target_fps: float = 15) -> tuple[range, Fraction]:
    """Subsample a video to about ``target_fps``: keep every stride-th frame, beginning with the first.

    The stride is floor(fps / target + 0.1), at least 1: 60 fps gives 4, 30 and 30000/1001 give 2, and 25, 24 and
    16 give 1. (Published: int(fps) // 15, where 29.97 gives 1.) No frame at the end is left out.

    Returns:
        the source indices 0, s, 2s, ... < num_frames, and the exact rate fps / s at which they play in real time.
    """
    stride = max(1, math.floor(fps / Fraction(target_fps) + Fraction(1, 10)))
    return range(0, num_frames, stride), fps / stride


def windows(items: Iterable[T], length: int, overlap: int = 1) -> Iterator[list[T]]:
    """Cut a stream into lists of ``length`` items of which neighbours share ``overlap``; the last may be shorter.

    Every item appears and every window adds a new one: n items give one window if n <= length, otherwise
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
def write_video(path: str | Path, fps: Fraction | int, size: tuple[int, int], crf: int = 17) -> Iterator[VideoEncoder]:
    """Write an H.264 video frame by frame: ``with write_video(path, fps, size) as video: video.write(frame)``.

    The file appears when the block ends without error; otherwise nothing is left. Pixels are yuv420p (BT.709)
    so that every player opens it. This needs even sides: the last row or column of an odd side is repeated.

    Args:
        path: file to write; the suffix chooses the container (mp4, mov, mkv).
        fps: exact frame rate.
        size: (height, width) of the frames.
        crf: x264's quality, lower is better; 17 looks lossless.

    Raises:
        UserError: the file cannot be written (full disk, folder without permission).
        ValueError: no frame was written.
    """
    height, width = size
    source = f"-f rawvideo -pix_fmt rgb24 -framerate {fps} -video_size {width + width % 2}x{height + height % 2} -i -"
    color = f"-vf scale=out_color_matrix=bt709:out_range=tv:{SCALE_FLAGS} -colorspace bt709 -color_primaries bt709"
    codec = f"{color} -color_trc bt709 -color_range tv -c:v libx264 -pix_fmt yuv420p -crf {crf} -movflags +faststart"
    command = ["-y", "-loglevel", "error", *source.split(), *codec.split()]
    with (
        tempfile.TemporaryFile() as log,
        atomic_path(path) as temporary,
        _ffmpeg([*command, f"file:{temporary}"], stdin=subprocess.PIPE, stderr=log) as process,
    ):
        encoder = VideoEncoder(Path(path), size, process, log)
        yield encoder
        encoder.finish()


@dataclass
class VideoEncoder:
    """Encodes the frames of one video; made by `write_video`."""

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
        """Append one frame as uint8 ``[H, W, 3]``."""
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
            reason = _reason(_text(self.log)) or f"the encoder stopped with status {status}"
            raise UserError(f"cannot write {self.path}: {reason}; free some space or choose another folder") from error


@contextmanager
def _decoder(
    path: Path, decoder: str, output: list[str], log: IO[bytes] | int = subprocess.DEVNULL
) -> Iterator[subprocess.Popen[bytes]]:
    """Decode the first video stream (no cover pictures) of one file, every frame once, upright.

    ffmpeg gets the open file and may not open any other file or address that the file names.
    """
    codec = ["-c:v", decoder] if decoder else []
    limits = ["-xerror", "-max_alloc", str(1 << 30), "-max_pixels", str(MAX_SIDE**2)]
    source = [*limits, "-protocol_whitelist", "fd", "-format_whitelist", CONTAINERS, *codec, "-i", "fd:"]
    stream = ["-map", "0:V:0", "-vf", SQUARE_PIXELS, "-fps_mode", "passthrough"]
    with (
        regular_file(path, "video").open("rb") as file,
        _ffmpeg([*source, *stream, *output], stdin=file, stdout=subprocess.PIPE, stderr=log) as process,
    ):
        yield process


@contextmanager
def _ffmpeg(arguments: list[str], **pipes: IO[bytes] | int) -> Iterator[subprocess.Popen[bytes]]:
    """Run ffmpeg for the length of the block, in a session of its own, so that Ctrl-C reaches this process only."""
    command = [get_ffmpeg_exe(), "-nostdin", "-hide_banner", *arguments]
    pipes = {"stderr": subprocess.DEVNULL, **pipes}
    process = subprocess.Popen(command, start_new_session=True, **pipes)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in filter(None, (process.stdin, process.stdout)):
            with suppress(OSError):  # closing flushes data to a process that may have ended
                pipe.close()


def _rate(nominal: Fraction, num_frames: int, ticks: int) -> Fraction:
    """Frames per second from the nominal rate and the first-to-last distance in ticks of 1 / nominal seconds."""
    even = num_frames == 1 or ticks in (0, num_frames - 1)
    return nominal if even else (nominal * (num_frames - 1) / ticks).limit_denominator(1001)


def _text(log: IO[bytes]) -> str:
    log.seek(0)
    return log.read().decode(errors="replace")


def _reason(report: str) -> str:
    """The error line of an ffmpeg log, without the module in brackets."""
    lines = [re.sub(r"^\[.*?\] ", "", line) for line in report.splitlines()]
    telling = re.compile(r"Invalid|[Ee]rror|not found|matches no|corrupt|No space|denied|Unknown|File too large")
    return next((line.strip() for line in lines if telling.search(line)), "")


def _unreadable(path: Path, reason: str) -> UserError:
    kind = kind_of(path)
    advice = (
        "give a whole png, jpg, webp or tif"
        if kind == "picture"
        else f"give a whole mp4, mov, webm or gif, or mend a damaged one with: ffmpeg -i {path} mended.mp4"
    )
    return UserError(f"cannot read {kind} {path}: {reason}; {advice}")
