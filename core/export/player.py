"""A packed clip as one HTML page that plays it, in any browser, from a file, without a network.

The renderer is PlayCanvas, see ``vendor/playcanvas/README.md``. The page holds it deflated, the packed clip as it is,
and the input video as WebP pictures: these are in step with the Gaussians in every browser, while seeking in a video is
slow and inexact.
"""

from __future__ import annotations

import base64
import html
import io
import json
import struct
import zlib
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

from PIL import Image
from torch import Tensor

from core.cameras import FOVY, ORBIT_RADIUS
from core.errors import printable
from core.files import atomic_path, regular_file
from core.images import letterbox, to_uint8
from core.media import read_video, select_frames

VERSION = "2.23.3"
INPUT_SIZE = 256
"""Side of the input video's pictures, pixels."""
_HERE = Path(__file__).resolve().parent
_RENDERER = _HERE / "vendor" / "playcanvas"
_QUALITY = 80  # of the pictures


def write_player(
    path: str | Path,
    clip: str | Path,
    title: str,
    frames: Iterable[Tensor] = (),
    rate: Fraction | int = 1,
    *,
    fovy: float = FOVY,
    radius: float = ORBIT_RADIUS,
) -> None:
    """Write the page.

    Args:
        path: file to write.
        clip: the packed clip, see `core.export.packed`.
        title: any text.
        frames: of the input video, ``[3, H, W]`` in [0, 1]; the first is shown at time 0. None: no video.
        rate: of those, per second.
        fovy: vertical field of view, degrees.
        radius: of the orbit, world units.

    Raises:
        UserError: the clip cannot be read, or the page cannot be written.
    """
    settings = {"fovy": fovy, "radius": radius, "inputRate": float(rate)}
    renderer = (_RENDERER / "playcanvas.min.js").read_bytes()
    parts = {
        "title": html.escape(printable(title)),
        "version": VERSION,
        "licence": (_RENDERER / "LICENSE").read_text(),
        "settings": json.dumps(settings),
        "clip": _text(regular_file(clip, "clip").read_bytes()),
        "frames": _text(b"".join(map(_picture, frames))),
        "renderer": _text(zlib.compress(renderer, 9)),
        "player": (_HERE / "player.js").read_text(),
    }
    pieces = (_HERE / "player.html").read_text().split("{{")
    filled = [pieces[0]]
    for piece in pieces[1:]:
        name, _, rest = piece.partition("}}")
        filled += [parts[name], rest]
    with atomic_path(path) as temporary:
        temporary.write_text("".join(filled), "utf-8")


def read_input(path: str | Path | None) -> tuple[Iterator[Tensor], Fraction]:
    """The frames of a video for `write_player`, and their rate; none without a path.

    Raises:
        UserError: the video cannot be read.
    """
    if path is None:
        return iter(()), Fraction(1)
    video = read_video(path)
    indices, rate = select_frames(video.num_frames, video.fps)
    return (letterbox(frame, INPUT_SIZE) for frame in video.frames(indices)), rate


def _picture(frame: Tensor) -> bytes:
    """A picture, preceded by its length."""
    file = io.BytesIO()
    Image.fromarray(to_uint8(frame)).save(file, "webp", quality=_QUALITY)
    return struct.pack("<I", file.tell()) + file.getvalue()


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
