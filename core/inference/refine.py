"""infer_4d with --refine: the feed-forward sequence becomes one tracked object, at any frame rate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from core.gaussians import Gaussians
from core.guidance.guide import Guide, make_guidance
from core.images import resize_area
from core.inference.inputs import Source
from core.inference.network import Network
from core.inference.outputs import preview_path, refinement_path, tracks_path
from core.inference.preview import Preview
from core.inference.progress import Progress
from core.inference.sequence import GaussianFrame
from core.inference.session import Session
from core.rotations import mirrored, turn
from core.tracking.fit import Fit
from core.tracking.motion_network import VideoMotion
from core.tracking.observations import best_start, observe
from core.tracking.state import load_state, save_state
from core.tracking.tracks import Tracks, save_tracks

PICTURE_SIZE = 512  # pixels, of what the guidance sees of the video


def refined_sequence(
    session: Session, source: Source, sides: Tensor, frames: Sequence[GaussianFrame], factor: int, progress: Progress
) -> tuple[Iterator[GaussianFrame], bool]:
    """A video's tracked object; its file is written.

    Args:
        session: of the command.
        source: the video.
        sides: views 1..3 of its first frame ``[3, 3, S, S]``.
        frames: the feed-forward sequence.
        factor: steps from one frame of the video to the next.
        progress: shows the stages.

    Returns:
        the object as a sequence; whether the fit came to its end, which Ctrl-C may have prevented.
    """
    workspace, name, options = session.workspace, source.name, session.options.refine
    front = torch.stack(list(source.frames(options.refine_size or session.network.size)))
    pictures = front if options.guidance == "none" else torch.stack(list(source.frames(PICTURE_SIZE)))
    state, path = refinement_path(workspace, name), preview_path(workspace, name)
    preview = Preview(path, source.rate, session.options.camera) if options.preview else None
    refined = refine(
        session, front, sides, frames, source.rate,
        pictures=pictures, checkpoint=state, progress=progress, preview=preview,
    )  # fmt: skip
    save_tracks(refined.tracks, tracks_path(workspace, name))
    path.unlink(missing_ok=True)
    return frames_of(refined.tracks, frames, factor), refined.finished


@dataclass(frozen=True)
class Refined:
    """The outcome of a fit.

    Attributes:
        tracks: the object.
        finished: False where Ctrl-C ended the fit.
    """

    tracks: Tracks
    finished: bool


def refine(
    session: Session,
    front: Tensor,
    sides: Tensor | None,
    frames: Sequence[GaussianFrame],
    rate: Fraction,
    *,
    pictures: Tensor | None = None,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
    preview: Preview | None = None,
) -> Refined:
    """Fit a tracked object to a video, as ``session.options.refine`` says.

    Args:
        session: its renderer, seed and options.
        front: the video ``[T, 3, S, S]``.
        sides: views 1..3 of its first frame ``[3, 3, R, R]``; None: not known.
        frames: the feed-forward sequence, one for each frame of the video.
        rate: frames a second.
        pictures: the video for the guidance ``[T, 3, P, P]``; None: ``front``.
        checkpoint: file from which an interrupted fit goes on; it stays where the fit is not finished.
        progress: shows the stages.
        preview: shows the object.

    Raises:
        UserError: of the guidance's packages and weights; the preview cannot be written.
    """
    options = session.options
    generator = torch.Generator().manual_seed(options.run.seed)
    renderer = session.orbit.renderer
    sets = [frame.gaussians if renderer.on_gpu else frame.gaussians.to("cpu") for frame in frames]
    others = [] if sides is None else turned_reconstructions(session.network, front[0], sides)
    others = [one if renderer.on_gpu else one.to("cpu") for one in others]
    seen = observe(front, sides, sets, renderer, options.camera, generator, others)
    pictures = front if pictures is None else pictures
    where = (session.device, session.diffusion_dtype)
    guidance = make_guidance(options.refine, options.views, pictures, *where)
    guide = guidance and Guide(guidance, renderer, options.camera)
    start = best_start([sets[0], *others], seen, renderer)
    motions = motions_of(frames, start.means.device)
    fit = Fit(start, seen, options.refine, renderer, generator, guide, motions)
    if checkpoint is not None and checkpoint.exists():
        load_state(fit, checkpoint)

    def report(stage: str, step: int, steps: int) -> None:
        if progress is not None:
            progress.show(f"refining, {stage} {step}/{steps}")
        if preview is not None:
            preview(fit)

    finished = fit.run(report, lambda now: checkpoint is not None and save_state(now, checkpoint))
    if checkpoint is not None and finished:
        checkpoint.unlink(missing_ok=True)
    return Refined(Tracks(fit.frames(), float(rate)), finished)


def motions_of(frames: Sequence[GaussianFrame], device: torch.device) -> VideoMotion | None:
    """What the motion network found in a video; None where it was not asked."""
    found = [frame.moved for frame in frames]
    if found[0] is None:
        return None
    return VideoMotion(found[0].body.centre, [one.motion for one in found[1:]]).to(device)


@torch.no_grad()
def turned_reconstructions(network: Network, front: Tensor, sides: Tensor) -> list[Gaussians]:
    """A frame from its four views turned by a quarter either way, and from their mirror images.

    The network errs differently in each: their mean image is nearer to the truth than what the plain views give.

    Args:
        network: of reconstruction.
        front: ``[3, S, S]``.
        sides: views 1..3 ``[3, 3, R, R]``.
    """
    size = (network.size, network.size)
    views = torch.cat([resize_area(part, size) for part in (front[None], sides)])
    found = []
    for quarters in (1, 3):
        for mirror in (False, True):
            seen = views.flip(-1)[[0, 3, 2, 1]] if mirror else views
            seen = seen.roll(-quarters, dims=0)
            gaussians = turn(network.reconstruct(seen[:1], seen[1:])[0].visible(), 90.0 * quarters)
            found.append(mirrored(gaussians) if mirror else gaussians)
    return found


def frames_of(tracks: Tracks, frames: Sequence[GaussianFrame], factor: int) -> Iterator[GaussianFrame]:
    """The object at the frames of the video and ``factor`` - 1 times between two, as a sequence of inference.

    Args:
        tracks: of the video.
        frames: the feed-forward sequence, which has the video's images and the renderer.
        factor: steps from one frame to the next.
    """
    for step in range(factor * (len(frames) - 1) + 1):
        time = Fraction(step, factor)
        image = None if step % factor else frames[step // factor].image
        yield GaussianFrame(time, tracks.at(time), frames[0].orbit, image)
