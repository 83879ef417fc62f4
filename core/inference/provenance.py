"""Where results come from: the metadata file, and whose the side-view images are."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy
import torch

from core.checkpoint import file_hash
from core.errors import UserError
from core.files import atomic_path, read_json


def metadata_path(workspace: Path, name: str) -> Path:
    """The metadata file of a video's results."""
    return workspace / name / "metadata.json"


def write_metadata(path: Path, content: Mapping[str, object]) -> None:
    """Write JSON, whole or not at all. Raises `UserError` where it cannot be written."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")


def versions() -> dict[str, str]:
    """Versions of what shapes the numbers."""
    try:
        own = version("l4gm")
    except PackageNotFoundError:  # run from a checkout without installing
        own = "unknown"
    return {
        "l4gm": own,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
    }


def side_view_record(program: str, origin: str, source_sha256: str, files: list[Path]) -> dict[str, object]:
    """What the metadata file remembers of side views that a program wrote.

    Args:
        program: ``infer_3d`` or ``infer_4d``.
        origin: what they were made with, in words.
        source_sha256: of the video.
        files: the images.
    """
    hashes = {path.name: file_hash(path) for path in files}
    return {"program": program, "origin": origin, "source_sha256": source_sha256, "files": hashes}


def read_record(workspace: Path, name: str, files: list[Path]) -> Mapping[str, object] | None:
    """The record of exactly these image files in an earlier run's metadata; None if they are not of our writing."""
    try:
        record = read_json(metadata_path(workspace, name))["side_views"]
        ours = all(record["files"][path.name] == file_hash(path) for path in files)
        return record if ours and {"program", "source_sha256"} <= record.keys() else None
    except (UserError, KeyError, TypeError, AttributeError):
        return None  # no earlier run, or a file of another making
