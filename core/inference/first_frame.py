"""The first frame's side views: image files of the user or of infer_3d, or generated ones.

image files, completed by a view generator -> fused into Gaussians -> aligned with the frame -> four consistent views
└─────────────────────── for every candidate; the one that matches the frame best is kept ───────────────────────┘

Images that an earlier run wrote are recognised by the record in its metadata: they are taken only if they came from
this very video. Views that infer_4d generated are generated again, since a checkpoint or an option may have changed.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from core.conventions import INPUT_AZIMUTHS, NUM_VIEWS
from core.errors import UserError
from core.images import resize_area
from core.inference.align import Lifted, lift
from core.inference.inputs import Source
from core.inference.network import Network
from core.inference.outputs import read_record
from core.multiview.files import find_views, load_views, unlikeness, view_paths
from core.multiview.generators import CandidateViews, Frame, ViewGenerator
from core.options.views import ViewOptions
from core.rendering.orbit import OrbitRenderer

UNLIKE = 0.6  # of `unlikeness`; first frames of different videos were 0.75 or more apart
BLANK = 0.03  # frames that differ less from white are blank
IMAGE_FILES = "image files"
_FILES_FIRST = ("auto", "published", "files")  # --view_generator
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BestCandidate:
    """The candidate whose Gaussians match the frame best.

    Attributes:
        lifted: its aligned Gaussians.
        views: the views that they were fused from.
        origin: what made the views, as text.
        ranking: of all candidates, best first: label, pose, error and PSNR against the frame.
    """

    lifted: Lifted
    views: CandidateViews
    origin: str
    ranking: list[dict[str, object]]


def lift_frame(
    name: str,
    frame: Frame,
    files: Mapping[int, Path],
    generator: Callable[[], ViewGenerator],
    network: Network,
    orbit: OrbitRenderer,
    options: ViewOptions,
    begin: Callable[[], object] = lambda: None,
) -> BestCandidate:
    """Collect or generate raw views of a frame, lift every candidate, keep the best.

    Args:
        name: of the video, for messages.
        frame: its first frame.
        files: the user's raw views by number; they replace generated ones, and with all four none are generated.
        generator: called if views must be generated.
        network: fuses the views.
        orbit: renders.
        options: candidates, azimuths, alignment.
        begin: called before the work, once nothing is left that could be refused quickly.

    Raises:
        UserError: the frame is blank, an image or a model cannot be used.
    """
    image = frame(network.size)
    if float((1 - image).max()) < BLANK:
        raise UserError(
            f"the first frame of {name} is blank, there is nothing to lift; begin the video where the object is seen"
        )
    given = dict(zip(files, load_views(list(files.values())), strict=True)) if files else {}
    azimuths = options.view_azimuths if given else INPUT_AZIMUTHS
    origin, candidates = _candidates(frame, given, generator, azimuths, options)
    begin()
    lifted: list[tuple[Lifted, CandidateViews]] = []
    for views in candidates:
        images = resize_area(views.images, (network.size, network.size))
        fused = network.reconstruct(images[:1], images[1:], azimuths, options.elevation)
        search = {"elevation": options.align_elevation, "scale": options.align_scale}
        aligned = lift(fused, image, orbit, level=options.elevation, **search)
        lifted.append((aligned, views))
    lifted.sort(key=lambda entry: entry[0].error)
    ranking = [_describe(views.label, aligned) for aligned, views in lifted]
    if options.candidates > 1:
        for place, line in enumerate(ranking, 1):
            _log.info("%s: %d. %s: %.2f dB, azimuth %g", name, place, line["candidate"], line["psnr"], line["azimuth"])
    return BestCandidate(*lifted[0], origin, ranking)


def _candidates(
    frame: Frame,
    given: Mapping[int, Tensor],
    generator: Callable[[], ViewGenerator],
    azimuths: Sequence[float],
    options: ViewOptions,
) -> tuple[str, Iterator[CandidateViews]]:
    """Origin of the views as text, and the views."""
    if len(given) == len(azimuths):
        return IMAGE_FILES, iter([CandidateViews(IMAGE_FILES, torch.stack([given[view] for view in sorted(given)]))])
    maker = generator()
    # Views that are given replace generated ones, so any azimuth will do there: the frame's own.
    missing = [0.0 if view in given else azimuth for view, azimuth in enumerate(azimuths)]
    generated = maker.generate(frame, options.candidates, missing)
    if not given:
        return maker.origin, generated
    origin = f"{IMAGE_FILES} (views {', '.join(map(str, sorted(given)))}) and {maker.origin}"
    return origin, (_with_given(views, given) for views in generated)


def _with_given(views: CandidateViews, given: Mapping[int, Tensor]) -> CandidateViews:
    size = (views.images.shape[-2], views.images.shape[-1])
    own = {view: resize_area(image, size).to(views.images) for view, image in given.items()}
    return CandidateViews(views.label, torch.stack([own.get(k, image) for k, image in enumerate(views.images)]))


def _describe(label: str, lifted: Lifted) -> dict[str, object]:
    pose = {"azimuth": lifted.pose.azimuth, "elevation": lifted.pose.elevation, "scale": lifted.pose.scale}
    return {"candidate": label, **pose, "error": lifted.error, "psnr": -10 * math.log10(max(lifted.error, 1e-10))}


def find_aligned_views(source: Source, workspace: Path, generator: str) -> list[Path] | None:
    """The four aligned views of frame 0, ``<name>_000.png`` ..., in the workspace or beside the video.

    Raises:
        UserError: the four are incomplete.
    """
    if generator not in _FILES_FIRST:
        return None
    found = _first_usable(source, workspace, "", generator, ("infer_3d",))
    if 0 < len(found) < NUM_VIEWS:
        _incomplete(source, "", found, f"complete the four, or call those you have {source.name}_mv_00*.png")
    if not found:
        return None
    paths = list(found.values())
    if not read_record(workspace, source.name, paths):
        _warn_if_unlike(source, paths)
    return paths


def _warn_if_unlike(source: Source, paths: list[Path]) -> None:
    distance = unlikeness(load_views(paths)[0], source.first_frame(256))
    if distance > UNLIKE:
        _log.warning(
            "%s does not look like the first frame of %s (distance %.2f, a blank image has 1): "
            "are these the side views of another video?", paths[0], source.path, distance,
        )  # fmt: skip


def find_raw_views(source: Source, workspace: Path, generator: str) -> dict[int, Path]:
    """Raw views by number, ``<name>_mv_000.png`` ..., made elsewhere by a multi-view model.

    A generator named by the user makes all views if all four exist, and the missing ones if some exist.

    Raises:
        UserError: the generator is ``files`` and they are incomplete, or there are none of this video.
    """
    found = _first_usable(source, workspace, "_mv", generator, ())
    if generator != "files":
        return {} if len(found) == NUM_VIEWS and generator not in _FILES_FIRST else found
    if not found:
        names = [f"{source.name}{tag}_000.png ... {source.name}{tag}_003.png" for tag in ("", "_mv")]
        raise UserError(
            f"no side views of {source.path}: looked for {names[1]} (raw) and, in infer_4d, {names[0]} (aligned) in "
            f"{workspace} and beside the video; put them there or use --view_generator single-view"
        )
    if len(found) < NUM_VIEWS:
        _incomplete(source, "_mv", found, "complete the four, or let the others be made with --view_generator auto")
    return found


def _first_usable(
    source: Source, workspace: Path, tag: str, generator: str, programs: tuple[str, ...]
) -> dict[int, Path]:
    for folder in (workspace, source.path.parent):
        found = find_views(folder, source.name, tag)
        paths = list(found.values())
        record = read_record(workspace, source.name, paths) if paths else None
        if paths and not _interrupted(record, found) and _usable(paths, record, source, generator, programs):
            _log.info("%s: views from %s", source.name, ", ".join(map(str, paths)))
            return found
    return {}


def _interrupted(record: Mapping[str, object] | None, found: Mapping[int, Path]) -> bool:
    """Whether an earlier run ended before it had written all views of its record."""
    if record is None or len(found) == NUM_VIEWS:
        return False
    tag = next(iter(found.values())).stem[:-4]  # NAME or NAME_mv
    return any(f"{tag}_{view:03d}.png" in record["files"] for view in range(NUM_VIEWS) if view not in found)


def _usable(
    paths: list[Path],
    record: Mapping[str, object] | None,
    source: Source,
    generator: str,
    programs: tuple[str, ...],
) -> bool:
    if record is None:  # the user's own
        return True
    if record["source_sha256"] != source.sha256:
        _log.warning("%s ... were made from another video called %s: passed over", paths[0], source.name)
        return False
    return generator == "files" or record["program"] in programs


def _incomplete(source: Source, tag: str, found: Mapping[int, Path], advice: str) -> None:
    names = [path.name for path in view_paths(Path(), source.name, tag)]
    missing = ", ".join(name for view, name in enumerate(names) if view not in found)
    folder = next(iter(found.values())).parent
    raise UserError(f"the side views of {source.name} in {folder} are incomplete: {missing} missing; {advice}")
