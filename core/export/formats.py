"""All formats that a sequence can be written in, and where the files go.

html            NAME.html, and NAME.l4gm of which it is made
packed          NAME.l4gm
compressed-ply, sog, spz, glb    one file for each frame in the folder NAME_FORMAT, by splat-transform
4dgs, usd       NAME.4dgs, NAME.usdc, by the package fourdgs
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from fractions import Fraction
from pathlib import Path

from torch import Tensor

from core.export import splat_transform, timeline
from core.export.packed import SUFFIX, write_clip
from core.export.player import write_player
from core.export.sequences import GaussianSequence
from core.options.infer import ExportFormat


def check_formats(formats: Collection[ExportFormat]) -> None:
    """Raise `UserError` where the program or package that writes a format is not installed."""
    if splat_transform.SUFFIXES.keys() & set(formats):
        splat_transform.find_program()
    for kind in timeline.SUFFIXES.keys() & set(formats):
        timeline.check_packages(kind)


def export(
    sequence: GaussianSequence,
    formats: Collection[ExportFormat],
    workspace: Path,
    name: str,
    frames: Iterable[Tensor] = (),
    rate: Fraction | int = 1,
) -> list[Path]:
    """Write a sequence in several formats.

    Args:
        sequence: what is written.
        formats: which.
        workspace, name: where, see above.
        frames, rate: input video of the page, see `core.export.player.write_player`.

    Returns:
        the files and folders.

    Raises:
        UserError: a program is missing, a frame cannot be written, the disk is full.
    """
    check_formats(formats)
    written = []
    if {"html", "packed"} & set(formats):
        # Of the sequence as it was written, which export.py has too; reading 70 frames back takes 0.1 s.
        clip = workspace / f"{name}{SUFFIX}"
        with write_clip(clip, sequence.rate, len(sequence)) as writer:
            for index in range(len(sequence)):
                writer.add(sequence[index])
        written.append(clip)
        if "html" in formats:
            page = workspace / f"{name}.html"
            write_player(page, clip, name, frames, rate)
            written.insert(0, page)
    for kind in formats:
        if kind in splat_transform.SUFFIXES:
            written.append(splat_transform.write_frames(sequence, kind, workspace / f"{name}_{kind}"))
        elif kind in timeline.SUFFIXES:
            written.append(workspace / f"{name}{timeline.SUFFIXES[kind]}")
            timeline.write(sequence, kind, written[-1])
    return written
