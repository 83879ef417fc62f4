"""Fixtures for the tests of the inference scripts: a folder to run them in, and a way to call them."""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path

import pytest

from core.cli import run
from core.options import PRESETS
from tests.tiny import IMAGEDREAM, MVDREAM, Call, square_video, tiny_options, write_checkpoint


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrained")
    write_checkpoint(folder / "recon.safetensors", seed=0)
    write_checkpoint(folder / "interp.safetensors", seed=1)
    return folder


@pytest.fixture
def place(tmp_path: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with checkpoints and a video, where ``big`` and ``nano`` are the tiny network; turns are short."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(checkpoints, "pretrained")
    square_video(Path("data_test/x.mp4"))
    monkeypatch.setitem(PRESETS, "big", tiny_options())
    monkeypatch.setitem(PRESETS, "nano", tiny_options(interpresume="pretrained/interp.safetensors"))
    monkeypatch.setattr("core.inference.turntable.AZIMUTHS", (0, 90))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))  # not the user's own models
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny ImageDream and MVDream in a folder ``pretrained``."""
    from tests.tiny_multiview import write_pipeline  # imports the large libraries that these are made with

    home = tmp_path_factory.mktemp("pipelines")
    write_pipeline(home / IMAGEDREAM)
    write_pipeline(home / MVDREAM, "mvdream")
    return home


@pytest.fixture
def weights(pipelines: Path, place: Path) -> None:
    """The published pipelines, tiny, where the fetch commands put them."""
    shutil.copytree(pipelines / "pretrained", "pretrained", dirs_exist_ok=True)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run a script with a command line; its exit status and what it wrote to stderr."""

    def call(script: str, line: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", [f"{script}.py", *line.split()])
        capsys.readouterr()
        status = 0
        try:
            run(importlib.import_module(script).main)
        except SystemExit as stop:
            status = stop.code
        return status, capsys.readouterr().err

    return call
