"""Streams in chunks, in pairs of neighbours, and through threads: memory stays independent of their length."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

import torch

from core.media import windows

Item, Result, State = TypeVar("Item"), TypeVar("Result"), TypeVar("State")


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
