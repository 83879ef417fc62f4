"""A video becomes Gaussians for every frame, then for times between the frames.

    frames ──┐  chunks of T, joined by a frame that both contain
    sides ───┴─> network ─> a GaussianFrame per frame ──┐  pairs of neighbours
                   ^                                    └─> interpolation network ─> one per 1/rate frame
                   └── the next chunk's side views: renders of this one's last frame, or frame 0's again

The interpolation network sees both neighbours and their renders (`interpolate`), or the video between them and frame
0's side views (`insert`).

Everything is a stream: memory holds one chunk per worker and one batch of pairs (with several workers also the previous
results), independent of the length of the video.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain, islice, repeat
from typing import TypeVar

import torch
from torch import Tensor

from core.gaussians import Gaussians
from core.images import resize_area
from core.inference.network import Network
from core.media import windows
from core.options.side_views import ChunkSideViews
from core.rendering.orbit import OrbitRenderer

Item, Result, State = TypeVar("Item"), TypeVar("Result"), TypeVar("State")
Numbered = Sequence[tuple[int, Tensor]]  # frames with their numbers


@dataclass(frozen=True, eq=False)
class GaussianFrame:
    """The object at one time.

    Attributes:
        time: in frames of the thinned-out video, exact: 0, 1, 2, ..., or 0, 1/3, 2/3, 1, ... after interpolation.
        gaussians: of this time, no leading axes; without those too faint to be drawn.
        orbit: renders them.
        image: the video frame ``[3, H, H]`` at this time; None between two frames.
    """

    time: Fraction
    gaussians: Gaussians
    orbit: OrbitRenderer = field(repr=False)
    image: Tensor | None = None
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


def overlapping_chunks(items: Iterable[Item], length: int) -> Iterator[tuple[Sequence[Item], int]]:
    """Cut a stream into chunks, each with the number of its results that are known from the previous one.

    A chunk begins with the last item of the previous one. Chunks of one item do not overlap. The last chunk may be
    shorter, and every chunk adds a new item.
    """
    overlap = min(1, length - 1)
    for number, chunk in enumerate(windows(items, length, overlap)):
        yield chunk, overlap if number else 0


def in_chunks(
    items: Iterable[Item],
    length: int,
    state: State,
    run: Callable[[Sequence[Item], State], tuple[Sequence[Result], State]],
) -> Iterator[Result]:
    """Run a stream through ``run`` in chunks: n items give exactly n results, in order.

    Args:
        items: the stream.
        length: items of a chunk, see `overlapping_chunks`.
        state: of the first chunk.
        run: (items of a chunk, state) -> (one result per item, state for the next chunk).
    """
    for chunk, known in overlapping_chunks(items, length):
        results, state = run(chunk, state)
        yield from results[known:]


def refine_pairs(
    items: Iterable[Item], pairs: int, run: Callable[[Sequence[Item], bool], Sequence[Item]], workers: int = 1
) -> Iterator[Item]:
    """Refine a stream by its pairs of neighbours: n items give r (n - 1) + 1 results where a pair gives r + 1.

    The first result of every pair but the very first is not computed: it repeats the last result of the previous pair.
    A single item is returned unchanged.

    Args:
        items: the stream.
        pairs: how many pairs go into one call of ``run``.
        run: (successive items, whether to return the first result) -> the results from one end to the other.
        workers: calls of ``run`` at once.
    """

    def refined(numbered: tuple[int, Sequence[Item]]) -> Sequence[Item]:
        number, window = numbered
        return window if len(window) == 1 else run(window, number == 0)

    for results in map_in_threads(refined, enumerate(windows(items, pairs + 1)), workers):
        yield from results


def num_calls(frames: int, length: int, pairs: int, workers: int) -> int:
    """Number of network calls for a video: chunks of ``length``, and batches of pairs; 0 pairs: no interpolation."""
    chunks = 1 + max(0, math.ceil((frames - length) / max(1, length - 1)))
    return chunks + (math.ceil((frames - 1) / max(1, pairs // workers)) if pairs else 0)


def reconstruct(
    frames: Iterable[Tensor],
    side_views: Tensor | None,
    length: int,
    network: Network,
    orbit: OrbitRenderer,
    chunk_side_views: ChunkSideViews = "previous",
    workers: int = 1,
) -> Iterator[GaussianFrame]:
    """Gaussians for every frame.

    Args:
        frames: ``[3, S, S]`` in [0, 1], S = ``network.size``.
        side_views: views 1..3 of the first frame ``[3, 3, S, S]``; None: only the frames are known.
        length: T, frames that the network sees at once.
        network: the reconstruction model.
        orbit: renders.
        chunk_side_views: side views of the next chunk. ``previous``: renders of the previous chunk's last frame.
            ``first``: those of the first frame, which then replaces the frame that joins two chunks.
        workers: concurrent chunks, for ``first`` and a network without a memory.
    """

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
        side_views: views 1..3 of the first frame ``[3, 3, S, S]``, which the network sees at all times.
        pairs, network, orbit, workers: as of `interpolate`.
    """

    def run(numbered: tuple[int, Sequence[tuple[GaussianFrame, Tensor | None]]]) -> list[GaussianFrame]:
        number, window = numbered
        at_frames = [frame for frame, _ in window]
        known, images = at_frames[1 if number else 0 :], [front for _, front in window[:-1]]
        count = len(images[0]) if images else 0
        if not count:
            return known
        gaussians = network.insert(start.image, torch.stack(images), side_views)
        times = [before.time + Fraction(k + 1, count + 1) for before in at_frames[:-1] for k in range(count)]
        return sorted([*known, *_gaussian_frames(gaussians, times, repeat(None), orbit)], key=lambda new: new.time)

    stream = iter(frames)
    for start in islice(stream, 1):
        inputs = zip(chain([start], stream), chain(fronts, repeat(None)), strict=False)
        for results in map_in_threads(run, enumerate(windows(inputs, max(1, pairs // workers) + 1)), workers):
            yield from results


def map_in_threads(
    run: Callable[[Item], Result], items: Iterable[Item], workers: int, ahead: bool = True
) -> Iterator[Result]:
    """The results of ``run`` for a stream, in order.

    Up to ``workers`` calls run at once, each with its share of torch's threads, which is more efficient than one call
    with all of them. A single last call gets all threads. No call runs while the stream computes its next items, which
    bounds the memory. Exceptions propagate in order.

    Args:
        run: safe to be called from several threads.
        items: the stream.
        workers: calls at once; 1: in this thread, one after the other.
        ahead: whether the next calls run while results are consumed; the consuming thread then has a worker's share
            too.
    """
    if workers == 1:
        yield from map(run, items)
        return
    threads = torch.get_num_threads()
    share = max(1, threads // workers)
    done: list[Future[Result]] = []
    try:
        with ThreadPoolExecutor(workers, "worker", torch.set_num_threads, (share,)) as pool:
            for group in windows(items, workers, overlap=0):
                running = [pool.submit(run, item) for item in group] if len(group) > 1 else []
                if running and ahead:
                    torch.set_num_threads(share)
                yield from (call.result() for call in done)
                wait(running)
                torch.set_num_threads(threads)
                done = running if ahead else []
                yield from (call.result() for call in running if not ahead)
                yield from (run(item) for item in group if not running)
            yield from (call.result() for call in done)
    finally:  # after the last worker: new threads inherit the last setting
        torch.set_num_threads(threads)
