"""Tiny clips, protocols and a network for the tests of the evaluation."""

from __future__ import annotations

from pathlib import Path

from tests.clip_factory import write_clip


def write_protocol(folder: Path, name: str = "views", **fields: object) -> Path:
    """A protocol file; values as TOML, without them one over two tiny clips."""
    values = {"task": "'reconstruct'", "objects": "['p-cow-0', 'p-fish-0']", "frames": "3", **fields}
    path = folder / f"{name}.toml"
    path.write_text("\n".join(f"{key} = {value}" for key, value in values.items() if value is not None))
    return path


def write_clips(home: Path, frames: int = 5) -> Path:
    """Two clips whose colours change from frame to frame and view to view."""
    home.mkdir(exist_ok=True)
    for name in ("p-cow-0", "p-fish-0"):
        write_clip(home, name, frames=frames)
        write_clip(home, name, frames=frames, kinds=("fixed_16_24fps", "random_24fps"))
    return home
