"""A video becomes Gaussians for every frame, then for times between the frames.

    frames ──┐  chunks of T, joined by a frame that both contain
    sides ───┴─> network ─> a GaussianFrame per frame ──┐  pairs of neighbours
                   ^                                    └─> interpolation network ─> one per 1/rate frame
                   └── the next chunk's side views: renders of this one's last frame, or frame 0's again, which may
                       move with the object (`core.inference.moving`)

The interpolation network sees both neighbours and their renders (`interpolate`), or the video between them and frame
0's side views (`insert`).

Everything is a stream: memory holds one chunk per worker and one batch of pairs (with several workers also the previous
results), independent of the length of the video.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain, islice, pairwise, repeat, tee

import torch
from torch import Tensor

from core.gaussians import Gaussians
from core.images import resize_area
from core.inference.moving import Moved, MovingObject
from core.inference.network import Network
from core.inference.streams import in_chunks, map_in_threads, overlapping_chunks, refine_pairs
from core.media import windows
from core.options.side_views import ChunkSideViews
from core.rendering.orbit import OrbitRenderer
from core.tracking.motion_network import Motion
from core.tracking.prediction import MotionPredictor

Numbered = Sequence[tuple[int, Tensor]]  # frames with their numbers


@dataclass(frozen=True, eq=False)
class GaussianFrame:
    """The object at one time.

    Attributes:
        time: in frames of the thinned-out video, exact: 0, 1, 2, ..., or 0, 1/3, 2/3, 1, ... after interpolation.
        gaussians: of this time, no leading axes; without those too faint to be drawn.
        orbit: renders them.
        image: the video frame ``[3, H, H]`` at this time; None between two frames.
        moved: the first frame's object and its motion; None where side views do not move.
    """

    time: Fraction
    gaussians: Gaussians
    orbit: OrbitRenderer = field(repr=False)
    image: Tensor | None = None
    moved: Moved | None = field(default=None, repr=False)
    _views: dict[int, Tensor] = field(default_factory=dict, init=False, repr=False)

    def views(self, size: int | None = None) -> Tensor:
        """Renders ``[4, 3, size, size]`` at azimuth 0, 90, 180, 270; those of one size are drawn once.

        Args:
            size: side in pixels; None: that of the views which networks see.
        """
        size = size or self.orbit.size
        if size not in self._views:
            self._views[size] = self.orbit(self.gaussians[None], size=size)[0]
        return self._views[size]

    def side_views(self, network: Network) -> Tensor:
        """Views 1..3 as the network sees them, ``[3, 3, S, S]``."""
        return resize_area(self.views()[1:], (network.size, network.size))


def _gaussian_frames(
    gaussians: Gaussians, times: Iterable[Fraction | int], images: Iterable[Tensor | None], orbit: OrbitRenderer
) -> list[GaussianFrame]:
    """One for each of the leading axis ``[T]``."""
    numbered = enumerate(zip(times, images, strict=False))
    return [GaussianFrame(Fraction(time), gaussians[k].visible(), orbit, image) for k, (time, image) in numbered]


def num_calls(frames: int, length: int, pairs: int, chunk_side_views: ChunkSideViews, workers: int) -> int:
    """Number of network calls for a video: chunks of ``length``, and batches of pairs; 0 pairs: no interpolation."""
    moved = chunk_side_views == "moved"  # the first frame is a chunk of its own
    later = math.ceil((frames - 1) / length) if moved else math.ceil((frames - length) / max(1, length - 1))
    chunks = 1 + max(0, later)
    return chunks + (math.ceil((frames - 1) / max(1, pairs // workers)) if pairs else 0)


def reconstruct(
    frames: Iterable[Tensor],
    side_views: Tensor | None,
    length: int,
    network: Network,
    orbit: OrbitRenderer,
    chunk_side_views: ChunkSideViews = "previous",
    workers: int = 1,
    predictor: MotionPredictor | None = None,
) -> Iterator[GaussianFrame]:
    """Gaussians for every frame.

    Args:
        frames: ``[3, S, S]`` in [0, 1], S = ``network.size``.
        side_views: views 1..3 of the first frame ``[3, 3, S, S]``; None: only the frames are known.
        length: T, frames that the network sees at once.
        network: the reconstruction model.
        orbit: renders.
        chunk_side_views: side views of the next chunk. ``previous``: renders of the previous chunk's last frame.
            ``first``: those of the first frame, which then replaces the frame that joins two chunks. ``moved``: renders
            of the first frame's Gaussians, moved as the front shows; a network's memory is not used.
        workers: concurrent chunks, for ``first`` and a network without a memory, and for ``moved``.
        predictor: of the motion, for ``moved``.
    """
    if chunk_side_views == "moved":
        yield from _reconstruct_moved(frames, side_views, length, network, orbit, workers, predictor)
        return

    memory = network.new_memory()

    def run(chunk: Numbered, images: Sequence[Tensor], sides: Tensor | None) -> list[GaussianFrame]:
        gaussians = network.reconstruct(torch.stack(images), sides, memory=memory)
        return _gaussian_frames(gaussians, *zip(*chunk, strict=True), orbit)

    def with_previous(chunk: Numbered, sides: Tensor | None) -> tuple[list[GaussianFrame], Tensor]:
        results = run(chunk, [frame for _, frame in chunk], sides)
        return results, results[-1].side_views(network)

    def with_first(part: tuple[Numbered, int]) -> list[GaussianFrame]:
        chunk, known = part
        own = [start] if known else []
        return run(chunk, [*own, *(frame for _, frame in chunk[known:])], side_views)[known:]

    if chunk_side_views == "previous":
        yield from in_chunks(enumerate(frames), length, side_views, with_previous)
        return
    workers = workers if memory is None else 1  # a memory takes the chunks in their order
    stream = iter(frames)
    for start in islice(stream, 1):
        chunks = overlapping_chunks(enumerate(chain([start], stream)), length)
        for results in map_in_threads(with_first, chunks, workers, ahead=False):
            yield from results


def _reconstruct_moved(
    frames: Iterable[Tensor],
    side_views: Tensor | None,
    length: int,
    network: Network,
    orbit: OrbitRenderer,
    workers: int,
    predictor: MotionPredictor,
) -> Iterator[GaussianFrame]:
    stream = iter(frames)
    for start in islice(stream, 1):
        body = MovingObject(start, side_views, network, predictor, orbit)
        yield GaussianFrame(Fraction(0), body.first.visible(), orbit, start, body.still())

        def run(chunk: Sequence[tuple[int, tuple[Tensor, Motion]]], body: MovingObject = body) -> list[GaussianFrame]:
            images, motions = zip(*(pair for _, pair in chunk), strict=True)
            gaussians = body.at(torch.stack(images), motions)
            return [
                GaussianFrame(Fraction(time), gaussians[k].visible(), orbit, image, Moved(body, motion))
                for k, (time, (image, motion)) in enumerate(chunk)
            ]

        ahead, later = tee(stream)
        numbered = enumerate(zip(later, body.motions(ahead), strict=True), 1)
        for results in map_in_threads(run, windows(numbered, length, overlap=0), workers, ahead=False):
            yield from results


def interpolate(
    frames: Iterable[GaussianFrame], rate: int, pairs: int, network: Network, orbit: OrbitRenderer, workers: int = 1
) -> Iterator[GaussianFrame]:
    """Interpolate ``rate`` - 1 frames in every interval; all Gaussians come from the interpolation network, as
    published.

    It sees both frames with side views rendered from their Gaussians, and blends of these.

    Args:
        frames: successive ones, from `reconstruct`.
        rate: the network was trained with 3; it sees ``rate`` + 1 time steps.
        pairs: intervals that run at once, over all workers.
        network: the interpolation model.
        orbit: renders.
        workers: calls of the network at once.
    """

    def ends(frame: GaussianFrame) -> Tensor:
        sides = frame.side_views(network)
        return torch.cat([frame.image[None].to(sides), sides])

    def run(window: Sequence[GaussianFrame], first: bool) -> list[GaussianFrame]:
        gaussians = network.interpolate(torch.stack([ends(frame) for frame in window]), rate, first=first)
        steps = range(0 if first else 1, rate * (len(window) - 1) + 1)
        images = [None if step % rate else window[step // rate].image for step in steps]
        return _gaussian_frames(gaussians, (window[0].time + Fraction(step, rate) for step in steps), images, orbit)

    return refine_pairs(frames, max(1, pairs // workers), run, workers)


def insert(
    frames: Iterable[GaussianFrame],
    fronts: Iterable[Tensor],
    side_views: Tensor,
    pairs: int,
    network: Network,
    orbit: OrbitRenderer,
    workers: int = 1,
) -> Iterator[GaussianFrame]:
    """Insert Gaussians in every interval of two frames; those at frames are unchanged.

    Args:
        frames: successive ones from the first frame on, from `reconstruct`.
        fronts: view 0 at K times between a frame and the next ``[K, 3, S, S]``, per interval; surplus items are not
            read.
        side_views: views 1..3 of the first frame ``[3, 3, S, S]``, which the network sees at all times; where frames
            have moved ones, it sees these, moved on.
        pairs, network, orbit, workers: as of `interpolate`.
    """

    def run(numbered: tuple[int, Sequence[tuple[GaussianFrame, Tensor | None]]]) -> list[GaussianFrame]:
        number, window = numbered
        at_frames = [frame for frame, _ in window]
        known, images = at_frames[1 if number else 0 :], [front for _, front in window[:-1]]
        count = len(images[0]) if images else 0
        if not count:
            return known
        if start.moved is None:
            gaussians = network.insert(start.image, torch.stack(images), side_views)
        else:
            ends = [frame.moved for frame in at_frames]
            motions = [motion for a, b in pairwise(ends) for motion in a.towards(b, count + 1)]
            gaussians = start.moved.body.at(torch.cat(images), motions, network)
        times = [before.time + Fraction(k + 1, count + 1) for before in at_frames[:-1] for k in range(count)]
        return sorted([*known, *_gaussian_frames(gaussians, times, repeat(None), orbit)], key=lambda new: new.time)

    stream = iter(frames)
    for start in islice(stream, 1):
        inputs = zip(chain([start], stream), chain(fronts, repeat(None)), strict=False)
        for results in map_in_threads(run, enumerate(windows(inputs, max(1, pairs // workers) + 1)), workers):
            yield from results
