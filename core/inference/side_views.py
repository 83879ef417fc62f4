"""Which side-view images to take: the user's, those of infer_3d, or none, so that new ones are made.

Images that an earlier run wrote are told apart by the record in its metadata: they are taken only if they came from
this very video. What infer_4d made on its way is made anew, since a checkpoint or an option may have changed.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from core.errors import UserError
from core.inference.inputs import Source
from core.inference.provenance import read_record
from core.multiview.files import find_views, load_views, unlikeness

SideViewMode = Literal["auto", "files", "single-view", "imagedream"]

UNLIKE = 0.6  # of `unlikeness`; first frames of different videos were 0.75 or more apart
_log = logging.getLogger(__name__)


def check_mode(mode: SideViewMode) -> None:
    """Raise `UserError` for a mode that this version does not have."""
    if mode == "imagedream":
        raise UserError(
            "--side_views imagedream is not in this version: give the four views as image files "
            "(NAME_000.png ... NAME_003.png beside the video), or use --side_views single-view"
        )


def find_aligned_views(source: Source, workspace: Path, mode: SideViewMode) -> list[Path] | None:
    """The four aligned views of frame 0, ``<name>_000.png`` ..., in the workspace or beside the video.

    Raises:
        UserError: the four are incomplete, or mode is ``files`` and there are none of this video.
    """
    found = None if mode == "single-view" else _first_usable(source, workspace, "", mode, ("infer_3d",))
    if found and not read_record(workspace, source.name, found):
        distance = unlikeness(load_views(found)[0], source.first_frame(256))
        if distance > UNLIKE:
            _log.warning(
                "%s does not look like the first frame of %s (distance %.2f, a blank image has 1): "
                "are these the side views of another video?", found[0], source.path, distance,
            )  # fmt: skip
    return found


def find_raw_views(source: Source, workspace: Path, mode: SideViewMode) -> list[Path] | None:
    """Four raw views for the lift, ``<name>_mv_000.png`` ..., as a multi-view model made them elsewhere.

    Raises:
        UserError: as `find_aligned_views`.
    """
    return None if mode == "single-view" else _first_usable(source, workspace, "_mv", mode, ())


def _first_usable(
    source: Source, workspace: Path, tag: str, mode: SideViewMode, programs: tuple[str, ...]
) -> list[Path] | None:
    for folder in (workspace, source.path.parent):
        paths = find_views(folder, source.name, tag)
        if paths and _usable(paths, read_record(workspace, source.name, paths), source, mode, programs):
            _log.info("%s: side views from %s ... %s", source.name, paths[0], paths[-1].name)
            return paths
    if mode == "files":
        raise UserError(
            f"no side views of {source.path}: looked for {source.name}{tag}_000.png ... {source.name}{tag}_003.png in "
            f"{workspace} and beside the video; put them there or use --side_views single-view"
        )
    return None


def _usable(
    paths: list[Path],
    record: Mapping[str, object] | None,
    source: Source,
    mode: SideViewMode,
    programs: tuple[str, ...],
) -> bool:
    if record is None:  # the user's own
        return True
    if record["source_sha256"] != source.sha256:
        _log.warning("%s ... were made from another video called %s: passed over", paths[0], source.name)
        return False
    return mode == "files" or record["program"] in programs
