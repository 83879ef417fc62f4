"""Independent calls side by side: networks with one thread each waste less than one network with all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

import torch

from core.media import windows

Item, Result = TypeVar("Item"), TypeVar("Result")


def in_lanes(run: Callable[[Item], Result], items: Iterable[Item], lanes: int, ahead: bool = True) -> Iterator[Result]:
    """The results of ``run`` for a stream, in order.

    Up to ``lanes`` calls run at once, each with its share of torch's threads. A call that is left alone at the end has
    all of them. While the stream makes its next items no call runs, so that neither adds to the other's memory. What a
    call raises comes in the place of its result.

    Args:
        run: safe to be called from several threads.
        items: the stream.
        lanes: calls at once; 1: in this thread, one after the other.
        ahead: whether the next calls run while results are taken; who takes them has a lane's share of threads.
    """
    if lanes == 1:
        yield from map(run, items)
        return
    threads = torch.get_num_threads()
    share = max(1, threads // lanes)
    done: list[Future[Result]] = []
    try:
        with ThreadPoolExecutor(lanes, "lane", torch.set_num_threads, (share,)) as pool:
            for group in windows(items, lanes, overlap=0):
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
    finally:  # behind the last lane: new threads would take over whatever was set last
        torch.set_num_threads(threads)
