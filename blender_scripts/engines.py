"""Engines: render objects in local processes or on Ray, and yield the report rows of all objects as they arrive."""

from __future__ import annotations

import argparse
import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from blender_scripts.catalogue import Item
from blender_scripts.worker import Worker
from core.errors import UserError

ROOT = Path(__file__).resolve().parents[1]


def rows_of(item: Item, worker: Worker) -> Iterator[dict]:
    """Download and render one object; the last row has the status ``done``, ``timeout`` or ``crash``."""
    try:
        path = item.fetch()
    except UserError as error:
        yield {"status": "failed", "reason": str(error)}
        yield {"status": "done"}
        return
    yield from worker.render(path)


def run_local(items: list[Item], command: list[str], args: argparse.Namespace) -> Iterator[tuple[Item, dict]]:
    """Run one thread per Blender process; each takes objects from one queue."""
    waiting: queue.SimpleQueue[Item] = queue.SimpleQueue()
    rows: queue.SimpleQueue[tuple[Item, dict] | BaseException | None] = queue.SimpleQueue()
    for item in items:
        waiting.put(item)
    workers = [Worker(command, args.time_limit) for _ in range(min(args.processes, len(items)))]

    def work(worker: Worker) -> None:
        try:
            while True:
                item = waiting.get_nowait()
                for row in rows_of(item, worker):
                    rows.put((item, row))
        except queue.Empty:
            pass
        except BaseException as error:  # re-raised by the reader of the rows
            rows.put(error)
        finally:
            worker.close()
            rows.put(None)

    threads = [threading.Thread(target=work, args=(worker,), daemon=True) for worker in workers]
    for thread in threads:
        thread.start()
    try:
        for _ in threads:
            while (entry := rows.get()) is not None:
                if isinstance(entry, BaseException):
                    raise entry
                yield entry
    finally:
        while not waiting.empty():  # start no further object
            waiting.get()
        for worker in workers:
            worker.close()


def run_ray(items: list[Item], command: list[str], args: argparse.Namespace) -> Iterator[tuple[Item, dict]]:
    """Run one Ray actor per Blender process; data home and repository have the same path on all machines."""
    try:
        import ray
    except ImportError as error:
        raise UserError("Ray is missing: pip install -e '.[ray]'") from error

    ray.init(address=args.ray_address, runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}}, log_to_driver=False)
    cpus = max(1, args.threads)
    gpus = 1 if args.device == "gpu" else 0

    @ray.remote(num_cpus=cpus, num_gpus=gpus, max_restarts=-1, max_task_retries=1)
    class Renderer:
        """A worker on a machine of the cluster."""

        def __init__(self) -> None:
            self.worker = Worker(command, args.time_limit)

        def render(self, item: Item) -> list[dict]:
            return list(rows_of(item, self.worker))

    actors = [Renderer.remote() for _ in range(min(args.processes, len(items)))]
    idle, running, waiting = list(actors), {}, list(items)
    try:
        while waiting or running:
            while waiting and idle:
                actor, item = idle.pop(), waiting.pop(0)
                running[actor.render.remote(item)] = actor, item
            (ready,), _ = ray.wait(list(running))
            actor, item = running.pop(ready)
            idle.append(actor)
            try:
                rows = ray.get(ready)
            except ray.exceptions.RayActorError as error:  # its machine is lost
                rows = [{"status": "crash", "reason": f"Ray lost the worker ({type(error).__name__})"}]
            for row in rows:
                yield item, row
    finally:
        ray.shutdown()


ENGINES: dict[str, Callable[[list[Item], list[str], argparse.Namespace], Iterator[tuple[Item, dict]]]] = {
    "local": run_local,
    "ray": run_ray,
}
"""Engines by name."""
