"""Checkpoints: loaded into a network with a report, written atomically."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from core.architectures import build_model
from core.errors import UserError, printable
from core.files import atomic_path, is_like, parse_table
from core.options import PRESETS, ModelOptions
from core.places import find
from core.tensor_files import look_into, read_tensors

__all__ = [
    "LoadReport",
    "file_hash",
    "load_weights",
    "look_into",
    "read_tensors",
    "save_weights",
    "stored_model_options",
]

TEMPORAL = "t_attns."
"""In the names of all tensors of temporal attention, and of no other."""
MOTION = "unet.motion."
"""In the names of all tensors of the motion code of `core.nano`, and of no other."""
_UNSEEN = ("architecture", "num_heads", "norm_groups")  # not visible in the shape of any tensor


def learns_time(name: str) -> bool:
    """Whether a tensor of this name belongs to what single frames do not need."""
    return TEMPORAL in name or MOTION in name


@dataclass(frozen=True)
class LoadReport:
    """What `load_weights` found. Tensors that are missing or do not fit keep the values that the model had.

    Attributes:
        path: the file.
        loaded: number of tensors copied.
        missing: names of the model's tensors that the file does not have.
        unused: names of the file's tensors that the model does not have.
        misfits: tensors of another shape or type, as text: name and both shapes.
        differing: options that tensor shapes do not reveal and in which the file's network differs, as text.
        metadata: the file's text metadata (safetensors).
    """

    path: Path
    loaded: int
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    misfits: tuple[str, ...]
    differing: tuple[str, ...]
    metadata: Mapping[str, str]

    def __str__(self) -> str:
        line = f"{self.path}: {self.loaded} tensors loaded"
        if fresh := sum(TEMPORAL in name for name in self.missing):
            line += f"; {fresh} temporal-attention tensors (t_attns) are not in it and start fresh"
        if left_out := sum(TEMPORAL in name for name in self.unused):
            line += f"; its {left_out} temporal-attention tensors (t_attns) are left out: this network has none"
        return "\n  ".join([line, *self.problems(temporal=False)])

    def problems(self, temporal: bool = True) -> list[str]:
        """Everything that does not fit, one item per tensor; without ``temporal``, temporal attention is left out."""
        items = [f"missing {name}" for name in self.missing if temporal or TEMPORAL not in name]
        items += [f"unexpected {printable(name)}" for name in self.unused if temporal or TEMPORAL not in name]
        return [*items, *self.misfits, *self.differing]


def load_weights(model: nn.Module, path: str | Path, *, strict: bool = True) -> LoadReport:
    """Copy a checkpoint's tensors into ``model``, which keeps its device and types.

    Args:
        model: an `L4GM`. One on the meta device, which holds no values, takes the tensors themselves, on the CPU and in
            its own types.
        path: ``.safetensors``, or a torch file that holds tensors only.
        strict: every tensor must be there and fit, as inference needs it. False, where a training starts: what fits
            by name and shape is copied, and the report lists the rest (a file of LGM, which has no temporal attention;
            another preset; another number of Gaussians a pixel).

    Raises:
        UserError: as `read_tensors`; or the file does not fit: nothing of it, or with ``strict`` not all (the first
            names, with the shapes on both sides, and the preset that it is of); or it holds NaN or infinity.
    """
    path = find(path)
    state, metadata = read_tensors(path)
    own = model.state_dict()
    misfits = {name: _misfit(name, own[name], state[name]) for name in sorted(own.keys() & state.keys())}
    fitting = {name: state[name] for name, problem in misfits.items() if not problem}
    report = LoadReport(
        path=path,
        loaded=len(fitting),
        missing=tuple(sorted(own.keys() - state.keys())),
        unused=tuple(sorted(state.keys() - own.keys())),
        misfits=tuple(filter(None, misfits.values())),
        differing=_differences(metadata, getattr(model, "options", None)),
        metadata=metadata,
    )
    if (strict and report.problems()) or not fitting:
        raise UserError(_refusal(report, model, state))
    broken = [name for name, tensor in fitting.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise UserError(
            f"checkpoint {path} holds NaN or infinity in {_some(broken)}; "
            f"the training that wrote it diverged, use an earlier one"
        )
    empty = any(tensor.is_meta for tensor in own.values())
    if empty:
        fitting = {name: tensor.to(own[name].dtype) for name, tensor in fitting.items()}
    model.load_state_dict(fitting, strict=False, assign=empty)
    return report


def stored_model_options(metadata: Mapping[str, str]) -> dict[str, object]:
    """The network's options that a training run wrote into the file, by name; without values of a wrong type."""
    try:
        stored = parse_table(metadata.get("options", "{}")).get("model")
    except ValueError:
        return {}
    defaults = vars(ModelOptions())
    usable = _with_architecture(stored).items() if isinstance(stored, dict) else ()
    return {name: value for name, value in usable if name not in defaults or is_like(value, defaults[name])}


def _with_architecture(stored: dict[str, object]) -> dict[str, object]:
    """Options of files of version 0.1, which name the network by its head, under their current names."""
    architectures = {"published": "l4gm", "ray": "nano"}
    head = stored.get("head")
    return {"architecture": architectures[head], **stored} if head in ("published", "ray") else stored


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
        except SafetensorError as error:  # its I/O errors are not OSErrors
            raise OSError(f"{error}") from error


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file, as hexadecimal text."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _misfit(name: str, own: Tensor, found: Tensor) -> str:
    if own.shape != found.shape:
        return f"{name} is {tuple(found.shape)} in the file and {tuple(own.shape)} in the model"
    if own.is_floating_point() != found.is_floating_point():
        return f"{name} is {found.dtype} in the file and {own.dtype} in the model".replace("torch.", "")
    return ""


def _differences(metadata: Mapping[str, str], options: ModelOptions | None) -> tuple[str, ...]:
    """Stored options that contradict the model and that tensor shapes do not reveal."""
    stored = stored_model_options(metadata)
    if not stored and metadata.get("preset") in PRESETS:
        stored = vars(PRESETS[metadata["preset"]].model)
    pairs = [
        (name, stored[name], getattr(options, name)) for name in _UNSEEN if name in stored and hasattr(options, name)
    ]
    return tuple(
        f"{name} is {theirs!r} in the file and {ours!r} in the model" for name, theirs, ours in pairs if theirs != ours
    )


def _refusal(report: LoadReport, model: nn.Module, state: Mapping[str, Tensor]) -> str:
    problems = report.problems()
    if report.missing and not report.problems(temporal=False) and not report.unused:
        return (
            f"checkpoint {report.path} has no temporal attention ({len(problems)} tensors t_attns.* are missing): "
            f"it is a file of LGM. Train from it with main.py, or run it frame by frame with --no-use_temp_attn"
        )
    fits = _preset_of(model, state)
    advice = (
        f"It is of the preset {fits}: name that one, without options that change it"
        if fits
        else "Is it of another preset?"
    )
    return f"checkpoint {report.path} does not fit this model: {_some(problems)}. {advice}"


def _preset_of(model: nn.Module, state: Mapping[str, Tensor]) -> str:
    """The first preset with exactly these names and shapes; empty if there is none."""
    shapes = {name: tensor.shape for name, tensor in state.items()}
    for name, options in PRESETS.items():
        if isinstance(getattr(model, "options", None), ModelOptions):
            with torch.device("meta"):
                other = build_model(options.model)
            if {key: tensor.shape for key, tensor in other.state_dict().items()} == shapes:
                return name
    return ""


def _some(items: list[str], shown: int = 3) -> str:
    rest = len(items) - shown
    return ", ".join(items[:shown]) + (f" and {rest} more" if rest > 0 else "")
