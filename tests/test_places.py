"""What a command names relative to the project is found from any folder; the current folder comes first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from core.checkpoint import look_into, read_tensors
from core.data.lists import read_groups
from core.errors import UserError
from core.evaluation.protocol import read_protocol
from core.options import PRESETS
from core.places import HOME, find

READERS = {
    "weights": (look_into, str(PRESETS["nano"].run.resume)),
    "protocol": (read_protocol, "data_test/protocols/novel_views.toml"),
    "list": (read_groups, "data_train/datalist_val_8fps.txt"),
}


@pytest.mark.parametrize(("read", "path"), READERS.values(), ids=READERS)
def test_the_project_is_searched_after_the_current_folder(
    read: Callable, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find(path) == HOME / path
    assert read(path)
    own = tmp_path / path
    own.parent.mkdir(parents=True)
    own.touch()
    assert find(path) == Path(path)
    with pytest.raises(UserError):
        read(path)  # the empty file here, and not the project's


@pytest.mark.parametrize("read", [read_tensors, read_protocol, read_groups])
def test_a_file_that_is_missing_names_both_places(
    read: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        read("pretrained/no_such.safetensors")
    assert f"looked in {tmp_path} and {HOME}" in str(error.value)
    with pytest.raises(UserError) as error:
        read(str(tmp_path / "no_such"))
    assert "looked in" not in str(error.value)
