"""Names, frames and files of clips, without Blender.

A clip is a stretch of at most one second (24 scene frames) of one animation of one object. Its *line*,
``<pack>-<object>-<animation>-<clip>.tar``, is its entry in a data list; readers group lines by the second
``-``-separated token, the object. Each line has one tar per kind of camera, ``<data_home>/<kind>-<line>``, with members

    ./VVV/img/TTT.jpg                 colour on white, view VVV, frame TTT
    ./VVV/mask/TTT.png                8-bit alpha
    ./VVV/camera/elevation.npy        float32 [frames], degrees, positive above the horizon
    ./VVV/camera/rotation.npy         float32 [frames], azimuth in degrees
    ./VVV/camera/rt_matrix.npy        float32 [frames, 3, 4], OpenCV world-to-camera in the y-up world
"""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from blender_scripts.rig import View, world_to_camera
from core.files import atomic_path

SCENE_FPS = 24
CLIP_SCENE_FRAMES = 24
MIN_TAIL_FRAMES = 12
JPEG_QUALITY = 95


def clip_kinds(fps: int) -> dict[str, str]:
    """File-name prefixes of the two camera modes: ``*_24fps`` at 24 frames a second, ``*_clip`` at any slower rate."""
    if fps == SCENE_FPS:
        return {"random": "random_24fps", "fixed": "fixed_16_24fps"}
    return {"random": "random_clip", "fixed": "fixed_16_clip"}


def clip_line(pack: str, name: str, animation: int, clip: int) -> str:
    """The data-list line of a clip. Dashes inside pack and object become underscores: a dash separates the tokens."""
    return f"{pack.replace('-', '_')}-{name.replace('-', '_')}-{animation:03d}-{clip:02d}.tar"


def clip_path(data_home: Path, kind: str, line: str) -> Path:
    """Path of the tar of a line: ``<data_home>/<kind>-<line>``, every ``/`` of the line replaced by ``-``."""
    return data_home / f"{kind}-{line}".replace("/", "-")


def points_path(data_home: Path, line: str) -> Path:
    """File with the points on the surface of a clip, see `export_points.py`."""
    return data_home / f"points-{line.removesuffix('.tar').replace('/', '-')}.npy"


def clip_starts(length: int) -> list[int]:
    """First scene frames of the one-second clips of an animation of ``length`` scene frames.

    The first clip is always included; a tail shorter than half a second is dropped.
    """
    starts = range(0, max(length, 1), CLIP_SCENE_FRAMES)
    return [start for start in starts if start == 0 or length - start >= MIN_TAIL_FRAMES]


def clip_frames(start: int, length: int, downsample: int, limit: int | None, cyclic: bool) -> list[int]:
    """Scene frames of a clip: every ``downsample``-th from ``start`` through one second, at most ``limit`` of them.

    After its end a cyclic animation (last pose = first pose) repeats; any other stays in its last pose.
    """
    frames = range(start, start + CLIP_SCENE_FRAMES, downsample)[:limit]
    if cyclic and length > 1:
        return [frame % (length - 1) for frame in frames]
    return [min(frame, length - 1) for frame in frames]


def spread(items: list) -> list:
    """Reorder so that every prefix covers the list evenly (van der Corput order)."""
    bits = max(1, (len(items) - 1).bit_length())
    order = [int(f"{i:0{bits}b}"[::-1], 2) for i in range(1 << bits)]
    return [items[i] for i in order if i < len(items)]


def choose_clips(lengths: dict[int, int], limit: int | None) -> list[tuple[int, int]]:
    """At most ``limit`` pairs (animation, clip), spread over the animations, first clips before second ones.

    A larger limit extends the choice of a smaller one.

    Args:
        lengths: scene frames of every animation, by index.
    """
    rounds: dict[int, list[tuple[int, int]]] = {}
    for animation, length in lengths.items():
        for clip, _ in enumerate(clip_starts(length)):
            rounds.setdefault(clip, []).append((animation, clip))
    return [pair for clip in sorted(rounds) for pair in spread(rounds[clip])][:limit]


def composite_on_white(rgba: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split straight-alpha uint8 ``[H, W, 4]`` into colour on white ``[H, W, 3]`` and alpha ``[H, W]``, both uint8."""
    alpha = rgba[..., 3:].astype(np.float32) / 255.0
    colour = rgba[..., :3] * alpha + 255.0 * (1.0 - alpha)
    return np.round(colour).astype(np.uint8), rgba[..., 3].copy()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # time 0 and owner 0: the same clip gives the same bytes
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array.astype(np.float32))
    return buffer.getvalue()


def _image(array: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, **options)
    return buffer.getvalue()


def encode(rgba: np.ndarray) -> tuple[bytes, bytes]:
    """Encode straight-alpha uint8 RGBA ``[H, W, 4]`` as JPEG of its colour on white and PNG of its alpha."""
    colour, alpha = composite_on_white(rgba)
    return _image(colour, format="JPEG", quality=JPEG_QUALITY, subsampling=0), _image(alpha, format="PNG")


def write_clip(path: Path, views: dict[View, list[tuple[bytes, bytes]]]) -> None:
    """Write a clip tar, whole or not at all.

    Args:
        views: camera -> its frames, as `encode` returns them.
    """
    with atomic_path(path) as temporary, tarfile.open(temporary, "w") as tar:
        for view, frames in views.items():
            folder, count = f"./{view.number:03d}", len(frames)
            _add(tar, f"{folder}/camera/elevation.npy", _npy(np.full(count, view.elevation)))
            _add(tar, f"{folder}/camera/rotation.npy", _npy(np.full(count, view.azimuth)))
            _add(tar, f"{folder}/camera/rt_matrix.npy", _npy(np.repeat(world_to_camera(view)[None], count, axis=0)))
            for index, (picture, mask) in enumerate(frames):
                _add(tar, f"{folder}/img/{index:03d}.jpg", picture)
                _add(tar, f"{folder}/mask/{index:03d}.png", mask)


def frame_count(path: Path) -> int:
    """Number of frames of a clip tar, from its first camera file."""
    with tarfile.open(path) as tar:
        return len(np.load(io.BytesIO(tar.extractfile(tar.next()).read())))


def write_datalists(data_home: Path) -> dict[str, int]:
    """List all clips of ``data_home`` that have both kinds of cameras; return list name -> number of lines.

    ``datalist_8fps.txt`` and ``datalist_24fps.txt`` list animated clips, ``datalist_static.txt`` one-frame clips.
    """
    lists: dict[str, list[str]] = {}
    for fps, name in ((8, "datalist_8fps.txt"), (24, "datalist_24fps.txt")):
        kinds = clip_kinds(fps)
        for path in sorted(data_home.glob(f"{kinds['fixed']}-*.tar")):
            line = path.name.removeprefix(f"{kinds['fixed']}-")
            if clip_path(data_home, kinds["random"], line).exists():
                target = name if frame_count(path) > 1 else "datalist_static.txt"
                lists.setdefault(target, []).append(line)
    for name, lines in lists.items():
        with atomic_path(data_home / name) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in lines))
    return {name: len(lines) for name, lines in lists.items()}
