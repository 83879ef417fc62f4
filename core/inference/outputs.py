"""The files of a result: names, writers of the streamed sequence, and metadata."""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, get_args

import numpy
import torch
from einops import rearrange
from torch import Tensor

from core.checkpoint import file_hash
from core.conventions import INPUT_AZIMUTHS
from core.errors import UserError
from core.export import splat_transform
from core.files import atomic_path, read_json, remove_stale_parts
from core.images import contact_sheet, letterbox, save_image
from core.inference.inputs import Source
from core.inference.sequence import GaussianFrame
from core.inference.turntable import Canvas, Turntable
from core.media import write_video
from core.multiview.files import view_paths
from core.ply import Layout, save_ply

Kind = Literal["wo_interp", "w_interp"]
Program = Literal["infer_3d", "infer_4d"]
Sink = Callable[[int, GaussianFrame], None]
"""Takes the frames of a sequence in order, with their numbers."""

MIN_OPACITY = 0.005  # fainter Gaussians are not written to .ply files, as published
EXPORTED = (".html", ".l4gm", ".4dgs", ".usdc")  # the single files of core.export
SHEET_COLUMNS, SHEET_CELL = 8, 128


def lift_outputs(name: str) -> list[str]:
    """Everything that infer_3d writes into the workspace for a video."""
    views = [*view_paths(Path(), name), *view_paths(Path(), name, "_mv")]
    metadata = metadata_path(Path(), name, "infer_3d")
    own = [f"{name}.mp4", f"{name}.ply", f"{name}_orig.png"]
    return [*own, *input_outputs(name), *map(str, [metadata, *views])]


def sequence_outputs(name: str) -> list[str]:
    """Everything that infer_4d writes into the workspace for a video; the first is the folder of the .ply files."""
    videos = [f"{kind}_{name}{fixed}.mp4" for kind in ("wo_interp", "w_interp") for fixed in ("", "_fixed")]
    endings = ("_metadata.json", "_contact_sheet.png", "_tracks.npz", "_refine.safetensors", "_preview.mp4")
    files = [f"{name}{ending}" for ending in (*EXPORTED, *endings)]
    folders = [f"{name}_{kind}" for kind in splat_transform.SUFFIXES]
    return [name, *videos, *files, *folders, *input_outputs(name), *map(str, view_paths(Path(), name))]


def input_outputs(name: str) -> list[str]:
    """What is written of the input, before any work: a picture of its frames, and those that were cut out."""
    return [f"{name}_input.png", f"{name}_input.mov"]


def save_input_sheet(workspace: Path, source: Source) -> None:
    """Write ``NAME_input.png``: up to sixteen evenly spaced frames as the networks see them."""
    num_frames = len(source.indices)
    chosen = {round(time) for time in torch.linspace(0, num_frames - 1, min(2 * SHEET_COLUMNS, num_frames)).tolist()}
    cells = [frame for index, frame in enumerate(source.frames(SHEET_CELL)) if index in chosen]
    rows = [cells[start : start + SHEET_COLUMNS] for start in range(0, len(cells), SHEET_COLUMNS)]
    save_image(contact_sheet(rows, cell=SHEET_CELL), workspace / f"{source.name}_input.png")


def ply_path(workspace: Path, name: str, index: int) -> Path:
    """The file of frame number ``index``, counted from 0; the files count from 1."""
    return workspace / name / f"frame{index + 1:04d}.ply"


def sheet_path(workspace: Path, name: str) -> Path:
    """The contact sheet of a sequence."""
    return workspace / f"{name}_contact_sheet.png"


def metadata_path(workspace: Path, name: str, program: Program = "infer_4d") -> Path:
    """The metadata file of a video's results; each program has its own."""
    return workspace / f"{name}_metadata{'_3d' if program == 'infer_3d' else ''}.json"


def tracks_path(workspace: Path, name: str) -> Path:
    """The canonical set and its trajectories, see `core.tracking.tracks`."""
    return workspace / f"{name}_tracks.npz"


def refinement_path(workspace: Path, name: str) -> Path:
    """From here an interrupted refinement goes on; removed at its end."""
    return workspace / f"{name}_refine.safetensors"


def preview_path(workspace: Path, name: str) -> Path:
    """The refinement as it stands; removed when its result is there."""
    return workspace / f"{name}_preview.mp4"


def clear_previous(workspace: Path, name: str) -> None:
    """Remove the sequence of an earlier run, so that two runs never mix, and files of a killed run.

    Viewers refuse a folder that holds anything but .ply files: the two other files of earlier versions are removed too.
    """
    for output in sequence_outputs(name):
        if output.endswith((".mp4", *EXPORTED)):
            (workspace / output).unlink(missing_ok=True)
    sheet_path(workspace, name).unlink(missing_ok=True)
    tracks_path(workspace, name).unlink(missing_ok=True)
    for kind in splat_transform.SUFFIXES:
        exported = workspace / f"{name}_{kind}"
        if exported.is_dir() and not exported.is_symlink():
            splat_transform.clear_frames(exported, kind)
            with suppress(OSError):  # it holds other files
                exported.rmdir()
    folder = workspace / name
    for path in folder.glob("frame*.ply"):
        if re.fullmatch(r"frame\d{4,}\.ply", path.name):
            path.unlink()
    if _read_metadata(folder / "metadata.json").get("program") in get_args(Program):
        (folder / "metadata.json").unlink()
        (folder / "contact_sheet.png").unlink(missing_ok=True)
    clear_parts(workspace, name)


def clear_parts(workspace: Path, name: str) -> None:
    """Remove temporary files that a killed run left where a video's results go."""
    for folder in (workspace, workspace / name):
        remove_stale_parts(folder)


def passing(frames: Iterator[GaussianFrame], sink: Sink) -> Iterator[GaussianFrame]:
    """Pass every frame to ``sink``, then on."""
    for index, frame in enumerate(frames):
        sink(index, frame)
        yield frame


def every(sink: Sink, factor: int) -> Sink:
    """A sink that passes on every ``factor``-th frame, numbered anew."""

    def thinned(index: int, frame: GaussianFrame) -> None:
        if index % factor == 0:
            sink(index // factor, frame)

    return thinned


@contextmanager
def sequence_videos(
    workspace: Path, kind: Kind, name: str, count: int, rate: Fraction, canvas: Canvas
) -> Iterator[Sink]:
    """Write the two videos of a sequence: four fixed views side by side at its own rate, and the turntable.

    Args:
        workspace, kind, name: the files are ``<kind>_<name>_fixed.mp4`` and ``<kind>_<name>.mp4``.
        count: number of frames of the sequence.
        rate: of the frames, per second.
        canvas: the pictures' size.
    """
    turntable = Turntable(workspace / f"{kind}_{name}.mp4", count, rate, canvas)
    with write_video(workspace / f"{kind}_{name}_fixed.mp4", rate, (canvas.height, 4 * canvas.size)) as fixed:

        def sink(index: int, frame: GaussianFrame) -> None:
            fixed.write(rearrange(canvas.crop(frame.views(canvas.size)), "v c h w -> c h (v w)"))
            turntable.add(index, frame)

        yield sink
    turntable.finish()


class PlyFiles:
    """A sink that writes the Gaussians of every frame to a numbered .ply file."""

    def __init__(
        self, workspace: Path, name: str, rate: Fraction, orientation: Literal["viewer", "world"], layout: Layout
    ) -> None:
        self.workspace, self.name, self.orientation, self.layout = workspace, name, orientation, layout
        self.rate = rate

    def __call__(self, index: int, frame: GaussianFrame) -> None:
        """Write one file, atomically."""
        save_ply(
            frame.gaussians,
            ply_path(self.workspace, self.name, index),
            orientation=self.orientation,
            layout=self.layout,
            min_opacity=MIN_OPACITY,
            metadata={"time_seconds": float(index / self.rate)},
        )


class ContactSheet:
    """A sink that keeps up to eight evenly spaced frames for one picture: the video's image above the four views.

    Args:
        num_frames: of the video; inserted frames are skipped.
        size: side of the renders in pixels.
    """

    def __init__(self, num_frames: int, size: int) -> None:
        columns = min(SHEET_COLUMNS, num_frames)
        self.times = {round(time) for time in torch.linspace(0, num_frames - 1, columns).tolist()}
        self.size = size
        self.columns: list[Sequence[Tensor]] = []

    def __call__(self, index: int, frame: GaussianFrame) -> None:
        """Add a column for the frame if it is one of the chosen."""
        if frame.time in self.times:
            images = [frame.image, *frame.views(self.size)]
            self.columns.append([letterbox(image.cpu(), SHEET_CELL) for image in images])

    def save(self, path: Path) -> None:
        """Write the picture."""
        captions = ["input", *(f"azimuth {azimuth:g}" for azimuth in INPUT_AZIMUTHS)]
        save_image(contact_sheet(list(zip(*self.columns, strict=True)), captions, SHEET_CELL), path)


def write_metadata(path: Path, content: Mapping[str, object]) -> None:
    """Write JSON, atomically. Raises `UserError` where it cannot be written."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")


def write_record(workspace: Path, name: str, program: Program, record: Mapping[str, object]) -> None:
    """Metadata of a result that is not complete: the record of the side views, before these are written."""
    content = {"program": program, "complete": False, "side_views": record}
    write_metadata(metadata_path(workspace, name, program), content)


def versions() -> dict[str, str]:
    """Versions of the packages that affect results."""
    own = "unknown"
    with suppress(PackageNotFoundError):  # run from a checkout without installing
        own = version("l4gm")
    return {
        "l4gm": own,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
    }


def side_view_record(
    program: Program, origin: str, source_sha256: str, files: Mapping[Path, bytes]
) -> dict[str, object]:
    """The metadata of side views that a program writes.

    It is written before the images, so that images of an interrupted run are not mistaken for the user's own.

    Args:
        program: ``infer_3d`` or ``infer_4d``.
        origin: what made them, as text.
        source_sha256: of the video.
        files: the images, as `core.multiview.files.encoded_views` gives them.
    """
    hashes = {path.name: hashlib.sha256(content).hexdigest() for path, content in files.items()}
    return {"program": program, "origin": origin, "source_sha256": source_sha256, "files": hashes}


def read_record(workspace: Path, name: str, files: list[Path]) -> Mapping[str, object] | None:
    """The record of exactly these image files in the metadata of an earlier run; None if no run wrote them.

    Earlier versions kept the metadata in the folder of the .ply files; it is read there too.
    """
    own = [metadata_path(workspace, name, program) for program in get_args(Program)]
    for path in (*own, workspace / name / "metadata.json"):
        record = _read_metadata(path).get("side_views")
        with suppress(KeyError, TypeError, AttributeError):  # a file of another program
            ours = all(record["files"][file.name] == file_hash(file) for file in files)
            if ours and {"program", "source_sha256"} <= record.keys():
                return record
    return None


def _read_metadata(path: Path) -> dict[str, object]:
    """A metadata file; empty if it is missing or not readable."""
    try:
        return read_json(path)
    except UserError:
        return {}
