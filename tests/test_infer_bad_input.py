"""Bad input to the inference scripts: one line on stderr, status 2, no traceback, and nothing half-written."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from core.files import atomic_path
from core.images import load_image, save_image
from core.media import write_video
from core.options import CameraOptions
from core.rendering.orbit import OrbitRenderer
from tests.tiny import (
    LINE_4D,
    SHORT,
    SIZE,
    TINY_MODEL,
    Call,
    files,
    lopsided_gaussians,
    metadata,
    square_frame,
    square_video,
    write_checkpoint,
)

pytest_plugins = ["tests.infer_place"]
pytestmark = pytest.mark.usefixtures("place")


def _cut(path: str, share: float) -> None:
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[: int(share * len(content))])


def _other_preset(path: str) -> None:
    write_checkpoint(Path(path), model=replace(TINY_MODEL, down_channels=(64, 32, 64)))


def _with_nan(path: str) -> None:
    state = load_file(path)
    state["conv.bias"][0] = float("nan")
    save_file(state, path)


class _Code:
    def __reduce__(self) -> tuple:
        return (os.mkdir, ("executed",))


def _pickle(path: str) -> None:
    torch.save({"conv.bias": _Code()}, path)


BAD_VIDEO = {
    "missing": (lambda p: Path(p).unlink(), "no such file"),
    "empty": (lambda p: Path(p).write_bytes(b""), "empty"),
    "truncated": (lambda p: _cut(p, 0.6), "truncated"),
    "text": (lambda p: Path(p).write_text("no video at all\n" * 200), "not a video|text file"),
    "pipe": (lambda p: (Path(p).unlink(), os.mkfifo(p)), "named pipe"),
    "loop": (lambda p: (Path(p).unlink(), Path(p).symlink_to("x.mp4")), "symbolic link"),
    "playlist": (lambda p: Path(p).write_text("ffconcat version 1.0\nfile '/etc/passwd'\n"), "playlist"),
    "folder without videos": (lambda p: (Path(p).unlink(), Path(p).mkdir()), "no video in the folder"),
}
BAD_CHECKPOINT = {
    "missing": (lambda p: Path(p).unlink(), "jiawei011/L4GM"),
    "truncated": (lambda p: _cut(p, 0.5), "truncated"),
    "of another preset": (_other_preset, "another preset"),
    "with NaN": (_with_nan, "NaN"),
    "text": (lambda p: Path(p).write_text("weights\n" * 50), "truncated or damaged"),
    "pipe": (lambda p: (Path(p).unlink(), os.mkfifo(p)), "named pipe"),
}


def refused(result: tuple[int, str], *words: str) -> None:
    status, text = result
    assert status == 2
    assert len(text.strip().splitlines()) == 1, text
    assert "Traceback" not in text
    for word in words:
        assert word in text


@pytest.mark.parametrize("script", ["infer_3d", "infer_4d"])
@pytest.mark.parametrize(("spoil", "reason"), BAD_VIDEO.values(), ids=BAD_VIDEO)
def test_bad_video(call: Call, script: str, spoil: Callable, reason: str) -> None:
    spoil("data_test/x.mp4")
    result = call(script, SHORT)
    refused(result, "data_test/x.mp4")
    assert any(word in result[1] for word in reason.split("|"))
    assert not Path("results").exists()


@pytest.mark.parametrize("script", ["infer_3d", "infer_4d"])
def test_bad_videos_of_a_folder_are_named_at_the_end_and_the_others_done(call: Call, script: str) -> None:
    square_video(Path("data_test/a_cut.mp4"))
    _cut("data_test/a_cut.mp4", 0.6)
    Path("data_test/b_text.mp4").write_text("no video\n")
    with write_video(Path("data_test/c_blank.mp4"), 8, (SIZE, SIZE)) as blank:
        blank.write(torch.ones(3, SIZE, SIZE))
    square_video(Path("data_test/y.mp4"))
    save_image(square_frame(0), "data_test/y_mv_002.png" if script == "infer_3d" else "data_test/y_002.png")
    options = "--view_generator files" if script == "infer_3d" else ""
    for view in range(4):
        save_image(square_frame(0), f"data_test/x{'_mv' if script == 'infer_3d' else ''}_{view:03d}.png")
    result = call(script, f"nano --test_path data_test {options}")
    refused(result, "4 of 5 inputs failed", "a_cut.mp4", "b_text.mp4", "c_blank", "y_")
    assert metadata()["complete"]


def test_a_bad_picture_is_called_a_picture(call: Call) -> None:
    Path("data_test/y.png").write_text("no picture")
    refused(call("infer_3d", "nano --test_path data_test/y.png"), "cannot read picture data_test/y.png")
    refused(
        call("infer_3d", "nano --test_path data_test/z.png"), "cannot read picture data_test/z.png: there is no such"
    )


def test_xformers_on_a_cpu_is_refused(call: Call) -> None:
    refused(call("infer_4d", f"{SHORT} --attention xformers"), "works on CUDA only")


@pytest.mark.parametrize("name", ["recon", "interp"])
@pytest.mark.parametrize(("spoil", "reason"), BAD_CHECKPOINT.values(), ids=BAD_CHECKPOINT)
def test_bad_checkpoint(call: Call, name: str, spoil: Callable, reason: str) -> None:
    spoil(f"pretrained/{name}.safetensors")
    refused(call("infer_4d", LINE_4D), f"pretrained/{name}.safetensors", reason)
    assert not Path("results").exists()


def test_a_pickle_with_code_is_refused_and_not_run(call: Call) -> None:
    _pickle("pretrained/recon.pt")
    refused(call("infer_3d", f"{SHORT} --resume pretrained/recon.pt"), "recon.pt", "refused")
    assert not Path("executed").exists()


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("nano", "--test_path is missing"),
        (f"{SHORT} --resume None", "--resume is missing"),
        (f"{SHORT} --num_frames 0", "--num_frames is 0"),
        (f"{SHORT} --interpolate_rate 0", "--interpolate_rate is 0"),
        (f"{SHORT} --interp_batch -1", "--interp_batch is -1"),
        (f"{SHORT} --chunk_lanes 0", "--chunk_workers is 0"),
        (f"{SHORT} --target_fps 0", "--fps is 0"),
        (f"{SHORT} --target_fps nan", "--fps is nan"),
        (f"{SHORT} --seeder imagedream", "hf download ashawkey/imagedream-ipmv-diffusers"),
        (f"{SHORT} --seeder files", "no side views"),
    ],
)
def test_bad_options(call: Call, line: str, word: str) -> None:
    refused(call("infer_4d", line), word)
    assert not Path("results").exists()


@pytest.mark.parametrize("script", ["infer_3d", "infer_4d"])
@pytest.mark.parametrize("workspace", ["data_test", "data_test/../data_test", "link"])
def test_workspace_equal_to_the_input_folder_is_refused(call: Call, script: str, workspace: str) -> None:
    Path("link").symlink_to("data_test")
    before = Path("data_test/x.mp4").read_bytes()
    refused(call(script, f"{SHORT} --workspace {workspace}"), "choose another --workspace", "x.mp4")
    assert files("data_test") == {"x.mp4"}
    assert Path("data_test/x.mp4").read_bytes() == before


def test_an_input_that_is_a_link_into_the_workspace_is_not_overwritten(call: Call) -> None:
    square_video(Path("results/y.mp4"))
    Path("data_test/y.mp4").symlink_to(Path("results/y.mp4").resolve())
    refused(call("infer_3d", "nano --test_path data_test/y.mp4"), "choose another --workspace")


@pytest.mark.parametrize("other", ["x.mov", "X.mkv", "x_mv.mp4"])
def test_two_videos_that_would_write_one_file_are_refused(call: Call, other: str) -> None:
    """Also where it is not plain to see: the side views of x_mv are called like the raw ones of x."""
    square_video(Path("data_test") / other)
    refused(call("infer_3d", "nano --test_path data_test"), "x.mp4", other, "rename")
    assert not Path("results").exists()


def test_incomplete_side_views_are_refused(call: Call) -> None:
    save_image(square_frame(0), "data_test/x_002.png")
    refused(call("infer_4d", SHORT), "x_000.png, x_001.png, x_003.png missing")


@pytest.mark.parametrize("limit", [2_000, 20_000])
@pytest.mark.parametrize("script", ["infer_3d", "infer_4d"])
def test_full_disk(call: Call, script: str, limit: int) -> None:
    """No file can grow beyond a limit: one line says so, and no part of a file is left."""
    OrbitRenderer(CameraOptions(renderer="numba"), SIZE)(lopsided_gaussians())  # compiled kernels go to files as well
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        result = call(script, SHORT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    refused(result, "cannot write", "free some space")
    for path in map(Path("results").joinpath, files()):
        assert path.suffix in {".png", ".json"}
        assert ".part" not in path.name
        _ = load_image(path) if path.suffix == ".png" else json.loads(path.read_text())


def test_a_workspace_that_is_a_file(call: Call) -> None:
    Path("results").write_text("mine")
    refused(call("infer_4d", SHORT), "cannot write", "results")
    assert Path("results").read_text() == "mine"


def test_a_result_folder_that_is_a_file(call: Call) -> None:
    Path("results").mkdir()
    Path("results/x").write_text("mine")
    refused(call("infer_4d", SHORT), "cannot write", "results/x")
    assert Path("results/x").read_text() == "mine"


@pytest.mark.parametrize("option", ["--workspace", "--resume", "--test_path"])
def test_names_that_no_file_system_takes(call: Call, option: str) -> None:
    refused(call("infer_4d", f"{SHORT} {option} {'w' * 300}"), "w" * 300)


def _interrupt_with(number: int, call: Call, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    """infer_4d, sent a signal while the third .ply is being written."""

    def interrupted(path: Path) -> object:
        if path.name == "frame0003.ply":
            signal.raise_signal(number)
        return atomic_path(path)

    with monkeypatch.context() as patch:
        patch.setattr("core.ply.atomic_path", interrupted)
        return call("infer_4d", SHORT)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_finished_frames_valid_and_nothing_else(
    call: Call, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    # A job in the background inherits that Ctrl-C is ignored.
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        status, line = _interrupt_with(number, call, monkeypatch)
    finally:
        signal.signal(signal.SIGINT, previous)
    assert (status, len(line.strip().splitlines())) == (130, 1)
    plys = sorted(Path("results/x").glob("*.ply"))
    assert [path.name for path in plys] == ["frame0001.ply", "frame0002.ply"]
    assert metadata()["complete"] is False
    views = (f"x_{v:03d}.png" for v in range(4))
    assert files() == {*views, *(f"x/{p.name}" for p in plys), "x_input.png", "x_metadata.json"}
    kept = {path: path.read_bytes() for path in plys}
    assert call("infer_4d", SHORT)[0] == 0
    assert {path: path.read_bytes() for path in plys} == kept, "as a whole run writes them"


@pytest.mark.parametrize("script", ["infer_3d", "infer_4d"])
def test_what_a_killed_run_left_is_removed_and_nothing_of_others(call: Call, script: str) -> None:
    """Temporary files of a process that is gone; not those of one that runs, nor what only looks alike."""
    Path("results/x").mkdir(parents=True)
    kept = [Path("results", name) for name in (".x.part.mp4", ".mine.part", "x.123.part.png")]
    with suppress(RuntimeError), atomic_path(Path("results/other.png")) as own:
        left = Path("results", own.name.replace(str(os.getpid()), str(_finished_process())))
        nested = Path("results/x", left.name).with_suffix(".ply")
        for path in (own, left, nested, *kept):
            path.write_text("partial")
        assert call(script, SHORT)[0] == 0
        assert not left.exists() and not nested.exists()
        assert all(path.read_text() == "partial" for path in (own, *kept))
        raise RuntimeError  # no file comes of it


def _finished_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid
