"""Several processes start a run: one compiles the renderer, the others wait."""

from __future__ import annotations

import multiprocessing
import os
import socket
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator

from core.errors import UserError
from core.options import Options
from core.training import run
from tests.tiny_training import options_for


def start_as_one_of_two(rank: int, port: int, log: str, fails: bool) -> None:
    """One process of two; its renderer takes a while to make, logs when that begins and ends, and may fail."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    accelerator = Accelerator(cpu=True)

    def write(event: str) -> None:
        with open(log, "a") as file:
            file.write(f"{rank} {event}\n")

    def compile_slowly(*_: object, **__: object) -> str:
        write("begins")
        time.sleep(0.5)
        if fails:
            raise UserError("no compiler")
        write("ends")
        return "renderer"

    run.configured_renderer = compile_slowly
    try:
        assert run.make_renderer_in_turn(Options(), accelerator) == "renderer"
    except UserError as error:
        time.sleep(0.2 * rank)
        write(str(error))
    accelerator.end_training()


@pytest.mark.parametrize(
    ("fails", "expected"),
    [
        (False, ["0 begins", "0 ends", "1 begins", "1 ends"]),
        (True, ["0 begins", "0 no compiler", "1 the local main process has no renderer; its message gives the cause"]),
    ],
)
def test_the_local_main_process_makes_its_renderer_first(tmp_path: Path, fails: bool, expected: list[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path / "log"
    torch.multiprocessing.spawn(start_as_one_of_two, (port, str(log), fails), nprocs=2)
    assert log.read_text().splitlines() == expected


def test_a_run_makes_its_renderer_in_turn(
    monkeypatch: pytest.MonkeyPatch, training_clips: Path, tmp_path: Path
) -> None:
    renderer = SimpleNamespace()
    monkeypatch.setattr(run, "make_renderer_in_turn", lambda options, accelerator: renderer)
    assert run.Training(options_for(training_clips, tmp_path)).step.renderer is renderer


def fails_to_load(*_: object) -> None:
    raise UserError("a picture is missing")


def test_after_an_error_in_a_loader_nothing_is_left_to_wait_for(
    monkeypatch: pytest.MonkeyPatch, training_clips: Path, tmp_path: Path
) -> None:
    """The loaders ignore SIGTERM, with which Python ends them at exit, and then waits for them."""
    training = run.Training(options_for(training_clips, tmp_path, data={"num_workers": 2}))
    monkeypatch.setattr("core.data.dataset.ClipDataset.__getitem__", fails_to_load)
    with pytest.raises(UserError) as caught:
        training.run()
    assert str(caught.value) == "a picture is missing"
    assert not multiprocessing.active_children()
