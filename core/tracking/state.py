"""A fit in a file, from which it goes on to the bit."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from core.errors import UserError
from core.files import atomic_path
from core.gaussians import Gaussians
from core.tensor_files import read_tensors
from core.tracking.fit import Fit, Place

ALIKE = 1e-3  # world units, radians, colours
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def save_state(fit: Fit, path: Path) -> None:
    """Write where the fit is, whole or not at all. Raises `UserError` where it cannot be written."""
    tensors = {f"canonical.{name}": tensor for name, tensor in fit.canonical.state_dict().items()}
    tensors |= {f"motion.{name}": tensor for name, tensor in fit.motion.state_dict().items()}
    tensors |= {"generator": fit.generator.get_state(), "place": torch.tensor([fit.place.stage, fit.place.step])}
    tensors |= {f"given.{name}": tensor for name, tensor in _given(fit).items()}
    for number, moments in enumerate(_moments(fit)):
        tensors |= {f"adam.{number}.{name}": tensor for name, tensor in moments.items()}
    with atomic_path(path) as temporary:
        plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        save_file(plain, temporary, metadata={"format": "pt", "fingerprint": fingerprint(fit)})


def load_state(fit: Fit, path: Path) -> bool:
    """Put a fresh fit where the file was written.

    Returns:
        whether it is a file of the same fit; of another one, or a damaged one, nothing is taken.
    """
    try:
        tensors, metadata = read_tensors(path)
    except UserError:
        return False
    if metadata.get("fingerprint") != fingerprint(fit) or not _alike(_below("given.", tensors), _given(fit)):
        return False
    fit.canonical.load_state_dict(_below("canonical.", tensors))
    fit.motion.load_state_dict(_below("motion.", tensors))
    fit.generator.set_state(tensors["generator"])
    fit.place = Place(*tensors["place"].tolist())
    if any(name.startswith("adam.") for name in tensors):
        optimizer = fit.adam()
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        for number, parameter in enumerate(parameters):
            moments = _below(f"adam.{number}.", tensors)
            if moments:
                on_device = {name: moments[name].to(parameter.device) for name in _MOMENTS[1:]}
                optimizer.state[parameter] = {"step": moments["step"], **on_device}
    return True


def fingerprint(fit: Fit) -> str:
    """Hash of what decides a fit and is the same to the bit when a command is repeated: images, start and options."""
    seen = fit.observations
    tensors = [views.images for views in (seen.front, seen.first)]
    tensors += [getattr(fit.start, field.name) for field in fields(Gaussians)]
    options = replace(fit.options, preview=False)  # which changes no result
    digest = hashlib.sha256(repr((options, fit.renderer.name)).encode())
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _given(fit: Fit) -> dict[str, Tensor]:
    """What decides a fit and is made with gradients, whose sums a GPU forms in any order: motions, and mean colours of
    the feed-forward sequence, which shows them."""
    given = {"bank": fit.observations.bank.images.mean((-2, -1))}
    if fit.motions is not None:
        parts = [torch.cat([part.flatten() for part in (*one.pose, one.bend, one.reach)]) for one in fit.motions.later]
        given["motions"] = torch.cat([fit.motions.centre, *parts])
    return {name: tensor.detach().cpu() for name, tensor in given.items()}


def _alike(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].shape == other[name].shape and torch.allclose(one[name], other[name], atol=ALIKE) for name in one
    )


def _moments(fit: Fit) -> list[dict[str, Tensor]]:
    if fit.optimizer is None:
        return []
    parameters = [p for group in fit.optimizer.param_groups for p in group["params"]]
    return [{name: fit.optimizer.state[p][name] for name in _MOMENTS if p in fit.optimizer.state} for p in parameters]


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
