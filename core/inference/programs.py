"""infer_4d for one video: the whole of it as a sequence of Gaussians."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from fractions import Fraction
from time import perf_counter

from torch import Tensor
from tqdm import tqdm

from core.images import resize_area
from core.inference.inputs import Source
from core.inference.outputs import (
    MIN_OPACITY,
    ContactSheet,
    Kind,
    PlyFiles,
    Sink,
    clear_previous,
    passing,
    sequence_videos,
)
from core.inference.provenance import metadata_path, read_record, side_view_record, write_metadata
from core.inference.seeding import IMAGE_FILES
from core.inference.sequence import insert, interpolate, reconstruct
from core.inference.session import Session
from core.inference.side_views import find_aligned_views, find_raw_views
from core.multiview.files import load_views, save_views

_log = logging.getLogger(__name__)


def reconstruct_video(session: Session, source: Source) -> None:
    """The whole video in 4D: numbered .ply files, two videos with and two without interpolation, a contact sheet.

    Raises:
        UserError: side views, checkpoints or disk, see the parts. What was finished stays and is valid.
    """
    start = perf_counter()
    workspace, name, orbit, infer = session.workspace, source.name, session.orbit, session.options.infer
    network, interpolation = session.network, session.interpolation
    side_views, record = _aligned_views(session, source)
    num_frames, rate = len(source.indices), source.rate
    factor = infer.interpolate_rate if interpolation else 1
    count, out_rate = factor * (num_frames - 1) + 1, factor * rate
    clear_previous(workspace, name)
    metadata = _describe_sequence(session, source, count, out_rate, record)
    write_metadata(metadata_path(workspace, name), {**metadata, "complete": False})
    ply = PlyFiles(workspace, name, out_rate, infer.orientation)
    sheet = ContactSheet(num_frames)
    with ExitStack() as stack:

        def videos(kind: Kind, count: int, rate: Fraction) -> Sink:
            return stack.enter_context(sequence_videos(workspace, kind, name, count, rate, orbit))

        frames, length = source.frames(network.size), session.options.data.num_frames
        sides = session.options.side_views
        moments = reconstruct(
            frames, side_views[1:], length, network, orbit, sides.chunk_side_views, session.chunk_lanes
        )
        moments = passing(moments, videos("wo_interp", num_frames, rate))
        if interpolation:
            parts = (infer.interp_batch, interpolation, orbit, session.lanes)
            if sides.inserted_side_views == "first":
                moments = insert(moments, source.between(interpolation.size, factor), side_views[1:], *parts)
            else:
                moments = interpolate(moments, factor, *parts)
            moments = passing(moments, videos("w_interp", count, out_rate))
        for sink in (ply, sheet):
            moments = passing(moments, sink)
        for _ in tqdm(moments, name, count, unit="set", disable=None):
            pass
    sheet.save(workspace / name / "contact_sheet.png")
    write_metadata(metadata_path(workspace, name), {**metadata, "complete": True})
    _log.info(
        "%s: %d frames gave %d sets at %s a second in %.1f s; see %s",
        name, num_frames, count, out_rate, perf_counter() - start, workspace / name,
    )  # fmt: skip


def _aligned_views(session: Session, source: Source) -> tuple[Tensor, dict[str, object]]:
    """Four views ``[4, 3, S, S]`` of frame 0 at the network's size, in the workspace as files; and their record."""
    workspace, name, seeder = session.workspace, source.name, session.options.side_views.view_generator
    files = find_aligned_views(source, workspace, seeder)
    if files and files[0].parent == workspace:
        views = load_views(files)
        record = read_record(workspace, name, files) or {"origin": IMAGE_FILES}
    else:
        if files:
            views, origin, ranking = load_views(files), IMAGE_FILES, []
        else:
            chosen = session.seed(source, find_raw_views(source, workspace, seeder))
            views, origin, ranking = chosen.lifted.views, chosen.origin, chosen.ranking
        written = save_views(views, workspace, name)
        record = {**side_view_record("infer_4d", origin, source.sha256, written), "candidates": ranking}
    size = (session.network.size, session.network.size)
    return resize_area(views, size), dict(record)


def describe_source(source: Source) -> dict[str, object]:
    """What metadata say of a video."""
    video = source.video
    return {
        "file": source.path.name,
        "sha256": source.sha256,
        "frame_rate": str(video.fps),
        "num_frames": video.num_frames,
        "size": list(video.size),
        "stride": source.indices.step,
    }


def _describe_sequence(
    session: Session, source: Source, count: int, rate: Fraction, side_views: dict[str, object]
) -> dict[str, object]:
    infer, sides = session.options.infer, session.options.side_views
    return {
        "program": "infer_4d",
        "complete": False,
        "source": describe_source(source),
        "frame_rate": str(rate),
        "num_sets": count,
        "times": [float(index / rate) for index in range(count)],
        "frames_per_chunk": session.options.data.num_frames,
        "chunk_side_views": sides.chunk_side_views,
        "interpolate_rate": infer.interpolate_rate if session.interpolation else None,
        "inserted_side_views": sides.inserted_side_views if session.interpolation else None,
        "ply": {"files": "frame0001.ply ...", "orientation": infer.orientation, "min_opacity": MIN_OPACITY},
        **session.describe(),
        "side_views": side_views,
    }
