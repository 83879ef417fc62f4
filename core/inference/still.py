"""infer_3d: the first frame of a video, a picture or a text in 3D."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import torch

from core.errors import UserError
from core.images import resize_area, save_image
from core.inference.align import Pose
from core.inference.inputs import Source
from core.inference.lift import Lifted
from core.inference.outputs import MIN_OPACITY
from core.inference.programs import describe_source
from core.inference.provenance import metadata_path, side_view_record, write_metadata
from core.inference.seeding import Chosen, RawViews
from core.inference.session import Session
from core.inference.side_views import find_raw_views
from core.inference.turntable import write_still_turntable
from core.multiview.background import centered, foreground
from core.multiview.files import NUM_VIEWS, save_views
from core.ply import save_ply

_log = logging.getLogger(__name__)


def lift_video(session: Session, source: Source) -> None:
    """Frame 0 in 3D: four aligned side views, their raw versions, one .ply, a turntable.

    Raises:
        UserError: side views, checkpoint or disk, see the parts.
    """
    workspace, name = session.workspace, source.name
    network = session.network
    files = find_raw_views(source, workspace, session.options.side_views.view_generator)
    chosen = session.seed(source, files)
    save_image(source.first_frame(network.size), workspace / f"{name}_orig.png")
    keep_raw = len(files) == NUM_VIEWS and files[0].parent == workspace  # they are the user's own
    written = _save_lift(session, name, chosen, keep_raw=keep_raw)
    record = side_view_record("infer_3d", chosen.origin, source.sha256, written)
    _write_lift_metadata(session, name, {"source": describe_source(source)}, chosen, record)


def lift_prompt(session: Session, prompt: str) -> None:
    """What a text says in 3D: its four views as MVDream draws them, cut out and centred; else as `lift_video`.

    Raises:
        UserError: the pipeline, the checkpoint or the disk; a view that MVDream did not draw on a plain ground.
    """
    name, seed = prompt_name(prompt), session.options.run.seed
    if session.options.views.candidates > 1:
        raise UserError(
            "--candidates are ranked by how well they repeat a frame, and --prompt has no frame; try --seed"
        )
    drawn = session.diffusion("mvdream").views(None, prompt, [seed], session.sampling(7.5))[0]
    what = f"view {{}} of {prompt!r} (seed {seed})"
    views = torch.stack([centered(view, foreground(view, what.format(k))) for k, view in enumerate(drawn)])
    network = session.network
    images = resize_area(views, (network.size, network.size))
    gaussians = network.reconstruct(images[:1], images[1:])
    lifted = Lifted(gaussians[0], Pose(), 0.0, session.orbit(gaussians)[0])
    chosen = Chosen(lifted, RawViews(f"seed {seed}", views), "MVDream", [])
    written = _save_lift(session, name, chosen)
    record = side_view_record("infer_3d", chosen.origin, "", written)
    _write_lift_metadata(session, name, {"prompt": prompt}, chosen, record)


def _save_lift(session: Session, name: str, chosen: Chosen, keep_raw: bool = False) -> list[Path]:
    """Write everything of a lift but its metadata; the paths of the views."""
    workspace, gaussians = session.workspace, chosen.lifted.gaussians
    written = save_views(chosen.lifted.views, workspace, name)
    if not keep_raw:
        written += save_views(chosen.raw.images, workspace, name, "_mv")
    orientation = session.options.infer.orientation
    save_ply(gaussians, workspace / f"{name}.ply", orientation=orientation, min_opacity=MIN_OPACITY)
    write_still_turntable(gaussians[None], workspace / f"{name}.mp4", session.orbit)
    return written


def _write_lift_metadata(
    session: Session, name: str, source: dict[str, object], chosen: Chosen, record: dict[str, object]
) -> None:
    pose = chosen.lifted.pose
    content = {"program": "infer_3d", "complete": True, **source, **session.describe()}
    content |= {"azimuth": pose.azimuth, "elevation": pose.elevation, "scale": pose.scale, "error": chosen.lifted.error}
    content |= {"orientation": session.options.infer.orientation, "candidates": chosen.ranking, "side_views": record}
    write_metadata(metadata_path(session.workspace, name), content)
    _log.info("%s: azimuth %g, mean squared error %.4f against the frame", name, pose.azimuth, chosen.lifted.error)
    _log.info(
        "%s: wrote %s.mp4 and the side views %s_00*.png", name, session.workspace / name, session.workspace / name
    )


def prompt_name(prompt: str) -> str:
    """What results of a text are called: its words, at most 60 letters. Raises `UserError` if it has none."""
    name = re.sub(r"[^a-z0-9]+", "_", prompt.lower()).strip("_")[:60].rstrip("_")
    if not name:
        raise UserError(f"--prompt {prompt!r} has no letters; say in English what is to be made")
    return name
