"""A video becomes Gaussian sets: chunk by chunk, then with more sets between them.

    frames ──┐  chunks of T, joined by a frame that both see
    sides ───┴─> network ─> a Moment per frame ──┐  pairs of neighbours
                   ^                             └─> interpolation network ─> a Moment per 1/rate frame
                   └── the next chunk's side views: renders of this one's last set, or frame 0's again

The interpolation network sees both neighbours and their renders (`interpolate`), or what the video shows between them
and frame 0's side views again (`insert`).

Everything is a stream: one chunk for each lane and one batch of pairs are held at a time, with lanes the results of the
batch before as well, whatever the length of the video. What counts frames, chunks and pairs, `joined`, `in_chunks` and
`between`, knows nothing of tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice, repeat
from typing import TypeVar

import torch
from torch import Tensor

from core.gaussians import Gaussians
from core.images import resize_area
from core.inference.lanes import in_lanes
from core.inference.network import Network
from core.media import windows
from core.options.side_views import ChunkSideViews
from core.rendering.orbit import OrbitRenderer

Item, Result, State = TypeVar("Item"), TypeVar("Result"), TypeVar("State")
Numbered = Sequence[tuple[int, Tensor]]  # frames with their numbers


@dataclass(frozen=True)
class Moment:
    """One time step of the result.

    Attributes:
        time: in frames of the thinned-out video, exact: 0, 1, 2, ..., or 0, 1/3, 2/3, 1, ... after interpolation.
        gaussians: one set, of what can be seen.
        views: its renders ``[4, 3, S, S]`` at azimuth 0, 90, 180, 270.
        frame: the video frame ``[3, H, H]`` at this time; None between two frames.
    """

    time: Fraction
    gaussians: Gaussians
    views: Tensor
    frame: Tensor | None


def joined(items: Iterable[Item], length: int) -> Iterator[tuple[Sequence[Item], int]]:
    """Cut a stream into chunks, each with how many of its results are known from the one before.

    A chunk begins with the last item of the one before, to join the two. Chunks of one item do not overlap. The last
    chunk may be shorter; none is made that brings nothing new.
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
        length: items of a chunk, see `joined`.
        state: handed to the first chunk.
        run: (items of a chunk, state) -> (one result per item, state for the next chunk).
    """
    for chunk, known in joined(items, length):
        results, state = run(chunk, state)
        yield from results[known:]


def between(
    items: Iterable[Item], pairs: int, run: Callable[[Sequence[Item], bool], Sequence[Item]], lanes: int = 1
) -> Iterator[Item]:
    """Refine a stream by its pairs of neighbours: n items give r (n - 1) + 1 results where a pair gives r + 1.

    The first result of every pair but the very first is not asked for: it lies at the time of the last one before it.
    A single item has no pair and stays as it is.

    Args:
        items: the stream.
        pairs: how many pairs go into one call of ``run``.
        run: (successive items, whether the first result is asked for) -> the results from one end to the other.
        lanes: calls of ``run`` at once.
    """

    def refined(numbered: tuple[int, Sequence[Item]]) -> Sequence[Item]:
        number, window = numbered
        return window if len(window) == 1 else run(window, number == 0)

    for results in in_lanes(refined, enumerate(windows(items, pairs + 1)), lanes):
        yield from results


def reconstruct(
    frames: Iterable[Tensor],
    side_views: Tensor,
    length: int,
    network: Network,
    orbit: OrbitRenderer,
    chunk_side_views: ChunkSideViews = "previous",
    lanes: int = 1,
) -> Iterator[Moment]:
    """One set for every frame.

    Args:
        frames: ``[3, S, S]`` in [0, 1], S = ``network.size``.
        side_views: views 1..3 of the first frame ``[3, 3, S, S]``.
        length: T, frames that the network sees at once.
        network: the reconstruction model.
        orbit: renders.
        chunk_side_views: those of the next chunk: renders of the ``previous`` one's last set, or those of the ``first``
            frame again, which come with the frame that they belong to, in the place of the one that joins two chunks.
        lanes: chunks at once, where none waits for the one before it.
    """

    def run(chunk: Numbered, shown: Sequence[Tensor], sides: Tensor) -> list[Moment]:
        gaussians = network.reconstruct(torch.stack(shown), sides)
        views = orbit(gaussians)
        moments = ((Fraction(time), gaussians[k].visible(), views[k], frame) for k, (time, frame) in enumerate(chunk))
        return [Moment(*moment) for moment in moments]

    def hand_on(chunk: Numbered, sides: Tensor) -> tuple[list[Moment], Tensor]:
        moments = run(chunk, [frame for _, frame in chunk], sides)
        return moments, resize_area(moments[-1].views[1:], (network.size, network.size))

    def keep(part: tuple[Numbered, int]) -> list[Moment]:
        chunk, known = part
        own = [start] if known else []
        return run(chunk, [*own, *(frame for _, frame in chunk[known:])], side_views)[known:]

    if chunk_side_views == "previous":
        yield from in_chunks(enumerate(frames), length, side_views, hand_on)
        return
    stream = iter(frames)
    for start in islice(stream, 1):
        chunks = joined(enumerate(chain([start], stream)), length)
        for moments in in_lanes(keep, chunks, lanes, ahead=False):
            yield from moments


def interpolate(
    moments: Iterable[Moment], rate: int, pairs: int, network: Network, orbit: OrbitRenderer, lanes: int = 1
) -> Iterator[Moment]:
    """``rate`` sets for every interval of two frames, all of them from the interpolation network, as published.

    It sees both frames with renders of their sets from the side, and blends of these.

    Args:
        moments: of neighbouring frames, from `reconstruct`.
        rate: the network was trained with 3; it sees ``rate`` + 1 time steps.
        pairs: intervals that run at once, over all lanes.
        network: the interpolation model.
        orbit: renders.
        lanes: calls of the network at once.
    """

    def ends(moment: Moment) -> Tensor:
        views = resize_area(moment.views, (network.size, network.size))
        return torch.cat([moment.frame[None].to(views), views[1:]])

    def run(window: Sequence[Moment], first: bool) -> list[Moment]:
        sets = network.interpolate(torch.stack([ends(moment) for moment in window]), rate, first=first)
        views = orbit(sets)
        start = 0 if first else 1
        frames = {moment.time: moment.frame for moment in window}
        times = [window[0].time + Fraction(k, rate) for k in range(start, start + len(views))]
        return [Moment(time, sets[k].visible(), views[k], frames.get(time)) for k, time in enumerate(times)]

    return between(moments, max(1, pairs // lanes), run, lanes)


def insert(
    moments: Iterable[Moment],
    fronts: Iterable[Tensor],
    side_views: Tensor,
    pairs: int,
    network: Network,
    orbit: OrbitRenderer,
    lanes: int = 1,
) -> Iterator[Moment]:
    """Further sets in every interval of two frames; those at frames stay.

    Args:
        moments: of neighbouring frames from the video's first one on, from `reconstruct`.
        fronts: view 0 at K times between a moment and the next ``[K, 3, S, S]``, for each two; more are not read.
        side_views: views 1..3 of the first frame ``[3, 3, S, S]``, which the network sees at all times.
        pairs, network, orbit, lanes: as of `interpolate`.
    """

    def run(numbered: tuple[int, Sequence[tuple[Moment, Tensor | None]]]) -> list[Moment]:
        number, window = numbered
        at_frames = [moment for moment, _ in window]
        known, shown = at_frames[1 if number else 0 :], [front for _, front in window[:-1]]
        count = len(shown[0]) if shown else 0
        if not count:
            return known
        sets = network.insert(start.frame, torch.stack(shown), side_views)
        views = orbit(sets)
        times = [before.time + Fraction(k + 1, count + 1) for before in at_frames[:-1] for k in range(count)]
        new = [Moment(time, sets[k].visible(), views[k], None) for k, time in enumerate(times)]
        return sorted([*known, *new], key=lambda moment: moment.time)

    stream = iter(moments)
    for start in islice(stream, 1):
        shown = zip(chain([start], stream), chain(fronts, repeat(None)), strict=False)
        for results in in_lanes(run, enumerate(windows(shown, max(1, pairs // lanes) + 1)), lanes):
            yield from results
