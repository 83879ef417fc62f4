"""infer_4d with --refine: the feed-forward sequence becomes one tracked object, at any frame rate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from core.inference.inputs import Source
from core.inference.outputs import refinement_path, tracks_path
from core.inference.progress import Progress
from core.inference.sequence import GaussianFrame
from core.inference.session import Session
from core.tracking.fit import Fit
from core.tracking.observations import observe
from core.tracking.state import load_state, save_state
from core.tracking.tracks import Tracks, save_tracks


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
    workspace, name = session.workspace, source.name
    front = torch.stack(list(source.frames(session.options.refine.refine_size or session.network.size)))
    state = refinement_path(workspace, name)
    refined = refine(session, front, sides, frames, source.rate, checkpoint=state, progress=progress)
    save_tracks(refined.tracks, tracks_path(workspace, name))
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
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> Refined:
    """Fit a tracked object to a video, as ``session.options.refine`` says.

    Args:
        session: its renderer, seed and options.
        front: the video ``[T, 3, S, S]``.
        sides: views 1..3 of its first frame ``[3, 3, R, R]``; None: not known.
        frames: the feed-forward sequence, one for each frame of the video.
        rate: frames a second.
        checkpoint: file from which an interrupted fit goes on; it stays where the fit is not finished.
        progress: shows the stages.
    """
    options = session.options
    generator = torch.Generator().manual_seed(options.run.seed)
    renderer = session.orbit.renderer
    sets = [frame.gaussians if renderer.on_gpu else frame.gaussians.to("cpu") for frame in frames]
    seen = observe(front, sides, sets, renderer, options.camera, generator)
    fit = Fit(sets[0], seen, options.refine, renderer, generator)
    if checkpoint is not None and checkpoint.exists():
        load_state(fit, checkpoint)

    def report(stage: str, step: int, steps: int) -> None:
        if progress is not None:
            progress.show(f"refining, {stage} {step}/{steps}")

    finished = fit.run(report, lambda now: checkpoint is not None and save_state(now, checkpoint))
    if checkpoint is not None and finished:
        checkpoint.unlink(missing_ok=True)
    return Refined(Tracks(fit.frames(), float(rate)), finished)


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
