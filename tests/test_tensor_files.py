"""Odd checkpoint files: each gives an error of one line."""

from __future__ import annotations

import os
import socket
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from core.errors import UserError
from core.tensor_files import look_into, read_tensors

QUANTISED = "ignore:torch.quantize_per_tensor"
RECURSIVE: dict = {}
RECURSIVE["model"] = RECURSIVE

CONTENTS = {
    "a number": (lambda: 3, "no named tensors"),
    "a list": (lambda: [torch.zeros(1)], "type list and no named tensors"),
    "a tensor": (lambda: torch.zeros(1), "no named tensors"),
    "numbers for names": (lambda: {1: torch.zeros(1)}, "names a tensor by a value of type int"),
    "a name of bytes": (lambda: {b"a": torch.zeros(1)}, "type bytes"),
    "other values": (lambda: {"a": torch.zeros(1), "epoch": 3}, "epoch is a value of type int and no tensor"),
    "deeper dicts": (lambda: {"net": {"a": torch.zeros(1)}}, "net is a value of type dict"),
    "itself": (lambda: RECURSIVE, "model is a value of type dict"),
    "float8": (
        lambda: {"a": torch.zeros(2).to(torch.float8_e4m3fn)},
        "float8_e4m3fn|has no attribute",
    ),
    "complex": (lambda: {"a": torch.zeros(2, dtype=torch.complex64)}, "of type complex64"),
    "quantised": (lambda: {"a": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)}, "a quantised tensor"),
    "sparse": (lambda: {"a": torch.eye(3).to_sparse()}, "a sparse tensor"),
    "sparse rows": (lambda: {"a": torch.eye(3).to_sparse_csr()}, "a sparse tensor"),
    "meta": (lambda: {"a": torch.zeros(10**12, device="meta")}, "a meta tensor"),
    "expanded": (lambda: {"a": torch.zeros(1).expand(10**12)}, "an expanded tensor"),
    "overlapping": (lambda: {"a": torch.zeros(8).as_strided((4, 4), (1, 1))}, "an expanded tensor"),
    "two prefixes": (lambda: {"a": torch.zeros(1), "module.a": torch.zeros(1)}, "holds a twice"),
    "a line break": (lambda: {"a\nb": 3}, r"a\\nb is a value"),
}


@pytest.mark.filterwarnings(QUANTISED, "ignore:Sparse CSR")
@pytest.mark.parametrize("old", [False, True], ids=["zip", "old"])
@pytest.mark.parametrize(("content", "words"), CONTENTS.values(), ids=CONTENTS)
def test_odd_contents(tmp_path: Path, content: Callable[[], object], words: str, old: bool) -> None:
    path = tmp_path / "odd.pt"
    torch.save(content(), path, _use_new_zipfile_serialization=not old)
    with pytest.raises(UserError, match=words) as error:
        read_tensors(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_unusual_but_whole_tensors_load(tmp_path: Path) -> None:
    state = {
        "transposed": torch.rand(3, 4).T,
        "channels last": torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "slice": torch.rand(9)[::2],
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(2.0),
        "one": torch.zeros(1).expand(1, 1),
        "parameter": torch.nn.Parameter(torch.rand(2)),
    }
    torch.save(OrderedDict(state), tmp_path / "a.bin")
    found, _ = read_tensors(tmp_path / "a.bin")
    torch.testing.assert_close(found, state, rtol=0, atol=0)
    assert look_into(tmp_path / "a.bin")[0] == set(state)


def test_the_content_decides_and_not_the_suffix(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "a.pt")
    assert read_tensors(tmp_path / "a.pt")[0]["a"].sum() == 2
    assert look_into(tmp_path / "a.pt")[0] == {"a"}


def loop(path: Path) -> None:
    path.symlink_to(path)


def sock(path: Path) -> None:
    os.chdir(path.parent)
    socket.socket(socket.AF_UNIX).bind(path.name)


def bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(50 << 20))


PLACES = {
    "text": (lambda path: path.write_text("weights\n" * 50), "it is no file of safetensors or torch"),
    "of one byte": (lambda path: path.write_bytes(b"P"), "it is no file of"),
    "users": (lambda path: path.symlink_to("/etc/passwd"), "it is no file of"),
    "empty": (lambda path: path.write_bytes(b""), "it is empty"),
    "folder": (lambda path: path.mkdir(), "it is a folder"),
    "pipe": (os.mkfifo, "it is a named pipe"),
    "socket": (sock, "it is a socket"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "it is a device"),
    "loop": (loop, "symbolic link"),
    "broken link": (lambda path: path.symlink_to("nowhere"), "no such file"),
    "bomb": (bomb, "declares more data than the file holds"),
}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize(("make", "words"), PLACES.values(), ids=PLACES)
def test_odd_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], object], words: str, suffix: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"odd{suffix}"
    make(path)
    for read in (read_tensors, look_into):
        with pytest.raises(UserError) as error:
            read(path)
        assert words in str(error.value) or (suffix == ".safetensors" and "truncated or damaged" in str(error.value))


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
def test_odd_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError):
        read_tensors(tmp_path / f"{name}.pt")
