"""Tiny clips in the published tar layout, for the tests of the data code."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 32


def view_color(view_id: int, frame: int) -> tuple[int, int, int]:
    """The colour that marks one image: red is the view id, green the frame. All are far from white."""
    return (4 * view_id, 20 * frame, 60)


def write_clip(
    home: Path,
    name: str,
    *,
    fixed: Iterable[int] = range(0, 16, 2),
    random: Iterable[int] = range(4),
    frames: int = 4,
    size: int = SIZE,
    kinds: tuple[str, str] = ("fixed_16_clip", "random_clip"),
    leave_out: tuple[str, ...] = (),
    replace: Mapping[str, bytes] = {},
) -> tuple[Path, Path]:
    """Write the two tars of a clip: a square of the view's colour on white, filling the middle half of the image.

    Args:
        fixed, random: view numbers in the two tars.
        leave_out: members that are not written, such as ``"002/img/001.jpg"`` (from both tars).
        replace: other contents for single members.
    """
    paths = []
    for kind, views, first_id in zip(kinds, (fixed, random), (32, 0), strict=True):
        members: dict[str, bytes] = {}
        for view in views:
            azimuth = np.full(frames, 22.5 * view) if first_id else np.full(frames, 37.0 * view)
            elevation = np.zeros(frames) if first_id else np.full(frames, 5.0 + view)
            for frame in range(frames):
                members[f"{view:03d}/img/{frame:03d}.jpg"] = _picture(view_color(view + first_id, frame), size)
                members[f"{view:03d}/mask/{frame:03d}.png"] = _mask(size)
            members[f"{view:03d}/camera/elevation.npy"] = npy(elevation[:, None])
            members[f"{view:03d}/camera/rotation.npy"] = npy(azimuth)
        members |= {key: value for key, value in replace.items() if key in members}
        path = home / f"{kind}-{name.replace('/', '-')}"
        with tarfile.open(path, "w") as tar:
            for member, content in members.items():
                if member not in leave_out:
                    info = tarfile.TarInfo(f"./{member}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
        paths.append(path)
    return paths[0], paths[1]


def npy(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def _picture(color: tuple[int, int, int], size: int) -> bytes:
    pixels = np.full((size, size, 3), 255, np.uint8)
    pixels[size // 4 : -size // 4, size // 4 : -size // 4] = color
    return _encoded(pixels, "JPEG", quality=95, subsampling=0)


def _mask(size: int) -> bytes:
    pixels = np.zeros((size, size), np.uint8)
    pixels[size // 4 : -size // 4, size // 4 : -size // 4] = 255
    return _encoded(pixels, "PNG")


def _encoded(pixels: np.ndarray, file_format: str, **settings: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, file_format, **settings)
    return buffer.getvalue()
