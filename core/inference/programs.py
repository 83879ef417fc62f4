"""infer_3d and infer_4d for one video: the steps in order, and the files that are written."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from time import perf_counter

from torch import Tensor, nn

from core.conventions import NUM_VIEWS
from core.errors import UserError
from core.export.formats import export
from core.export.player import INPUT_SIZE
from core.export.sequences import PlyFolder
from core.images import resize_area, save_image
from core.inference.align import Lifted, Pose
from core.inference.first_frame import IMAGE_FILES, BestCandidate, find_aligned_views, find_raw_views
from core.inference.inputs import Source
from core.inference.outputs import (
    MIN_OPACITY,
    ContactSheet,
    Kind,
    PlyFiles,
    Sink,
    clear_parts,
    clear_previous,
    every,
    metadata_path,
    passing,
    ply_path,
    read_record,
    save_input_sheet,
    sequence_videos,
    sheet_path,
    side_view_record,
    write_metadata,
    write_record,
)
from core.inference.progress import Progress
from core.inference.refine import refined_sequence
from core.inference.sequence import GaussianFrame, insert, interpolate, num_calls, reconstruct
from core.inference.session import Session
from core.inference.text import changed_views, cut_out, draw_views, prompt_name
from core.inference.turntable import Canvas, write_still_turntable
from core.multiview.files import encoded_views, load_views, write_views
from core.multiview.generators import CandidateViews
from core.ply import save_ply

_log = logging.getLogger(__name__)


def reconstruct_video(session: Session, source: Source) -> None:
    """The whole video in 4D: numbered .ply files, two videos with and two without interpolation, a contact sheet.

    Raises:
        UserError: of side views, checkpoints or disk. Finished files stay and are valid.
    """
    start = perf_counter()
    workspace, name, infer = session.workspace, source.name, session.options.infer
    num_frames, refined = len(source.indices), session.options.refine.refine
    factor = infer.interpolate_rate if infer.interpresume or refined else 1
    count, rate = factor * (num_frames - 1) + 1, factor * source.rate
    with Progress(name, num_frames + count) as progress:
        with progress.stage("loading the networks"):
            _ = session.network, session.inserting, session.predictor
        with progress.stage("making side views"):
            side_views, record = _aligned_views(session, source)
        metadata = _describe_sequence(session, source, count, rate, record)
        write_metadata(metadata_path(workspace, name), {**metadata, "complete": False})
        clear_previous(workspace, name)
        with progress.over_calls(*_network_calls(session, num_frames), steps=num_frames):
            finished = _write_sequence(session, source, side_views[1:], (factor, count, rate), progress)
        with progress.stage("exporting"):
            files = [ply_path(workspace, name, index) for index in range(count)]
            sequence = PlyFolder(workspace / name, rate, files)
            exported = export(sequence, infer.export, workspace, name, source.frames(INPUT_SIZE), source.rate)
    write_metadata(metadata_path(workspace, name), {**metadata, "complete": True, "refinement_finished": finished})
    kind = "w_interp" if infer.interpresume or refined else "wo_interp"
    written = [*exported, workspace / f"{kind}_{name}.mp4"]
    _log.info(
        "%s: %d frames gave %d at %s a second in %.0f s: wrote %s/frame0001.ply ..., %s and %s",
        name, num_frames, count, rate, perf_counter() - start,
        workspace / name, ", ".join(map(str, written)), sheet_path(workspace, name),
    )  # fmt: skip
    if finished is False:
        raise KeyboardInterrupt  # which ended the fit; its results are written


def _write_sequence(
    session: Session, source: Source, sides: Tensor, timing: tuple[int, int, Fraction], progress: Progress
) -> bool | None:
    """Reconstruct, interpolate or refine, and draw the sequence as a stream, and write it.

    Returns:
        whether the fit came to its end; None without one.
    """
    (factor, count, rate), num_frames = timing, len(source.indices)
    workspace, name, infer = session.workspace, source.name, session.options.infer
    canvas = _canvas(session, source)
    ply = PlyFiles(workspace, name, rate, infer.orientation, infer.ply_layout)
    sheet = ContactSheet(num_frames, canvas.size)
    finished = None
    with ExitStack() as stack:

        def videos(kind: Kind, count: int, rate: Fraction) -> Sink:
            return stack.enter_context(sequence_videos(workspace, kind, name, count, rate, canvas))

        frames = _reconstructed(session, source, sides)
        frames = progress.over(frames, "reconstructing")
        if session.options.refine.refine:
            frames, finished = refined_sequence(session, source, sides, list(frames), factor, progress)
        at_frames = progress.around(videos("wo_interp", num_frames, source.rate), "drawing")
        frames = passing(frames, at_frames if finished is None else every(at_frames, factor))
        if finished is not None:
            frames = passing(frames, progress.around(videos("w_interp", count, rate), "drawing"))
        elif session.inserting:
            frames = progress.over(_interpolated(session, source, sides, frames, factor), "interpolating")
            frames = passing(frames, progress.around(videos("w_interp", count, rate), "drawing"))
        for sink in (ply, sheet):
            frames = passing(frames, progress.around(sink, "drawing"))
        for _ in frames:
            progress.advance()
        progress.show("writing the turntables")
    sheet.save(sheet_path(workspace, name))
    return finished


def _network_calls(session: Session, num_frames: int) -> tuple[list[nn.Module], int]:
    """The levels of the networks, and how many calls of levels a video takes."""
    infer, length = session.options.infer, session.options.data.num_frames
    pairs = infer.interp_batch if session.inserting else 0
    networks = dict.fromkeys(filter(None, (session.network, session.inserting)))
    chunks = (session.options.side_views.chunk_side_views, session.interpolation_workers)
    calls = len(session.network.levels) * num_calls(num_frames, length, pairs, *chunks)
    return [level for network in networks for level in network.levels], calls


def _canvas(session: Session, source: Source) -> Canvas:
    """Pictures in the shape of the video; of a picture whose object is cut out and centred they are square."""
    shape = (1, 1) if source.recenter and source.is_picture else source.video.size
    return Canvas.of(session.options.infer.output_size, shape)


def _reconstructed(session: Session, source: Source, sides: Tensor) -> Iterator[GaussianFrame]:
    network, policy = session.network, session.options.side_views.chunk_side_views
    parts = (sides, session.options.data.num_frames, network, session.orbit, policy)
    return reconstruct(source.frames(network.size), *parts, session.chunk_workers, session.predictor)


def _interpolated(
    session: Session, source: Source, sides: Tensor, frames: Iterator[GaussianFrame], factor: int
) -> Iterator[GaussianFrame]:
    network = session.interpolation
    parts = (session.options.infer.interp_batch, network, session.orbit, session.interpolation_workers)
    if session.options.side_views.inserted_side_views == "first":
        return insert(frames, source.between(network.size, factor), sides, *parts)
    return interpolate(frames, factor, *parts)


def _aligned_views(session: Session, source: Source) -> tuple[Tensor, dict[str, object]]:
    """Four views ``[4, 3, S, S]`` of frame 0 at the network's size, in the workspace as files; and their record."""
    workspace, name, generator = session.workspace, source.name, session.options.side_views.view_generator
    files = find_aligned_views(source, workspace, generator)
    if files:
        views, origin, ranking = load_views(files), IMAGE_FILES, []
        save_input_sheet(workspace, source)
    else:
        best = _lift(session, source, find_raw_views(source, workspace, generator))
        views, origin, ranking = best.lifted.views, best.origin, best.ranking
    if files and files[0].parent == workspace:
        record = read_record(workspace, name, files) or {"origin": IMAGE_FILES}
    else:
        encoded = encoded_views(views, workspace, name)
        record = {**side_view_record("infer_4d", origin, source.sha256, encoded), "candidates": ranking}
        write_record(workspace, name, "infer_4d", record)
        write_views(encoded)
    size = (session.network.size, session.network.size)
    return resize_area(views, size), dict(record)


def _lift(session: Session, source: Source, files: Mapping[int, Path]) -> BestCandidate:
    """Frame 0 in 3D; before the work begins, which may take minutes, the input is shown."""
    return session.lift(source, files, lambda: save_input_sheet(session.workspace, source))


def describe_source(source: Source) -> dict[str, object]:
    """Metadata of a video."""
    video = source.video
    return {
        "file": source.path.name,
        "sha256": source.sha256,
        "frame_rate": str(video.fps),
        "num_frames": video.num_frames,
        "size": list(video.size),
        "stride": source.indices.step,
        "matte": source.matte,
    }


def _describe_sequence(
    session: Session, source: Source, count: int, rate: Fraction, side_views: dict[str, object]
) -> dict[str, object]:
    infer, sides, refined = session.options.infer, session.options.side_views, session.options.refine.refine
    return {
        "program": "infer_4d",
        "complete": False,
        "source": describe_source(source),
        "frame_rate": str(rate),
        "num_frames": count,
        "times": [float(index / rate) for index in range(count)],
        "frames_per_chunk": session.options.data.num_frames,
        "chunk_side_views": sides.chunk_side_views,
        "interpolate_rate": infer.interpolate_rate if refined or session.inserting else None,
        "inserted_side_views": sides.inserted_side_views if session.inserting else None,
        "refinement": asdict(session.options.refine) if refined else None,
        "ply": {"files": "frame0001.ply ...", "orientation": infer.orientation, "min_opacity": MIN_OPACITY},
        **session.describe(),
        "side_views": side_views,
    }


def lift_video(session: Session, source: Source) -> None:
    """Frame 0 in 3D: four aligned side views, their raw versions, one .ply, a turntable.

    Raises:
        UserError: of side views, checkpoint or disk.
    """
    workspace, name = session.workspace, source.name
    clear_parts(workspace, name)
    files = find_raw_views(source, workspace, session.options.side_views.view_generator)
    if session.options.views.prompt and len(files) == NUM_VIEWS:
        raise UserError(
            f"--prompt says to ImageDream what {source.path} shows, and its views are read from files: "
            f"--view_generator imagedream makes them anew"
        )
    best = _lift(session, source, files)
    keep_raw = len(files) == NUM_VIEWS and files[0].parent == workspace  # they are the user's own
    record = _save_lift(session, name, best, source.sha256, _canvas(session, source), keep_raw=keep_raw)
    save_image(source.first_frame(session.network.size), workspace / f"{name}_orig.png")
    _write_lift_metadata(session, name, {"source": describe_source(source)}, best, record)


def lift_prompt(session: Session, prompt: str) -> None:
    """A text in 3D: four views by MVDream, cut out and centred; then as `lift_video`.

    Raises:
        UserError: the pipeline, the checkpoint or the disk; a view that is not on a plain ground. The views stay as
            files, and once someone has changed them the run goes on from there.
    """
    name, options = prompt_name(prompt), session.options.views
    if options.candidates > 1:
        raise UserError("--candidates are ranked against a frame, and --prompt has none; try --seed")
    clear_parts(session.workspace, name)
    own = changed_views(session, name)
    drawn = draw_views(session, name, prompt) if own is None else own
    views = cut_out(drawn, session.workspace, name) if options.recenter else drawn
    network = session.network
    images = resize_area(views, (network.size, network.size))
    gaussians = network.reconstruct(images[:1], images[1:], elevation=options.elevation)
    lifted = Lifted(gaussians[0], Pose(), 0.0, session.orbit(gaussians)[0])
    label = f"seed {session.options.run.seed}" if own is None else IMAGE_FILES
    best = BestCandidate(lifted, CandidateViews(label, views), "MVDream" if own is None else IMAGE_FILES, [])
    side = session.options.infer.output_size
    record = _save_lift(session, name, best, "", Canvas(side, side), keep_raw=own is not None)
    _write_lift_metadata(session, name, {"prompt": prompt}, best, record)


def _save_lift(
    session: Session, name: str, best: BestCandidate, source_sha256: str, canvas: Canvas, keep_raw: bool = False
) -> dict[str, object]:
    """Write all files of a lift except its final metadata; returns the record of the views."""
    workspace, gaussians, infer = session.workspace, best.lifted.gaussians, session.options.infer
    encoded = encoded_views(best.lifted.views, workspace, name)
    if not keep_raw:
        encoded |= encoded_views(best.views.images, workspace, name, "_mv")
    record = side_view_record("infer_3d", best.origin, source_sha256, encoded)
    write_record(workspace, name, "infer_3d", record)
    write_views(encoded)
    layout = {"orientation": infer.orientation, "layout": infer.ply_layout}
    save_ply(gaussians, workspace / f"{name}.ply", **layout, min_opacity=MIN_OPACITY)
    write_still_turntable(gaussians[None], workspace / f"{name}.mp4", session.orbit, canvas)
    return record


def _write_lift_metadata(
    session: Session, name: str, source: dict[str, object], best: BestCandidate, record: dict[str, object]
) -> None:
    workspace, pose = session.workspace, best.lifted.pose
    content = {"program": "infer_3d", "complete": True, **source, **session.describe()}
    content |= {"azimuth": pose.azimuth, "elevation": pose.elevation, "scale": pose.scale, "error": best.lifted.error}
    content |= {"orientation": session.options.infer.orientation, "candidates": best.ranking, "side_views": record}
    write_metadata(metadata_path(workspace, name, "infer_3d"), content)
    _log.info("%s: azimuth %g, mean squared error %.4f against the frame", name, pose.azimuth, best.lifted.error)
    written = (workspace / f"{name}{end}" for end in (".ply", ".mp4", "_000.png"))
    _log.info("%s: wrote %s, %s and the side views %s ...", name, *written)
