"""Chunks and interpolation: every frame once, every time once, bounded memory."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from math import ceil

import pytest
import torch
from torch import Tensor

from core.gaussians import Gaussians
from core.images import resize_area
from core.inference.network import Network
from core.inference.sequence import GaussianFrame, insert, interpolate, reconstruct
from core.inference.streams import in_chunks, refine_pairs
from core.options import CameraOptions
from core.rendering.orbit import OrbitRenderer
from core.rotations import turn
from tests.tiny import SIZE, lopsided_gaussians, square_frame, tiny_network


@pytest.mark.parametrize("length", range(1, 18))
def test_n_frames_give_n_results_and_no_chunk_is_wasted(length: int) -> None:
    for count in range(1, 71):
        chunks = []

        def run(chunk: Sequence[int], state: int, chunks: list = chunks) -> tuple[Sequence[int], int]:
            chunks.append((list(chunk), state))
            return chunk, chunk[-1]

        assert list(in_chunks(range(count), length, -1, run)) == list(range(count))
        frames = [chunk for chunk, _ in chunks]
        step = max(1, length - 1)
        assert len(chunks) == (1 if count <= length else 1 + ceil((count - length) / step))
        assert all(len(chunk) == length for chunk in frames[:-1])
        # Neighbours share their border frame, and the state continues from it.
        assert [state for _, state in chunks] == [-1, *(chunk[-1] for chunk in frames[:-1])]
        assert all(after[0] == before[-1] + (length == 1) for before, after in pairwise(frames))


@pytest.mark.parametrize("rate", range(1, 6))
@pytest.mark.parametrize("length", range(1, 18))
def test_interpolation_gives_every_time_once_across_all_borders(length: int, rate: int) -> None:
    for count in range(1, 71):
        pairs = 1 + (count + length + rate) % 5
        calls = []

        def run(window: Sequence[Fraction], first: bool, calls: list = calls) -> list[Fraction]:
            calls.append(len(window) - 1)
            assert all(after - before == 1 for before, after in pairwise(window))
            steps = range(0 if first else 1, rate * (len(window) - 1) + 1)
            return [window[0] + Fraction(step, rate) for step in steps]

        frames = in_chunks(map(Fraction, range(count)), length, None, lambda chunk, _: (chunk, None))
        times = list(refine_pairs(frames, pairs, run))
        assert times == [Fraction(step, rate) for step in range(rate * (count - 1) + 1)]
        assert sum(calls) == count - 1
        assert len(calls) == ceil((count - 1) / pairs), "pairs run in full batches"


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return tiny_network(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def orbit() -> OrbitRenderer:
    return OrbitRenderer(CameraOptions(renderer="numba"), 2 * SIZE)


def frames(count: int) -> list[Tensor]:
    return [square_frame(index) for index in range(count)]


SIDES = torch.rand(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("count", "length"), [(1, 4), (3, 4), (7, 3), (3, 1)])
def test_reconstruction_equals_a_plain_loop(network: Network, orbit: OrbitRenderer, count: int, length: int) -> None:
    """Side views of a chunk are renders of the previous chunk's last frame, reduced by area."""
    video = frames(count)
    expected, views, sides, start = [], [], SIDES, 0
    while len(expected) < count:
        chunk = network.reconstruct(torch.stack(video[start : start + length]), sides)
        new = [chunk[k] for k in range(len(chunk.means))][1 if start and length > 1 else 0 :]
        expected += [gaussians.visible() for gaussians in new]
        views += [orbit(gaussians[None])[0] for gaussians in new]
        sides = resize_area(views[-1][1:], (SIZE, SIZE))
        start = len(expected) - (length > 1)
    results = list(reconstruct(iter(video), SIDES, length, network, orbit))
    assert [frame.time for frame in results] == list(range(count))
    for index, frame in enumerate(results):
        assert frame.image is video[index]
        torch.testing.assert_close(frame.gaussians.means, expected[index].means, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(frame.views(), views[index], atol=1e-4, rtol=0)


class Spy:
    """A network that encodes its inputs in colours. The first colour of what it makes is call / 10 + number / 100."""

    size = SIZE

    def __init__(self) -> None:
        self.calls: list[tuple] = []

    def _made(self, count: int) -> Gaussians:
        gaussians = lopsided_gaussians()[[0] * count]
        tags = torch.arange(count) / 100 + len(self.calls) / 10
        return replace(gaussians, colors=tags[:, None, None].expand_as(gaussians.colors))

    def new_memory(self) -> None:
        """It has none."""

    def reconstruct(self, frames: Tensor, side_views: Tensor, memory: None = None) -> Gaussians:
        self.calls.append((frames, side_views))
        return self._made(len(frames))

    def interpolate(self, ends: Tensor, rate: int, *, first: bool = True) -> Gaussians:
        self.calls.append((ends, first))
        return self._made(rate * (len(ends) - 1) + first)

    def insert(self, first: Tensor, frames: Tensor, side_views: Tensor) -> Gaussians:
        self.calls.append((first, frames, side_views))
        return self._made(frames.shape[:2].numel())


class FlatOrbit:
    """In place of a renderer: four views of one grey each, the first colour of the Gaussians + view / 1000."""

    size = 2 * SIZE

    def __init__(self) -> None:
        self.drawn = 0

    def __call__(self, gaussians: Gaussians, size: int) -> Tensor:
        self.drawn += len(gaussians.means)
        grey = gaussians.colors[:, None, 0, 0] + torch.arange(4) / 1000
        return grey[..., None, None, None].expand(-1, 4, 3, size, size)


def test_side_views_are_those_of_the_previous_chunk_or_the_first() -> None:
    for source, repeated in (("previous", False), ("first", True)):
        network = Spy()
        assert len(list(reconstruct(iter(frames(7)), SIDES, 3, network, FlatOrbit(), source))) == 7
        assert [torch.equal(sides, SIDES) for _, sides in network.calls] == [True, repeated, repeated]


@pytest.mark.parametrize("length", [2, 4])
def test_first_side_views_come_with_the_first_frame(length: int) -> None:
    """It replaces the frame that joins chunks, and its result is dropped; chunks of one frame have no such frame."""
    network, video = Spy(), frames(7)
    orbit = FlatOrbit()
    results = list(reconstruct(iter(video), SIDES, length, network, orbit, "first"))
    assert not orbit.drawn, "what no network sees is not drawn"
    shown = [chunk for chunk, _ in network.calls]
    assert all(torch.equal(chunk[0], video[0]) for chunk in shown)
    assert torch.equal(torch.cat([shown[0][:1], *(chunk[1:] for chunk in shown)]), torch.stack(video))
    assert all(result.image is image for result, image in zip(results, video, strict=True))
    alone = Spy()
    list(reconstruct(iter(video), SIDES, 1, alone, FlatOrbit(), "first"))
    assert torch.equal(torch.cat([chunk for chunk, _ in alone.calls]), torch.stack(video))


def test_chunks_in_threads_equal_one_after_the_other(network: Network, orbit: OrbitRenderer) -> None:
    one, two = (list(reconstruct(iter(frames(8)), SIDES, 3, network, orbit, "first", workers)) for workers in (1, 2))
    assert [frame.time for frame in one] == [frame.time for frame in two] == list(range(8))
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(a.gaussians.means, b.gaussians.means, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_inserted_gaussians_come_between_those_at_frames_which_stay(count: int, workers: int) -> None:
    video, between_them, spy = frames(5), torch.rand(4, count, 3, SIZE, SIZE), Spy()
    frames_alone = list(reconstruct(iter(video), SIDES, 3, Spy(), FlatOrbit(), "first"))
    finer = list(insert(frames_alone, between_them, SIDES, 2 * workers, spy, FlatOrbit(), workers))
    assert [frame.time for frame in finer] == [Fraction(step, count + 1) for step in range(4 * (count + 1) + 1)]
    assert all(a is b for a, b in zip(finer[:: count + 1], frames_alone, strict=True))
    assert all(frame.image is None for step, frame in enumerate(finer) if step % (count + 1))
    assert len(spy.calls) == (2 if count else 0)
    for first, shown, sides in spy.calls:
        assert first is video[0] and torch.equal(sides, SIDES)
        assert any(torch.equal(shown, between_them[start : start + 2]) for start in (0, 2))
    assert list(insert(frames_alone[:1], between_them, SIDES, 2, spy, FlatOrbit())) == frames_alone[:1]
    assert list(insert([], [], SIDES, 2, spy, FlatOrbit())) == []


def test_an_interval_follows_the_frame_of_the_side_views(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(network.model, "forward", lambda *args: calls.append(args) or lopsided_gaussians()[None])
    first, shown = torch.rand(3, SIZE, SIZE), torch.rand(3, 2, 3, SIZE, SIZE)
    network.insert(first, shown, SIDES)
    ((grid, frame_mask, _),) = calls
    assert frame_mask.tolist() == 3 * [[False, True, True]]
    colors = grid.view_images
    assert torch.equal(colors[:, :, 1:], SIDES.expand(3, 3, -1, -1, -1, -1))
    assert torch.equal(colors[:, 0, 0], first.expand(3, -1, -1, -1))
    assert torch.equal(colors[:, 1:, 0], shown)


def test_each_size_is_drawn_once() -> None:
    orbit = FlatOrbit()
    frame = GaussianFrame(Fraction(0), lopsided_gaussians()[0], orbit)
    assert frame.views().shape == (4, 3, 2 * SIZE, 2 * SIZE) and frame.views(8).shape == (4, 3, 8, 8)
    assert frame.side_views(Spy()).shape == (3, 3, SIZE, SIZE)
    assert frame.views(8) is frame.views(8) and frame.views(2 * SIZE) is frame.views()
    assert orbit.drawn == 2


@pytest.mark.parametrize("interpolated", [False, True])
def test_side_views_carry_over_with_and_without_interpolation(interpolated: bool) -> None:
    network, orbit = Spy(), FlatOrbit()
    results = reconstruct(iter(frames(7)), SIDES, 3, network, orbit)
    if interpolated:
        results = interpolate(results, 3, 2, Spy(), FlatOrbit())
    assert len(list(results)) == (19 if interpolated else 7)
    (_, first), (_, second), (_, third) = network.calls
    assert torch.equal(first, SIDES)
    # Views 1, 2, 3 of what calls 1 and 2 made for their third frame.
    for call, sides in ((1, second), (2, third)):
        grey = [call / 10 + 2 / 100 + view / 1000 for view in (1, 2, 3)]
        assert sides.mean(dim=(1, 2, 3)).tolist() == pytest.approx(grey)


def test_pairs_are_the_frame_and_the_renders_of_its_own_gaussians() -> None:
    """View 0 is the video's, views 1..3 the renders, reduced by area; for both ends."""
    video, spy, orbit = frames(4), Spy(), OrbitRenderer(CameraOptions(renderer="numba"), 2 * SIZE)
    ends = [GaussianFrame(Fraction(k), turn(lopsided_gaussians()[0], 10 * k), orbit, video[k]) for k in range(4)]
    finer = list(interpolate(ends, 3, 2, spy, FlatOrbit()))
    assert [(len(ends), first) for ends, first in spy.calls] == [(3, True), (2, False)]
    (start, _), (end, _) = spy.calls
    assert torch.equal(start[2], end[0])
    for k, side in enumerate((*start, end[1])):
        assert torch.equal(side[0], video[k])
        assert torch.equal(side[1:], resize_area(orbit(ends[k].gaussians[None])[0, 1:], (SIZE, SIZE)))
    assert [frame.image is not None for frame in finer] == [True, False, False] * 3 + [True]


@pytest.mark.parametrize("rate", [1, 2, 3])
def test_middle_inputs_are_blends_of_all_views(network: Network, rate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    grids = []
    monkeypatch.setattr(network.model, "forward", lambda *args: grids.append(args) or lopsided_gaussians()[None])
    ends = torch.rand(6, 4, 3, SIZE, SIZE)
    network.interpolate(ends, rate, first=False)
    ((grid, frame_mask, _),) = grids
    assert frame_mask.tolist() == 5 * [[False] + rate * [True]]
    first, last = ends[:-1], ends[1:]
    assert grid.shape == (5, rate + 1, 4) and len(grid.images) == 4 * (5 * rate + 1)
    colors = grid.view_images
    for step in range(rate + 1):
        weight = step / rate
        torch.testing.assert_close(colors[:, step], (1 - weight) * first + weight * last, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        grid.tensor()[:, :, :, 3:], network.cameras.pluecker().expand(5, rate + 1, 4, 6, SIZE, SIZE)
    )


def test_pairs_in_batches_and_workers_equal_one_at_a_time(network: Network, orbit: OrbitRenderer) -> None:
    results = []
    for pairs, workers in ((1, 1), (3, 1), (4, 2)):
        ends = reconstruct(iter(frames(6)), SIDES, 4, network, orbit)
        results.append(list(interpolate(ends, 2, pairs, network, orbit, workers)))
    for one, *others in zip(*results, strict=True):
        for other in others:
            assert one.time == other.time
            torch.testing.assert_close(one.gaussians.means, other.gaussians.means, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(one.views(), other.views(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("length", [1, 5])
def test_memory_is_bounded_for_any_length_of_video(length: int, workers: int) -> None:
    """At most one chunk and one batch of pairs, with several workers two batches, are alive at any time."""
    alive: weakref.WeakSet = weakref.WeakSet()
    read = 0

    def endless() -> Iterator[Tensor]:
        nonlocal read
        while True:
            read += 1
            yield torch.zeros(3, SIZE, SIZE)

    def watched(frames: Iterator[GaussianFrame]) -> Iterator[GaussianFrame]:
        for frame in frames:
            alive.add(frame)
            yield frame

    first = watched(reconstruct(endless(), SIDES, length, Spy(), FlatOrbit()))
    last = watched(interpolate(first, 3, 2, Spy(), FlatOrbit(), workers))
    for index, _ in zip(range(120), last, strict=False):
        if index % 10 == 0:
            gc.collect()
            assert len(alive) <= 2 * length + 6 + 4 * workers
        assert read <= index / 3 + 2 * length + 4 * workers, "frames are read no earlier than they are needed"
