"""Names that no result can have, inputs that are no files, and videos with a background: one line, nothing written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from core.multiview.files import write_views
from core.options import PRESETS
from tests.test_infer_bad_input import refused
from tests.tiny import SHORT, Call, files

pytest_plugins = ["tests.infer_place"]
pytestmark = pytest.mark.usefixtures("place")


@pytest.mark.parametrize(
    "name", ["...mp4", "..mp4", ".mp4", ".hidden.mp4", "a\\b.mp4", "a\tb.mp4", "a\nb.mp4", "é" * 122 + ".mp4"]
)
@pytest.mark.parametrize("script", ["infer_3d", "infer_4d"])
def test_names_that_no_result_can_have(call: Call, script: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written, neither in the workspace nor beside it."""
    Path("data_test/x.mp4").rename(Path("data_test", name))
    Path("metadata.json").write_text("mine")
    before = files(".")
    nano = PRESETS["nano"]  # the name holds what a command line in one string would be split at
    monkeypatch.setitem(PRESETS, "nano", replace(nano, infer=replace(nano.infer, test_path=f"data_test/{name}")))
    refused(call(script, "nano"), "data_test/", "rename the video")
    assert files(".") == before


def test_a_name_as_long_as_can_be(call: Call) -> None:
    """The longest result name has 255 bytes."""
    name = "n" * (255 - len("wo_interp__fixed.mp4"))
    Path("data_test/x.mp4").rename(f"data_test/{name}.mp4")
    assert call("infer_4d", f"nano --test_path data_test/{name}.mp4 --interpresume None")[0] == 0
    assert Path("results", f"wo_interp_{name}_fixed.mp4").is_file()


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize("script", ["infer_3d", "infer_4d"])
@pytest.mark.parametrize("make", [_fifo, _loop])
def test_what_is_not_a_file_is_refused(call: Call, script: str, make: Callable) -> None:
    make(Path("data_test/y.mp4"))
    refused(call(script, "nano --test_path data_test/y.mp4"), "data_test/y.mp4")
    assert call(script, "nano --test_path data_test")[0] == 0, "in a folder they are passed over"


def test_a_workspace_that_is_a_loop_of_links(call: Call) -> None:
    _loop(Path("loop"))
    refused(call("infer_4d", f"{SHORT} --workspace loop"), "loop", "symbolic link")


def test_too_long_a_path(call: Call) -> None:
    refused(call("infer_4d", f"nano --test_path {'a' * 300}.mp4"), "too long")


def test_a_result_that_is_a_link_is_refused(call: Call) -> None:
    """Old .ply files would be removed, and new ones written, outside the workspace."""
    Path("foreign").mkdir()
    Path("foreign/frame0009.ply").write_text("mine")
    Path("results").mkdir()
    Path("results/x").symlink_to("../foreign")
    refused(call("infer_4d", SHORT), "results/x is a symbolic link")
    assert files("foreign") == {"frame0009.ply"}


@pytest.mark.parametrize("script", ["infer_3d", "infer_4d"])
@pytest.mark.parametrize("workspace", ["taken", "taken/a", "n" * 300])
def test_a_workspace_that_cannot_be_made(call: Call, script: str, workspace: str) -> None:
    Path("taken").write_text("mine")
    refused(call(script, f"{SHORT} --workspace {workspace}"), "choose another --workspace")
    assert Path("taken").read_text() == "mine"


def test_a_folder_in_the_place_of_a_file_is_refused(call: Call) -> None:
    Path("results/x_metadata.json").mkdir(parents=True)
    refused(call("infer_4d", SHORT), "cannot write results/x_metadata.json: it is a folder")


@pytest.mark.parametrize("written", [0, 2, 4])
def test_side_views_of_an_interrupted_run_are_not_taken_for_the_users(
    call: Call, written: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many were written, the next run makes its own and says so."""

    def interrupted(encoded: dict[Path, bytes]) -> list[Path]:
        write_views(dict(list(encoded.items())[:written]))
        raise KeyboardInterrupt

    line = f"{SHORT} --interpresume None"
    with monkeypatch.context() as patch:
        patch.setattr("core.inference.programs.write_views", interrupted)
        assert call("infer_4d", line)[0] == 130
    assert len(list(Path("results").glob("x_00?.png"))) == written
    assert call("infer_4d", line)[0] == 0
    record = json.loads(Path("results/x_metadata.json").read_text())
    assert (record["complete"], record["side_views"]["origin"]) == (True, "single-view model")
