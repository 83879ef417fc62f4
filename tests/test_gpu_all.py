"""One command for a GPU: what it starts from, what it leaves, and that a failed part does not stop the others."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks/gpu_all.sh"
# Instead of Python: notes its arguments, fails where it is told to, and "trains" weights of two and a half pieces.
STAND_IN = """#!/bin/sh
echo "$@" >>"$NOTES"
case "$*" in *"$FAILING"*) exit 1 ;; esac
case "$1" in main.py) mkdir -p "$OUT/run" && head -c 40000000 /dev/urandom >"$OUT/run/model.safetensors" ;; esac
"""


def run(out: Path, **variables: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHON": sys.executable, "OUT": str(out), **variables}
    return subprocess.run([SCRIPT], env=environment, capture_output=True, text=True, timeout=900)


def content(out: Path) -> tarfile.TarFile:
    pieces = sorted((out / "pieces").iterdir())
    assert pieces and all(piece.stat().st_size <= 16_000_000 for piece in pieces)
    return tarfile.open(fileobj=BytesIO(b"".join(piece.read_bytes() for piece in pieces)))


def test_it_goes_on_from_a_state_or_from_the_pieces(tmp_path: Path) -> None:
    stand_in, notes, out = tmp_path / "python", tmp_path / "notes", tmp_path / "out"
    stand_in.write_text(STAND_IN)
    stand_in.chmod(0o755)
    variables = {"PYTHON": str(stand_in), "NOTES": str(notes), "FAILING": "benchmarks"}

    def started(**others: str) -> str:
        notes.unlink(missing_ok=True)
        failed = run(out, **{**variables, **others}).returncode
        tests, _, training = notes.read_text().splitlines()
        assert failed == ("FAILING" not in others) and "pytest -m gpu" in tests
        assert "--renderer gsplat --mixed_precision bf16" in training
        return training.partition("--resume ")[2].split()[0]

    assert started() == "pretrained/nano_recon.safetensors"
    weights = (out / "run/model.safetensors").read_bytes()
    with content(out) as tar:
        assert tar.extractfile("run/model.safetensors").read() == weights
    shutil.rmtree(out / "run")
    assert started(FAILING="nothing") == f"{out}/start.safetensors"
    assert (out / "start.safetensors").read_bytes() == weights
    (out / "run/state/00000001").mkdir(parents=True)
    assert started() == "auto"


@pytest.mark.slow
def test_a_dry_run_does_everything_in_small_and_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for _ in range(2):  # the second time from the pieces alone
        done = run(out, DRY_RUN="1")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "GPU, big forward" in (out / "bench.json").read_text()
        with content(out) as tar:
            assert "run/model.safetensors" in tar.getnames() and "tests.log" in tar.getnames()
        shutil.rmtree(out / "run")
    assert "tensors loaded" in (out / "train.log").read_text()
