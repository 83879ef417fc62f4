"""The files that keep a sequence, written while it streams by."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Literal, Protocol

import torch
from einops import rearrange
from torch import Tensor

from core.images import contact_sheet, letterbox, save_image
from core.inference.sequence import Moment
from core.inference.turntable import Turntable
from core.media import write_video
from core.multiview.files import view_paths
from core.ply import Layout, save_ply
from core.rendering.orbit import OrbitRenderer

Kind = Literal["wo_interp", "w_interp"]
MIN_OPACITY = 0.005  # fainter Gaussians stay out of the .ply files, as published
SHEET_COLUMNS, SHEET_CELL = 8, 128


def lift_outputs(name: str) -> list[str]:
    """Everything that infer_3d writes into the workspace for a video."""
    views = [*view_paths(Path(), name), *view_paths(Path(), name, "_mv")]
    return [name, f"{name}.mp4", f"{name}.ply", f"{name}_orig.png", *map(str, views)]


def sequence_outputs(name: str) -> list[str]:
    """Everything that infer_4d writes into the workspace for a video."""
    videos = [f"{kind}_{name}{fixed}.mp4" for kind in ("wo_interp", "w_interp") for fixed in ("", "_fixed")]
    return [name, *videos, *map(str, view_paths(Path(), name))]


def ply_path(workspace: Path, name: str, index: int) -> Path:
    """The file of set number ``index``, counted from 0; the files count from 1."""
    return workspace / name / f"frame{index + 1:04d}.ply"


def clear_previous(workspace: Path, name: str) -> None:
    """Remove the videos, .ply files and contact sheet of an earlier run, so that two runs never mix."""
    for output in sequence_outputs(name):
        if output.endswith(".mp4"):
            (workspace / output).unlink(missing_ok=True)
    for path in (workspace / name).glob("frame*.ply"):
        if re.fullmatch(r"frame\d{4,}\.ply", path.name):
            path.unlink()
    (workspace / name / "contact_sheet.png").unlink(missing_ok=True)


class Sink(Protocol):
    """Takes the moments of a sequence in order."""

    def __call__(self, index: int, moment: Moment) -> None:
        """Keep moment number ``index``."""
        ...


def passing(moments: Iterator[Moment], sink: Sink) -> Iterator[Moment]:
    """Show every moment to ``sink`` on its way."""
    for index, moment in enumerate(moments):
        sink(index, moment)
        yield moment


@contextmanager
def sequence_videos(
    workspace: Path, kind: Kind, name: str, count: int, rate: Fraction, orbit: OrbitRenderer
) -> Iterator[Sink]:
    """Write the two videos of a sequence: four fixed views side by side at its own rate, and the turntable.

    Args:
        workspace, kind, name: the files are ``<kind>_<name>_fixed.mp4`` and ``<kind>_<name>.mp4``.
        count: number of moments that will come.
        rate: of the moments, per second.
        orbit: renders.
    """
    turntable = Turntable(workspace / f"{kind}_{name}.mp4", count, rate, orbit)
    size = (orbit.size, 4 * orbit.size)
    with write_video(workspace / f"{kind}_{name}_fixed.mp4", rate, size) as fixed:

        def sink(index: int, moment: Moment) -> None:
            fixed.write(rearrange(moment.views, "v c h w -> c h (v w)"))
            turntable.add(index, moment.gaussians[None])

        yield sink
    turntable.finish()


class PlyFiles:
    """A sink that writes every set to its numbered .ply file."""

    def __init__(
        self, workspace: Path, name: str, rate: Fraction, orientation: Literal["viewer", "world"], layout: Layout
    ) -> None:
        self.workspace, self.name, self.orientation, self.layout = workspace, name, orientation, layout
        self.rate = rate

    def __call__(self, index: int, moment: Moment) -> None:
        """Write one file; it is whole or not there at all."""
        save_ply(
            moment.gaussians,
            ply_path(self.workspace, self.name, index),
            orientation=self.orientation,
            layout=self.layout,
            min_opacity=MIN_OPACITY,
            metadata={"time_seconds": float(index / self.rate)},
        )


class ContactSheet:
    """A sink that keeps up to eight evenly spaced moments for one picture: the video's frame above its four views.

    Args:
        num_frames: of the video; moments between its frames are passed over.
    """

    def __init__(self, num_frames: int) -> None:
        columns = min(SHEET_COLUMNS, num_frames)
        self.times = {round(time) for time in torch.linspace(0, num_frames - 1, columns).tolist()}
        self.columns: list[Sequence[Tensor]] = []

    def __call__(self, index: int, moment: Moment) -> None:
        """Keep the moment, made small, if it is one of the chosen."""
        if moment.time in self.times:
            images = [moment.frame, *moment.views]
            self.columns.append([letterbox(image.cpu(), SHEET_CELL) for image in images])

    def save(self, path: Path) -> None:
        """Write the picture."""
        captions = ["input", *(f"azimuth {azimuth}" for azimuth in (0, 90, 180, 270))]
        save_image(contact_sheet(list(zip(*self.columns, strict=True)), captions, SHEET_CELL), path)
