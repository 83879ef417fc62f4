"""Which side-view images to take: the user's, those of infer_3d, or none, so that new ones are made.

Images that an earlier run wrote are told apart by the record in its metadata: they are taken only if they came from
this very video. What infer_4d made on its way is made anew, since a checkpoint or an option may have changed.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from core.errors import UserError
from core.inference.inputs import Source
from core.inference.provenance import read_record
from core.multiview.files import NUM_VIEWS, find_views, load_views, unlikeness, view_paths

UNLIKE = 0.6  # of `unlikeness`; first frames of different videos were 0.75 or more apart
_log = logging.getLogger(__name__)


def find_aligned_views(source: Source, workspace: Path, seeder: str) -> list[Path] | None:
    """The four aligned views of frame 0, ``<name>_000.png`` ..., in the workspace or beside the video.

    Raises:
        UserError: the four are incomplete.
    """
    if seeder not in ("auto", "files"):
        return None
    found = _first_usable(source, workspace, "", seeder, ("infer_3d",))
    if 0 < len(found) < NUM_VIEWS:
        _incomplete(source, "", found, f"complete the four, or call those you have {source.name}_mv_00*.png")
    if not found:
        return None
    paths = list(found.values())
    if not read_record(workspace, source.name, paths):
        distance = unlikeness(load_views(paths)[0], source.first_frame(256))
        if distance > UNLIKE:
            _log.warning(
                "%s does not look like the first frame of %s (distance %.2f, a blank image has 1): "
                "are these the side views of another video?", paths[0], source.path, distance,
            )  # fmt: skip
    return paths


def find_raw_views(source: Source, workspace: Path, seeder: str) -> dict[int, Path]:
    """Raw views for the lift by number, ``<name>_mv_000.png`` ..., as a multi-view model made them elsewhere.

    A seeder that is named makes all views where all four are there, and the missing ones where some are.

    Raises:
        UserError: the seeder is ``files`` and they are incomplete, or there are none of this video.
    """
    found = _first_usable(source, workspace, "_mv", seeder, ())
    if seeder != "files":
        return {} if len(found) == NUM_VIEWS and seeder != "auto" else found
    if not found:
        names = [f"{source.name}{tag}_000.png ... {source.name}{tag}_003.png" for tag in ("", "_mv")]
        raise UserError(
            f"no side views of {source.path}: looked for {names[1]} (raw) and, in infer_4d, {names[0]} (aligned) in "
            f"{workspace} and beside the video; put them there or use --view_generator single-view"
        )
    if len(found) < NUM_VIEWS:
        _incomplete(source, "_mv", found, "complete the four, or let the others be made with --view_generator auto")
    return found


def _first_usable(source: Source, workspace: Path, tag: str, seeder: str, programs: tuple[str, ...]) -> dict[int, Path]:
    for folder in (workspace, source.path.parent):
        found = find_views(folder, source.name, tag)
        paths = list(found.values())
        if paths and _usable(paths, read_record(workspace, source.name, paths), source, seeder, programs):
            _log.info("%s: views from %s", source.name, ", ".join(map(str, paths)))
            return found
    return {}


def _usable(
    paths: list[Path],
    record: Mapping[str, object] | None,
    source: Source,
    seeder: str,
    programs: tuple[str, ...],
) -> bool:
    if record is None:  # the user's own
        return True
    if record["source_sha256"] != source.sha256:
        _log.warning("%s ... were made from another video called %s: passed over", paths[0], source.name)
        return False
    return seeder == "files" or record["program"] in programs


def _incomplete(source: Source, tag: str, found: Mapping[int, Path], mend: str) -> None:
    names = [path.name for path in view_paths(Path(), source.name, tag)]
    missing = ", ".join(name for view, name in enumerate(names) if view not in found)
    folder = next(iter(found.values())).parent
    raise UserError(f"the side views of {source.name} in {folder} are incomplete: {missing} missing; {mend}")
