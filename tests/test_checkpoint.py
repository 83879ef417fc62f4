"""Checkpoints: what loads, what is refused and how the refusal helps."""

from __future__ import annotations

import errno
import os
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from core.checkpoint import file_hash, load_weights, read_tensors, save_weights
from core.errors import UserError
from core.model import L4GM
from tests.test_model import TINY


@pytest.fixture
def model() -> L4GM:
    torch.manual_seed(0)
    return L4GM(TINY)


def saved(model: L4GM, path: Path, **changes: torch.Tensor) -> Path:
    save_file({**{name: value.clone() for name, value in model.state_dict().items()}, **changes}, path)
    return path


def test_save_and_load_is_the_identity(model: L4GM, tmp_path: Path) -> None:
    save_weights(model, tmp_path / "m.safetensors", preset="tiny")
    other = L4GM(TINY)
    report = load_weights(other, tmp_path / "m.safetensors")
    assert report.loaded == len(model.state_dict()) and not report.missing
    assert report.metadata["preset"] == "tiny"
    for name, value in other.state_dict().items():
        torch.testing.assert_close(value, model.state_dict()[name], rtol=0, atol=0)


def test_half_precision_files_load_into_float32(model: L4GM, tmp_path: Path) -> None:
    save_weights(model, tmp_path / "m.safetensors", dtype=torch.float16)
    load_weights(model, tmp_path / "m.safetensors")
    assert next(model.parameters()).dtype == torch.float32


def test_torch_files_of_plain_tensors_load(model: L4GM, tmp_path: Path) -> None:
    torch.save(model.state_dict(), tmp_path / "m.pth")
    assert load_weights(model, tmp_path / "m.pth").loaded == len(model.state_dict())


def test_lgm_starts_a_training_and_the_report_counts_what_is_fresh(model: L4GM, tmp_path: Path) -> None:
    save_weights(L4GM(replace(TINY, use_temp_attn=False)), tmp_path / "lgm.safetensors")
    report = load_weights(model, tmp_path / "lgm.safetensors", fresh_temporal=True)
    assert set(report.missing) == {name for name in model.state_dict() if ".t_attns." in name}
    assert f"{len(report.missing)} temporal-attention tensors (t_attns)" in str(report)


def test_lgm_is_refused_for_inference(model: L4GM, tmp_path: Path) -> None:
    save_weights(L4GM(replace(TINY, use_temp_attn=False)), tmp_path / "lgm.safetensors")
    with pytest.raises(UserError, match="no temporal attention"):
        load_weights(model, tmp_path / "lgm.safetensors")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("conv.bias", torch.zeros(15), r"conv.bias is \(15,\) in the file and \(14,\) in the model"),
        ("stray", torch.zeros(1), "unexpected stray"),
        ("conv.bias", torch.full((14,), float("nan")), "NaN or infinity in conv.bias"),
    ],
)
def test_tensors_that_do_not_fit_are_named(
    model: L4GM, tmp_path: Path, name: str, value: torch.Tensor, message: str
) -> None:
    before = model.conv.bias.clone()
    with pytest.raises(UserError, match=message):
        load_weights(model, saved(model, tmp_path / "m.safetensors", **{name: value}), fresh_temporal=True)
    torch.testing.assert_close(model.conv.bias, before)


def test_a_missing_tensor_is_named_even_when_a_training_starts(model: L4GM, tmp_path: Path) -> None:
    state = {name: value.clone() for name, value in model.state_dict().items() if name != "conv.weight"}
    save_file(state, tmp_path / "m.safetensors")
    with pytest.raises(UserError, match=r"missing conv\.weight"):
        load_weights(model, tmp_path / "m.safetensors", fresh_temporal=True)


def test_a_missing_file_says_where_it_is_published(model: L4GM, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"recon.safetensors does not exist; it is published at .*jiawei011/L4GM"):
        load_weights(model, tmp_path / "recon.safetensors")
    with pytest.raises(UserError, match="--resume"):
        load_weights(model, tmp_path / "mine.safetensors")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("keep", [0, 3, 1000])
def test_truncated_files_are_refused(model: L4GM, tmp_path: Path, suffix: str, keep: int) -> None:
    path = tmp_path / f"m{suffix}"
    save_weights(model, path) if suffix == ".safetensors" else torch.save(model.state_dict(), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=f"m{suffix}"):
        read_tensors(path)


class _Code:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("echo never",)


def test_a_pickle_with_code_is_refused(tmp_path: Path) -> None:
    torch.save({"conv.weight": _Code()}, tmp_path / "evil.pth")
    (tmp_path / "raw.pkl").write_bytes(pickle.dumps(_Code()))
    for name in ("evil.pth", "raw.pkl"):
        with pytest.raises(UserError, match="refused"):
            read_tensors(tmp_path / name)


def test_a_full_disk_leaves_the_old_file(model: L4GM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.safetensors"
    save_weights(model, path)
    before = file_hash(path)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("core.checkpoint.save_file", full)
    with pytest.raises(UserError, match="No space left"):
        save_weights(model, path)
    assert file_hash(path) == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]
