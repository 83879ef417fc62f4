"""Hundreds of damaged checkpoint files: each loads or gives an error of one line."""

from __future__ import annotations

import io
import random
import resource
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from core.errors import UserError
from core.tensor_files import look_into, read_tensors

STATE = {
    "conv.weight": torch.arange(48.0).reshape(3, 4, 4),
    "conv.bias": torch.full((7,), 0.5, dtype=torch.bfloat16),
    "norm.scale": torch.zeros(2, 3, dtype=torch.float16),
    "steps": torch.tensor([1, 2, 3]),
}


def torch_file(**options: object) -> bytes:
    content = io.BytesIO()
    torch.save(STATE, content, **options)
    return content.getvalue()


WHOLE = {
    "zip.pt": torch_file,
    "old.pt": lambda: torch_file(_use_new_zipfile_serialization=False),
    "a.safetensors": lambda: save(STATE, {"preset": "nano", "options": '{"model": {}}'}),
}


def flip_bits(data: bytearray, rng: random.Random) -> bytearray:
    for _ in range(rng.choice([1, 1, 2, 8, 64])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data


def flip_in_the_header(data: bytearray, rng: random.Random) -> bytearray:
    data[rng.randrange(min(600, len(data)))] = rng.randrange(256)
    return data


def cut(data: bytearray, rng: random.Random) -> bytearray:
    return data[: rng.randrange(len(data))]


def insert(data: bytearray, rng: random.Random) -> bytearray:
    at = rng.randrange(len(data))
    return data[:at] + rng.randbytes(rng.choice([1, 8, 100])) + data[at:]


def remove(data: bytearray, rng: random.Random) -> bytearray:
    at = rng.randrange(len(data))
    return data[:at] + data[at + rng.choice([1, 8, 100]) :]


def swap(data: bytearray, rng: random.Random) -> bytearray:
    a, b, c = sorted(rng.randrange(len(data) + 1) for _ in range(3))
    return data[:a] + data[b:c] + data[a:b] + data[c:]


def overwrite(data: bytearray, rng: random.Random) -> bytearray:
    at, size = rng.randrange(len(data)), rng.choice([4, 8, 32])
    data[at : at + size] = rng.choice([b"\xff", b"\x00", b"\x7f"]) * size
    return data


MUTATIONS: list[Callable[[bytearray, random.Random], bytearray]] = [
    *(flip_bits, flip_in_the_header, cut, insert, remove, swap, overwrite)
]


def outcome(path: Path) -> str:
    """Load one file; everything but a dict of tensors or a `UserError` of one line escapes."""
    try:
        names, _ = look_into(path)
        tensors, _ = read_tensors(path)
    except UserError as error:
        line = str(error)
    else:
        line = ""
    if line:
        assert "\n" not in line and path.name in line
        return "refused"
    assert names == set(tensors) and all(tensor.isfinite().shape == tensor.shape for tensor in tensors.values())
    return "loaded"


def outcomes(folder: Path, name: str, seeds: range) -> Counter[str]:
    whole, found = WHOLE[name](), Counter()
    for seed in seeds:
        rng = random.Random(seed)
        path = folder / name
        path.write_bytes(MUTATIONS[seed % len(MUTATIONS)](bytearray(whole), rng))
        found[outcome(path)] += 1
    return found


def peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


@pytest.mark.parametrize("name", WHOLE)
def test_every_damaged_file_loads_or_is_refused(tmp_path: Path, name: str) -> None:
    before = peak_mib()
    found = outcomes(tmp_path, name, range(70))
    assert found.total() == 70 and found["refused"] > 20
    assert peak_mib() - before < 300  # no header's size is believed


@pytest.mark.slow
@pytest.mark.parametrize("name", WHOLE)
def test_every_damaged_file_of_many(tmp_path: Path, name: str) -> None:
    before = peak_mib()
    found = outcomes(tmp_path, name, range(70, 770))
    assert found.total() == 700 and found["refused"] > 200
    assert peak_mib() - before < 300


@pytest.mark.parametrize("name", WHOLE)
def test_the_whole_files_load(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(WHOLE[name]())
    tensors, metadata = read_tensors(tmp_path / name)
    assert metadata.get("preset") == ("nano" if name == "a.safetensors" else None)
    for key, value in STATE.items():
        torch.testing.assert_close(tensors[key], value, rtol=0, atol=0)
