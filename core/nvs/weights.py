"""Checkpoints of LaCT: published .pt files and own .safetensors, read without running anything in them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from core.errors import UserError
from core.lact import LaCT
from core.places import find
from core.tensor_files import read_tensors

_BLOCK = re.compile(r"blocks\.(\d+)\.")


def load_lact(model: LaCT, path: str | Path) -> None:
    """Copy all tensors of a checkpoint into the network; one on the meta device takes the tensors themselves.

    Raises:
        UserError: as `core.tensor_files.read_tensors`; or the file is of a network of other sizes, is none of LaCT, or
            holds NaN or infinity.
    """
    if not os.path.lexists(find(path)):
        raise UserError(
            f"checkpoint {path} (--load) does not exist; published ones are on Hugging Face, airsplay/lact_nvs"
        )
    state, _ = read_tensors(path)
    own = model.state_dict()
    if "input_linear.weight" not in state:
        raise UserError(f"checkpoint {path} is none of LaCT: it has no tensor input_linear.weight; check --load")
    problems = [
        f"{what} is {theirs} in the file and {ours} in the model" for what, theirs, ours in _differences(state, own)
    ]
    if problems:
        raise UserError(f"checkpoint {path} is of another network: {'; '.join(problems[:3])}. Give its --config")
    broken = [name for name, tensor in state.items() if not bool(tensor.isfinite().all())]
    if broken:
        raise UserError(f"checkpoint {path} holds NaN or infinity in {broken[0]}; use an earlier one")
    model.load_state_dict({name: tensor.to(own[name].dtype) for name, tensor in state.items()}, assign=True)


def _differences(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[tuple[str, object, object]]:
    """What differs, in the file and in the model: number of layers, names, shapes."""
    if _layers(state) != _layers(own):
        return [("the number of layers", _layers(state), _layers(own))]
    absent = [(name, "there", "missing") for name in sorted(state.keys() - own.keys())]
    absent += [(name, "missing", "there") for name in sorted(own.keys() - state.keys())]
    shared = sorted(own.keys() & state.keys())
    pairs = [(name, tuple(state[name].shape), tuple(own[name].shape)) for name in shared]
    return absent + [pair for pair in pairs if pair[1] != pair[2]]


def _layers(names: Mapping[str, Tensor]) -> int:
    return 1 + max((int(match[1]) for match in map(_BLOCK.match, names) if match), default=-1)
