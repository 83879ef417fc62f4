"""Sequences found on disk and written in the formats of other programs."""

from __future__ import annotations

import importlib
import importlib.util
import os
import stat
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import fourdgs
import numpy as np
import pytest
from pxr import Usd

from core.cli import run
from core.errors import UserError
from core.export.formats import check_formats, export
from core.export.sequences import DEFAULT_RATE, PlyFolder, name_of, open_sequences
from core.inference.outputs import clear_previous, write_metadata
from core.ply import save_ply
from tests.moving_splats import COUNTS, RATE, moving_frames, write_moving_clip
from tests.test_ply import assert_same


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A finished run of a video called "a b"."""
    for index, frame in enumerate(moving_frames()):
        save_ply(frame, tmp_path / "a b" / f"frame{index + 1:04d}.ply")
    write_metadata(tmp_path / "a b_metadata.json", {"frame_rate": "10", "complete": True})
    return tmp_path


def test_a_workspace_a_folder_a_clip_and_a_file_are_found(workspace: Path) -> None:
    clip = write_moving_clip(workspace / "kept.l4gm")
    (found,) = open_sequences(workspace)
    (folder,) = open_sequences(workspace / "a b")
    for sequence in (found, folder):
        assert (len(sequence), sequence.rate, name_of(sequence)) == (len(COUNTS), RATE, "a b")
        assert_same(sequence[3], moving_frames()[3])
    (packed,) = open_sequences(clip)
    assert (len(packed), packed.rate, name_of(packed)) == (len(COUNTS), RATE, "kept")
    (one,) = open_sequences(workspace / "a b" / "frame0004.ply")
    assert len(one) == 1 and one[0].num == COUNTS[3]


def test_files_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10, 9, 100):
        save_ply(moving_frames()[0], tmp_path / f"x{number}.ply")
    (found,) = open_sequences(tmp_path)
    assert [file.name for file in found.files] == ["x9.ply", "x10.ply", "x100.ply"] and found.rate == DEFAULT_RATE


@pytest.mark.parametrize("damage", ["{", '{"frame_rate": 0}', '{"frame_rate": []}', "[]"])
def test_odd_metadata_are_passed_over(workspace: Path, damage: str) -> None:
    (workspace / "a b_metadata.json").write_text(damage)
    assert open_sequences(workspace / "a b")[0].rate == DEFAULT_RATE


def test_objects_of_infer_3d_do_not_hide_the_clips(workspace: Path) -> None:
    save_ply(moving_frames()[0], workspace / "a b.ply")
    assert [len(sequence) for sequence in open_sequences(workspace)] == [len(COUNTS)]


def test_a_new_run_removes_the_frames_of_other_formats(tmp_path: Path) -> None:
    for name in ("x_sog/frame0001.sog", "x_spz/frame0009.spz", "x_spz/notes.txt", "y_sog/frame0001.sog"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "x_glb").symlink_to(tmp_path / "y_sog")
    clear_previous(tmp_path, "x")
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"x_spz/notes.txt", "y_sog/frame0001.sog"} and not (tmp_path / "x_sog").exists()


@pytest.mark.parametrize(
    ("script", "paths", "said"),
    [
        ("view", 0, "at least one path"),
        ("export", 0, "at least one path"),
        ("export", 2, "two sequences are called a b"),
    ],
)
def test_no_paths_and_equal_names_are_refused(
    script: str, paths: int, said: str, workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    line = [script, *[str(workspace)] * paths, *(["--workspace", str(workspace / "out")] if script == "export" else [])]
    monkeypatch.setattr(sys, "argv", line)
    with pytest.raises(SystemExit) as stop:
        run(importlib.import_module(script).main)
    assert stop.value.code == 2 and said in capsys.readouterr().err and not (workspace / "out").exists()


def test_where_nothing_is_one_line_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no sequence"):
        open_sequences(tmp_path)
    with pytest.raises(UserError, match="no such file"):
        open_sequences(tmp_path / "none")
    (tmp_path / "x.mp4").write_bytes(b"video" * 10)
    with pytest.raises(UserError, match="no packed clip"):
        open_sequences(tmp_path / "x.mp4")


def test_the_script_writes_page_clip_and_both_timelines(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    line = [str(workspace), "--workspace", str(tmp_path / "out"), "--export", "html", "4dgs", "usd"]
    monkeypatch.setattr(sys, "argv", ["export.py", *line])
    run(importlib.import_module("export").main)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a b.html", "a b.l4gm", "a b.4dgs", "a b.usdc"}
    scene = fourdgs.read(str(tmp_path / "out" / "a b.4dgs")).gaussians
    for index in (0, 2, 4):  # in the middle of a frame
        assert scene.state_at((index + 0.5) / float(RATE))["centers"].shape[0] == COUNTS[index]
    stage = Usd.Stage.Open(str(tmp_path / "out" / "a b.usdc"))
    (splats,) = (prim for prim in stage.Traverse() if "Gaussian" in prim.GetTypeName())
    positions = splats.GetAttribute("positions")
    assert len(positions.GetTimeSamples()) == len(COUNTS)
    place = positions.GetTimeSamples()[3]
    np.testing.assert_allclose(np.array(positions.Get(place)).mean(0), moving_frames()[3].means.mean(0), atol=2e-3)


PROGRAM = """#!/bin/sh
eval "source=\\${$(($# - 1))}" ; eval "target=\\${$#}"
%s
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a program of this name on the PATH, alone with the system's."""

    def install(body: str) -> None:
        program = tmp_path / "bin" / "splat-transform"
        program.parent.mkdir(exist_ok=True)
        program.write_text(PROGRAM % body)
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")

    return install


def test_splat_transform_gets_every_frame(workspace: Path, installed: Callable[[str], None]) -> None:
    """In the orientation of viewers; files of an earlier run go. A stand-in copies what it gets."""
    installed('cp "$source" "$target"')
    (workspace / "out_sog").mkdir()
    (workspace / "out_sog" / "frame0007.sog").touch()
    (folder,) = export(PlyFolder(workspace, RATE, sorted((workspace / "a b").iterdir())), ["sog"], workspace, "out")
    assert [path.name for path in sorted(folder.iterdir())] == [f"frame{k:04d}.sog" for k in range(1, 7)]
    assert b"orientation viewer" in (folder / "frame0004.sog").read_bytes()
    assert {path.name for path in workspace.iterdir()} == {"a b", "a b_metadata.json", "out_sog", "bin"}


@pytest.mark.parametrize(("body", "said"), [("echo cannot >&2; exit 1", "cannot"), ("exit 0", "status 0")])
def test_a_program_that_fails_leaves_nothing(
    workspace: Path, installed: Callable[[str], None], body: str, said: str
) -> None:
    installed(body)
    (sequence,) = open_sequences(workspace)
    with pytest.raises(UserError, match=f"frame0001.spz.*{said}"):
        export(sequence, ["spz"], workspace, "out")
    assert not (workspace / "out_spz").exists() and not list(workspace.glob(".export*"))


def test_results_stay_in_their_folder(workspace: Path, installed: Callable[[str], None], tmp_path: Path) -> None:
    installed('cp "$source" "$target"')
    (workspace / "out_glb").symlink_to(tmp_path)
    (sequence,) = open_sequences(workspace)
    with pytest.raises(UserError, match="out_glb"):
        export(sequence, ["glb"], workspace, "out")


def test_missing_programs_and_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(UserError, match="npm install -g @playcanvas/splat-transform"):
        check_formats(["html", "sog"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"\[export\]"):
        check_formats(["usd"])
    check_formats(["html", "packed"])


def test_a_rate_is_exact(tmp_path: Path) -> None:
    save_ply(moving_frames()[0], tmp_path / "x" / "frame0001.ply")
    write_metadata(tmp_path / "x_metadata.json", {"frame_rate": "30000/1001"})
    assert open_sequences(tmp_path)[0].rate == Fraction(30000, 1001)
