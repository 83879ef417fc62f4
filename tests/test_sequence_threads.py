"""Laws of concurrent calls: nothing is lost or reordered, and threads are shared and restored."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Barrier, get_ident
from time import sleep

import pytest
import torch

from core.inference.session import Session
from core.inference.streams import map_in_threads
from tests.tiny import tiny_options


@pytest.fixture
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("count", range(8))
def test_every_item_gives_its_result_in_order(count: int, workers: int, ahead: bool) -> None:
    results = map_in_threads(lambda item: item * item, range(count), workers, ahead)
    assert list(results) == [item * item for item in range(count)]


@pytest.mark.usefixtures("four_threads")
def test_concurrent_calls_share_the_threads() -> None:
    barrier = Barrier(2, timeout=30)  # breaks unless two calls run at once

    def run(item: int) -> tuple[int, int]:
        barrier.wait()
        return get_ident(), torch.get_num_threads()

    results = map_in_threads(run, range(6), 2)
    callers, threads = zip(*results, strict=True)
    assert len(set(callers)) == 2 and get_ident() not in callers
    assert set(threads) == {2}
    assert torch.get_num_threads() == 4


@pytest.mark.usefixtures("four_threads")
def test_the_stream_has_all_threads_and_runs_alone() -> None:
    running = 0

    def items() -> Iterator[int]:
        for item in range(6):
            assert torch.get_num_threads() == 4 and running == 0
            yield item

    def run(item: int) -> int:
        nonlocal running
        running += 1
        sleep(0.01)
        running -= 1
        return item

    for _ in map_in_threads(run, items(), 2):
        pass


@pytest.mark.usefixtures("four_threads")
@pytest.mark.parametrize("ahead", [False, True])
def test_the_consumer_has_a_share_of_the_threads_while_calls_run_and_all_otherwise(ahead: bool) -> None:
    """And so has the last call where it is alone."""
    running, called = 0, []

    def run(item: int) -> int:
        nonlocal running
        running += 1
        called.append(torch.get_num_threads())
        sleep(0.01)
        running -= 1
        return item

    for item in map_in_threads(run, range(5), 2, ahead):
        assert torch.get_num_threads() == (2 if ahead and item < 2 else 4)
        assert ahead or running == 0
    assert called == [2, 2, 2, 2, 4]


@pytest.mark.usefixtures("four_threads")
@pytest.mark.parametrize("taken", range(5))
def test_stopping_early_restores_the_threads(taken: int) -> None:
    results = map_in_threads(lambda item: item, range(9), 2)
    for _ in range(taken):
        next(results)
    results.close()
    assert torch.get_num_threads() == 4


@pytest.mark.usefixtures("four_threads")
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_an_error_is_raised_after_the_earlier_results(workers: int) -> None:
    results = map_in_threads(lambda item: 1 // (item - 4), range(9), workers)
    assert [next(results) for _ in range(4)] == [-1, -1, -1, -1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert torch.get_num_threads() == 4


@pytest.mark.parametrize(
    ("threads", "pairs", "workers"), [(1, 4, 1), (2, 1, 1), (2, 4, 2), (2, 3, 2), (6, 4, 3), (7, 4, 1), (16, 4, 4)]
)
def test_all_threads_are_used(threads: int, pairs: int, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(tiny_options(interp_batch=pairs))
    session.device = torch.device("cpu")
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert session.interpolation_workers == workers <= pairs and threads % workers == 0
