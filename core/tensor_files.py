"""Named tensors from untrusted files: no code in them is run, every defect is one `UserError`."""

from __future__ import annotations

import os
import pickle
import warnings
import zipfile
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from core.errors import UserError, printable, reason
from core.files import regular_file
from core.places import find, looked_in

_PUBLISHED = {
    "recon.safetensors": "Hugging Face, jiawei011/L4GM, file recon.safetensors",
    "interp.safetensors": "Hugging Face, jiawei011/L4GM, file interp.safetensors",
    "model_fixrot.safetensors": "Hugging Face, ashawkey/LGM, file model_fixrot.safetensors",
    "model_fp16_fixrot.safetensors": "Hugging Face, ashawkey/LGM, file model_fp16_fixrot.safetensors",
}
_WRAPPERS = ("model", "state_dict", "model_state_dict")  # where training programs keep the weights in a larger dict
_DTYPES = frozenset(
    {torch.float16, torch.bfloat16, torch.float32, torch.float64}
    | {torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
)


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read all tensors of a checkpoint on the CPU, and its text metadata. Nothing in the file is run.

    Wrappers of other programs are removed: ``{"model": ...}`` or ``{"state_dict": ...}`` around the weights,
    ``module.`` and ``_orig_mod.`` in the names; ``lpips_loss.*`` is left out.

    Raises:
        UserError: the file is missing, not a regular file, not a checkpoint, truncated or damaged, a pickle that would
            run code, or holds anything but named dense tensors of common types.
    """
    path = _existing(path)
    content, metadata = _parse(path)
    for _ in _WRAPPERS:
        content = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), dict)), content)
    state: dict[str, Tensor] = {}
    for key, value in content.items():
        name = _plain_name(path, key)
        if problem := _oddity(value):
            raise UserError(f"checkpoint {path}: {printable(name)} is {problem}; give dense tensors of weights by name")
        if name in state:
            raise UserError(
                f"checkpoint {path} holds {printable(name)} twice, under several prefixes; give one network"
            )
        if not name.startswith("lpips_loss."):
            state[name] = value
    return state, metadata


def look_into(path: str | Path) -> tuple[frozenset[str], dict[str, str]]:
    """Names of a checkpoint's tensors and its text metadata; of a .safetensors file no tensor is read.

    Raises:
        UserError: as `read_tensors`.
    """
    path = _existing(path)
    if _is_safetensors(path):
        try:
            with safe_open(path, framework="pt") as file:
                return frozenset(_plain_name(path, name) for name in file.keys()), dict(file.metadata() or {})  # noqa: SIM118
        except (SafetensorError, OSError):
            pass  # `read_tensors` raises the full error
    state, metadata = read_tensors(path)
    return frozenset(state), metadata


def _existing(path: str | Path) -> Path:
    path = find(path)
    if not os.path.lexists(path):
        raise UserError(_not_found(path))
    return regular_file(path, "checkpoint")


def _parse(path: Path) -> tuple[dict[object, object], dict[str, str]]:
    """The file's content as a dict.

    Catches every exception: readers raise about fifteen kinds of error on damaged files.
    """
    try:
        if _is_safetensors(path):
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
        content = _torch_content(path)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"checkpoint {path} is refused: it is damaged, or no file of plain tensors, and reading it could run code "
            f"stored in it; fetch it again, or convert it to .safetensors where you trust it"
        ) from error
    except Exception as error:
        raise UserError(
            f"checkpoint {path} cannot be read, it looks truncated or damaged ({reason(error)}); fetch it again"
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"checkpoint {path} holds {_kind(content)} and no named tensors; give a state dict of weights")
    return content, {}


def _is_safetensors(path: Path) -> bool:
    """By its ninth byte, where the header begins, or by its suffix."""
    if path.suffix == ".safetensors":
        return True
    with suppress(OSError), path.open("rb") as file:
        return file.read(9)[8:] == b"{"
    return False


def _torch_content(path: Path) -> object:
    """Content of a torch.save file: tensors and plain containers, bounded by the file's size."""
    with path.open("rb") as file:
        start = file.read(2)
    if start == b"PK":
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
        if sum(member.file_size for member in members) > path.stat().st_size:
            raise ValueError("its archive declares more data than the file holds")
    elif start[:1] != b"\x80":
        raise ValueError("it is no file of safetensors or torch" if start else "it is empty")
    with warnings.catch_warnings(action="ignore"):
        return torch.load(path, map_location="cpu", weights_only=True)


def _plain_name(path: Path, key: object) -> str:
    if not isinstance(key, str):
        raise UserError(
            f"checkpoint {path} names a tensor by {_kind(key)} and not by text; give a state dict of weights"
        )
    name = key.replace("_orig_mod.", "")
    while name.startswith("module."):
        name = name.removeprefix("module.")
    return name


def _oddity(value: object) -> str:
    """Why a value is not a valid weight; empty for a dense tensor of a common type without overlapping elements."""
    if type(value) not in (Tensor, nn.Parameter):
        return f"{_kind(value)} and no tensor"
    kinds = {"nested": value.is_nested, "quantised": value.is_quantized, "sparse": value.layout != torch.strided}
    if odd := next((kind for kind, found in kinds.items() if found), ""):
        return f"a {odd} tensor"
    if value.is_meta:
        return "a meta tensor, which has no values"
    if value.dtype not in _DTYPES:
        return f"of type {str(value.dtype).removeprefix('torch.')}"
    return "an expanded tensor, whose elements share memory" if _overlaps(value) else ""


def _overlaps(tensor: Tensor) -> bool:
    """Whether elements may overlap: each stride must exceed the span of the smaller ones."""
    span = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1:
            if stride < span:
                return tensor.numel() > 0
            span += (size - 1) * stride
    return False


def _not_found(path: Path) -> str:
    message = f"checkpoint {path} does not exist{looked_in(path)}"
    if path.name in _PUBLISHED:
        return f"{message}; it is published at {_PUBLISHED[path.name]}: download it to {path}"
    return f"{message}; give a file that does (--resume, --interpresume), or train one with main.py"


def _kind(value: object) -> str:
    return f"a value of type {type(value).__name__}"
