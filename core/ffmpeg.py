"""The ffmpeg program that imageio-ffmpeg carries: started, fed one file only, its log read."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from imageio_ffmpeg import get_ffmpeg_exe

from core.files import regular_file
from core.images import MAX_SIDE

SCALE_FLAGS = "flags=bicubic+accurate_rnd+full_chroma_int"
# Pixels that are not square are resampled until they are: the picture is shown as a player shows it.
SQUARE_PIXELS = f"scale=w=round(iw*sar):h=ih:{SCALE_FLAGS},setsar=1"
# Curves of high dynamic range (PQ, HLG): 203 cd/m2 is the white of an ordinary picture (ITU-R BT.2408).
TO_STANDARD_RANGE = (
    "zscale=t=linear:npl=203,format=gbrpf32le,zscale=p=bt709,tonemap=mobius,zscale=t=bt709:m=bt709:r=tv,format=yuv444p"
)
# What one file holds whole. Playlists (concat, hls, dash, sdp, image2's patterns) name other files and hosts; text
# would be played as a film of a terminal.
CONTAINERS = (
    "mov,matroska,avi,gif,mpeg,mpegts,mpegvideo,m4v,mjpeg,flv,ogg,asf,mxf,dv,nut,ivf,h264,hevc,av1,obu,yuv4mpegpipe,"
    "apng,png_pipe,jpeg_pipe,jpegxl_pipe,bmp_pipe,tiff_pipe,webp_pipe,webp_anim"
)
_TELLING = re.compile(r"Invalid|[Ee]rror|not found|matches no|corrupt|No space|denied|Unknown|File too large")


@contextmanager
def decoding(
    path: Path,
    decoder: str,
    output: Sequence[str],
    log: IO[bytes] | int = subprocess.DEVNULL,
    filters: Sequence[str] = (SQUARE_PIXELS,),
) -> Iterator[subprocess.Popen[bytes]]:
    """Read one file only, its first true video stream (no cover pictures), every frame once, upright.

    ffmpeg gets the open file and no leave to open another, on disk or in the network, whatever the file names.

    Args:
        path: the file.
        decoder: to insist on; empty for ffmpeg's own choice.
        output: ffmpeg's arguments for what it writes.
        log: takes what ffmpeg says.
        filters: of ffmpeg, in order.
    """
    codec = ["-c:v", decoder] if decoder else []
    limits = ["-xerror", "-max_alloc", str(1 << 30), "-max_pixels", str(MAX_SIDE**2)]
    source = [*limits, "-protocol_whitelist", "fd", "-format_whitelist", CONTAINERS, *codec, "-i", "fd:"]
    stream = ["-map", "0:V:0", "-vf", ",".join(filters), "-fps_mode", "passthrough"]
    with (
        regular_file(path, "video").open("rb") as file,
        running([*source, *stream, *output], stdin=file, stdout=subprocess.PIPE, stderr=log) as process,
    ):
        yield process


@contextmanager
def running(arguments: Sequence[str], **pipes: IO[bytes] | int) -> Iterator[subprocess.Popen[bytes]]:
    """Run ffmpeg for the length of the block, in a session of its own so that Ctrl-C is ours to handle."""
    command = [get_ffmpeg_exe(), "-nostdin", "-hide_banner", *arguments]
    pipes = {"stderr": subprocess.DEVNULL, **pipes}
    process = subprocess.Popen(command, start_new_session=True, **pipes)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in filter(None, (process.stdin, process.stdout)):
            with suppress(OSError):  # closing flushes what a dead process can no longer take
                pipe.close()


def log_text(log: IO[bytes]) -> str:
    """Everything that ffmpeg said."""
    log.seek(0)
    return log.read().decode(errors="replace")


def log_reason(report: str) -> str:
    """The telling line of an ffmpeg log: what went wrong, without the module in brackets before it."""
    lines = [re.sub(r"^\[.*?\] ", "", line) for line in report.splitlines()]
    return next((line.strip() for line in lines if _TELLING.search(line)), "")
