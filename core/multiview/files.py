"""Four views as image files: ``<name>_000.png`` ... ``<name>_003.png``, as published."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from core.conventions import NUM_VIEWS
from core.errors import UserError
from core.files import atomic_path
from core.images import load_image, resize_area, to_uint8

_COMPARE_SIZE = 64  # pixels


def view_paths(folder: Path, name: str, tag: str = "") -> list[Path]:
    """Where the views of ``name`` are in a folder: azimuth 0, 90, 180, 270. ``tag`` is ``_mv`` for raw views."""
    return [folder / f"{name}{tag}_{view:03d}.png" for view in range(NUM_VIEWS)]


def find_views(folder: Path, name: str, tag: str = "") -> dict[int, Path]:
    """The existing ones of the four view images of ``name``, by number."""
    return {view: path for view, path in enumerate(view_paths(folder, name, tag)) if path.is_file()}


def load_views(paths: list[Path]) -> Tensor:
    """Read views as ``[V, 3, S, S]`` in [0, 1].

    Raises:
        UserError: a file cannot be read, is not square, or differs in size from the first.
    """
    views = [load_image(path) for path in paths]
    for path, view in zip(paths, views, strict=True):
        height, width = view.shape[-2:]
        if height != width or view.shape != views[0].shape:
            first = views[0].shape
            raise UserError(
                f"side view {path} is {width}x{height} pixels and {paths[0].name} is {first[-1]}x{first[-2]}; "
                f"they must be squares of one size"
            )
    return torch.stack(views)


def encoded_views(views: Tensor, folder: Path, name: str, tag: str = "") -> dict[Path, bytes]:
    """Views ``[4, 3, S, S]`` encoded as file contents, not yet written."""
    found = {}
    for view, path in zip(views, view_paths(folder, name, tag), strict=True):
        buffer = BytesIO()
        Image.fromarray(to_uint8(view)).save(buffer, "PNG")
        found[path] = buffer.getvalue()
    return found


def save_views(views: Tensor, folder: Path, name: str, tag: str = "") -> list[Path]:
    """Write ``[4, 3, S, S]`` and return the paths. Raises `UserError` where they cannot be written."""
    return write_views(encoded_views(views, folder, name, tag))


def write_views(encoded: Mapping[Path, bytes]) -> list[Path]:
    """Write the result of `encoded_views`, each file atomically, and return the paths."""
    for path, content in encoded.items():
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)
    return list(encoded)


def unlikeness(view: Tensor, frame: Tensor) -> float:
    """Distance of a view from a frame, both square ``[3, *, *]`` on white: 0 for equal ones, 1 for a blank view.

    The squared error at 64 pixels over that of a blank view. Frames of different objects had 0.75 and more.
    """
    size = (_COMPARE_SIZE, _COMPARE_SIZE)
    view, frame = resize_area(view, size), resize_area(frame, size)
    return float(((view - frame) ** 2).mean() / ((1 - frame) ** 2).mean().clamp_min(1e-4))
