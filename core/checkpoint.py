"""Checkpoint files: read with a report, written atomically."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from core.errors import UserError
from core.files import atomic_path

_PUBLISHED = {
    "recon.safetensors": "Hugging Face, jiawei011/L4GM, file recon.safetensors",
    "interp.safetensors": "Hugging Face, jiawei011/L4GM, file interp.safetensors",
    "model_fixrot.safetensors": "Hugging Face, ashawkey/LGM, file model_fixrot.safetensors",
    "model_fp16_fixrot.safetensors": "Hugging Face, ashawkey/LGM, file model_fp16_fixrot.safetensors",
}


@dataclass(frozen=True)
class LoadReport:
    """What `load_weights` found.

    Attributes:
        path: the file.
        loaded: number of tensors copied.
        missing: names of temporal-attention tensors that the file does not have; they keep their fresh values.
        left_out: number of temporal-attention tensors that the file has and a model without time does not take.
        metadata: the file's text metadata (safetensors).
    """

    path: Path
    loaded: int
    missing: tuple[str, ...]
    metadata: Mapping[str, str]
    left_out: int = 0

    def __str__(self) -> str:
        line = f"{self.path}: {self.loaded} tensors loaded"
        if self.missing:
            line += f"; {len(self.missing)} temporal-attention tensors (t_attns) are not in it and start fresh"
        if self.left_out:
            line += f"; its {self.left_out} temporal-attention tensors (t_attns) are left out: this network has none"
        return line


def load_weights(model: nn.Module, path: str | Path, *, fresh_temporal: bool = False) -> LoadReport:
    """Copy a checkpoint's tensors into ``model``, which keeps its device and types.

    Args:
        model: an `L4GM`. One on the meta device, which holds no values, takes the tensors themselves, on the CPU and in
            its own types.
        path: ``.safetensors``, or a torch file that holds tensors only.
        fresh_temporal: as the start of a training, accept a file of LGM, which has no temporal attention; and one
            with temporal attention for a network without.

    Raises:
        UserError: the file is missing, truncated, a pickle with code, holds NaN or infinity, or does not fit:
            a tensor is missing, unexpected or of another shape (all named, shapes on both sides).
    """
    path = Path(path)
    state, metadata = read_tensors(path)
    own = model.state_dict()
    left_out = [name for name in state.keys() - own.keys() if fresh_temporal and "t_attns." in name]
    if not any("t_attns." in name for name in own):
        state = {name: tensor for name, tensor in state.items() if name not in left_out}
    missing = sorted(own.keys() - state.keys())
    temporal = [name for name in missing if "t_attns." in name]
    problems = [f"missing {name}" for name in missing if not (fresh_temporal and name in temporal)]
    problems += [f"unexpected {name}" for name in sorted(state.keys() - own.keys())]
    problems += [
        f"{name} is {tuple(state[name].shape)} in the file and {tuple(own[name].shape)} in the model"
        for name in sorted(own.keys() & state.keys())
        if own[name].shape != state[name].shape
    ]
    if problems:
        raise UserError(_misfit(path, problems, only_temporal=len(problems) == len(temporal) == len(missing)))
    broken = [name for name, tensor in state.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise UserError(
            f"checkpoint {path} holds NaN or infinity in {_some(broken)}; "
            f"the training that wrote it diverged, use an earlier one"
        )
    empty = any(tensor.is_meta for tensor in own.values())
    if empty:
        state = {name: tensor.to(own[name].dtype) for name, tensor in state.items()}
    model.load_state_dict(state, strict=False, assign=empty)
    return LoadReport(path, len(state), tuple(missing), metadata, len(left_out))


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read all tensors of a checkpoint on the CPU, and its text metadata.

    Raises:
        UserError: the file is missing, is no checkpoint or a truncated one, or is a pickle that would run code.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(_not_found(path))
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"checkpoint {path} is refused: it is no file of plain tensors, reading it could run code stored in it; "
            f"convert it to .safetensors where you trust it"
        ) from error
    except (SafetensorError, OSError, EOFError, RuntimeError) as error:
        raise UserError(
            f"checkpoint {path} cannot be read, it looks truncated or damaged ({error}); fetch it again"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"checkpoint {path} holds something else than named tensors; give a state dict of weights")
    return state, {}


def look_into(path: str | Path) -> tuple[frozenset[str], dict[str, str]]:
    """Names of a checkpoint's tensors and its text metadata; of a .safetensors file no tensor is read.

    Raises:
        UserError: as `read_tensors`.
    """
    path = Path(path)
    if path.suffix == ".safetensors" and path.is_file():
        try:
            with safe_open(path, framework="pt") as file:
                return frozenset(file.keys()), dict(file.metadata() or {})
        except (SafetensorError, OSError):
            pass  # told in full by what follows
    state, metadata = read_tensors(path)
    return frozenset(state), metadata


def save_weights(
    model: nn.Module | Mapping[str, Tensor],
    path: str | Path,
    *,
    dtype: torch.dtype | None = None,
    **metadata: str,
) -> None:
    """Write the model's tensors to a ``.safetensors`` file, whole or not at all.

    Args:
        model: an `L4GM`, or its tensors by name.
        path: the file.
        dtype: floating-point type in the file; None keeps the model's.
        metadata: text to store beside the tensors.

    Raises:
        UserError: the folder cannot be written to or the disk is full.
    """
    tensors = model.state_dict() if isinstance(model, nn.Module) else model
    state = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        try:
            save_file(state, temporary, metadata={"format": "pt", **metadata})
            temporary.chmod(0o644)  # safetensors makes files that only their owner can read
        except SafetensorError as error:  # its I/O errors are no OSError
            raise OSError(f"{error}") from error


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file, as hexadecimal text."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _not_found(path: Path) -> str:
    message = f"checkpoint {path} does not exist"
    if path.name in _PUBLISHED:
        return f"{message}; it is published at {_PUBLISHED[path.name]}: download it to {path}"
    return f"{message}; give a file that does (--resume, --interpresume), or train one with main.py"


def _misfit(path: Path, problems: list[str], only_temporal: bool) -> str:
    if only_temporal:
        return (
            f"checkpoint {path} has no temporal attention ({len(problems)} tensors t_attns.* are missing): "
            f"it is a file of LGM. Train from it with main.py, or run it frame by frame with --no-use_temp_attn"
        )
    return f"checkpoint {path} does not fit this model: {_some(problems)}. Is it of another preset?"


def _some(items: list[str], shown: int = 3) -> str:
    rest = len(items) - shown
    return ", ".join(items[:shown]) + (f" and {rest} more" if rest > 0 else "")
