"""Checkpoints: what loads, what is refused and how the refusal helps."""

from __future__ import annotations

import errno
import json
import os
import pickle
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from core.architectures import build_model
from core.checkpoint import file_hash, load_weights, read_tensors, save_weights
from core.errors import UserError
from core.model import L4GM
from core.options import PRESETS
from tests.test_model import TINY


@pytest.fixture
def model() -> L4GM:
    torch.manual_seed(0)
    return L4GM(TINY)


def saved(model: L4GM, path: Path, **changes: torch.Tensor) -> Path:
    save_file({**{name: value.clone() for name, value in model.state_dict().items()}, **changes}, path)
    return path


def test_save_and_load_is_the_identity(model: L4GM, tmp_path: Path) -> None:
    save_weights(model, tmp_path / "m.safetensors", preset="mine")
    other = L4GM(TINY)
    report = load_weights(other, tmp_path / "m.safetensors")
    assert report.loaded == len(model.state_dict()) and not report.missing
    assert report.metadata["preset"] == "mine"
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
    report = load_weights(model, tmp_path / "lgm.safetensors", strict=False)
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
        load_weights(model, saved(model, tmp_path / "m.safetensors", **{name: value}))
    torch.testing.assert_close(model.conv.bias, before)


def test_a_missing_tensor_is_named(model: L4GM, tmp_path: Path) -> None:
    state = {name: value.clone() for name, value in model.state_dict().items() if name != "conv.weight"}
    save_file(state, tmp_path / "m.safetensors")
    with pytest.raises(UserError, match=r"missing conv\.weight"):
        load_weights(model, tmp_path / "m.safetensors")


def test_a_training_starts_with_what_fits_and_names_the_rest(model: L4GM, tmp_path: Path) -> None:
    """As published: equal names and shapes are copied."""
    torch.manual_seed(1)
    other = L4GM(replace(TINY, gaussian_perpixel=2))
    before = model.conv.weight.clone()
    saved(other, tmp_path / "two.safetensors", stray=torch.zeros(1))
    report = load_weights(model, tmp_path / "two.safetensors", strict=False)
    assert str(report).splitlines()[1:] == [
        "  unexpected stray",
        "  conv.bias is (28,) in the file and (14,) in the model",
        "  conv.weight is (28, 28, 1, 1) in the file and (14, 14, 1, 1) in the model",
        "  unet.conv_out.bias is (28,) in the file and (14,) in the model",
        "  unet.conv_out.weight is (28, 32, 3, 3) in the file and (14, 32, 3, 3) in the model",
    ]
    assert report.loaded == len(model.state_dict()) - 4
    torch.testing.assert_close(model.unet.conv_in.weight, other.unet.conv_in.weight, rtol=0, atol=0)
    torch.testing.assert_close(model.conv.weight, before, rtol=0, atol=0)


def test_a_training_does_not_start_with_nan_or_with_nothing(model: L4GM, tmp_path: Path) -> None:
    broken = saved(model, tmp_path / "nan.safetensors", **{"conv.bias": torch.full((14,), float("nan"))})
    with pytest.raises(UserError, match=r"NaN or infinity in conv\.bias"):
        load_weights(model, broken, strict=False)
    save_file({"decoder": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="does not fit this model"):
        load_weights(model, tmp_path / "other.safetensors", strict=False)


def test_the_preset_that_a_file_is_of_is_named(model: L4GM, tmp_path: Path) -> None:
    with torch.device("meta"):
        names = L4GM(PRESETS["tiny"].model).state_dict()
    save_file(
        {name: torch.zeros(tensor.shape, dtype=torch.float16) for name, tensor in names.items()}, tmp_path / "t.bin"
    )
    with pytest.raises(UserError, match="It is of the preset tiny: name that one"):
        load_weights(model, tmp_path / "t.bin")
    model = L4GM(replace(TINY, norm_groups=16))
    save_weights(model, tmp_path / "m.safetensors", options=json.dumps({"model": asdict(TINY)}))
    with pytest.raises(UserError, match="norm_groups is 32 in the file and 16 in the model"):
        load_weights(model, tmp_path / "m.safetensors")
    assert load_weights(L4GM(TINY), tmp_path / "m.safetensors").loaded


def test_the_shipped_checkpoint_is_refused_where_shapes_agree(tmp_path: Path) -> None:
    shipped = Path(__file__).parent.parent / "pretrained/nano_recon.safetensors"
    with torch.device("meta"):
        model = build_model(replace(PRESETS["nano"].model, num_heads=8))
    with pytest.raises(UserError, match=r"num_heads is 4 in the file and 8 in the model.*the preset nano"):
        load_weights(model, shipped)


@pytest.mark.parametrize("options", ["", "[1]", "[" * 200_000, '{"model": 3}', '{"model": {"num_heads": {"a": 1}}}'])
def test_odd_options_in_a_file_are_no_error_of_their_own(model: L4GM, tmp_path: Path, options: str) -> None:
    save_weights(model, tmp_path / "m.safetensors", options=options)
    with suppress(UserError):  # the last one differs from the model
        load_weights(model, tmp_path / "m.safetensors")


def test_a_missing_file_says_where_it_is_published(model: L4GM, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"recon.safetensors does not exist; it is published at .*jiawei011/L4GM"):
        load_weights(model, tmp_path / "recon.safetensors")
    with pytest.raises(UserError, match="--resume"):
        load_weights(model, tmp_path / "mine.safetensors")


WRAPPINGS = {
    "model": lambda state: {"model": state, "epoch": 3, "optimizer": {"lr": 0.1}},
    "state_dict": lambda state: {"state_dict": state},
    "module.": lambda state: {f"module.{name}": value for name, value in state.items()},
    "compiled": lambda state: {"model": {f"module._orig_mod.{name}": value for name, value in state.items()}},
    "part compiled": lambda state: {name.replace("unet.", "unet._orig_mod."): value for name, value in state.items()},
    "perceptual": lambda state: {**state, "lpips_loss.net.0.weight": torch.zeros(3)},
}


@pytest.mark.parametrize("wrap", WRAPPINGS.values(), ids=WRAPPINGS)
def test_what_other_programs_put_around_the_weights_is_understood(model: L4GM, tmp_path: Path, wrap: Callable) -> None:
    torch.save(wrap(model.state_dict()), tmp_path / "m.pt")
    other = L4GM(TINY)
    assert load_weights(other, tmp_path / "m.pt").loaded == len(model.state_dict())
    torch.testing.assert_close(other.state_dict(), model.state_dict(), rtol=0, atol=0)


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


def test_a_network_without_values_takes_the_tensors_in_its_own_types(model: L4GM, tmp_path: Path) -> None:
    path = saved(model, tmp_path / "m.safetensors")
    with torch.device("meta"):
        empty = L4GM(TINY).to(torch.bfloat16)
    empty.conv.float()
    load_weights(empty, path)
    for name, value in model.state_dict().items():
        found = empty.state_dict()[name]
        assert found.dtype == (torch.float32 if name.startswith("conv.") else torch.bfloat16)
        assert torch.equal(found, value.to(found.dtype))
