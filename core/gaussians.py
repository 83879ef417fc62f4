"""3D Gaussians, and the 14 raw channels that a network predicts for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

RAW_CHANNELS = 14
FAINT = 1 / 256
"""An opacity that no renderer draws: all of them leave contributions under 1/255 out."""


@dataclass(frozen=True)
class Gaussians:
    """3D Gaussians with activated values. Leading axes are usually ``[B, T]``: N Gaussians for every time step.

    Attributes:
        means: centres ``[..., N, 3]`` in world units.
        opacities: ``[..., N]`` in [0, 1].
        scales: standard deviations along the own axes ``[..., N, 3]``, world units.
        quats: rotations ``[..., N, 4]`` as quaternions (w, x, y, z); they need not be normalised.
        colors: RGB ``[..., N, 3]`` in [0, 1], the same from every direction.

    Raises:
        ValueError: a field's shape does not fit the others.
    """

    means: Tensor
    opacities: Tensor
    scales: Tensor
    quats: Tensor
    colors: Tensor

    def __post_init__(self) -> None:
        lead = self.opacities.shape
        for name, width in (("means", 3), ("scales", 3), ("quats", 4), ("colors", 3)):
            shape = getattr(self, name).shape
            if shape != (*lead, width):
                raise ValueError(f"{name} must be {(*lead, width)} to fit opacities {tuple(lead)}, got {tuple(shape)}")

    @property
    def shape(self) -> torch.Size:
        """The leading axes, usually ``[B, T]``."""
        return self.opacities.shape[:-1]

    @property
    def num(self) -> int:
        """N, the number of Gaussians per time step."""
        return self.opacities.shape[-1]

    def map(self, function: Callable[[Tensor], Tensor]) -> Gaussians:
        """Apply ``function`` to every field."""
        return Gaussians(*(function(getattr(self, field.name)) for field in fields(self)))

    def __getitem__(self, index: object) -> Gaussians:
        """Index the leading axes, e.g. ``g[0, 2]`` or ``g[:, 1:]``; the Gaussian axis stays whole.

        Raises:
            IndexError: more indices than leading axes.
        """
        index = index if isinstance(index, tuple) else (index,)
        used = sum(i is not None and i is not Ellipsis for i in index)
        if used > len(self.shape):
            raise IndexError(f"{used} indices for {len(self.shape)} leading axes {tuple(self.shape)}")
        return self.map(lambda field: field[index])

    def select(self, mask: Tensor) -> Gaussians:
        """Select Gaussians of a single frame (no leading axes) by a boolean mask or an index ``[N]``."""
        if self.shape:
            raise ValueError(f"select() works on one frame, these Gaussians have leading axes {tuple(self.shape)}")
        return self.map(lambda field: field[mask])

    def visible(self) -> Gaussians:
        """The Gaussians of a single frame that a renderer may draw, see `FAINT`."""
        return self.select(self.opacities >= FAINT)

    def reshape(self, *shape: int) -> Gaussians:
        """The same Gaussians with other leading axes."""
        lead = len(self.shape)
        return self.map(lambda field: field.reshape(*shape, *field.shape[lead:]))

    def to(self, target: torch.device | torch.dtype | str) -> Gaussians:
        """Move to a device or cast to a floating-point type."""
        return self.map(lambda field: field.to(target))

    def detach(self) -> Gaussians:
        """The same values, cut off from the autograd graph."""
        return self.map(Tensor.detach)

    def is_finite(self) -> bool:
        """Whether no value is NaN or infinite."""
        checks = [torch.isfinite(getattr(self, field.name)).all() for field in fields(self)]
        return bool(torch.stack(checks).all())  # one test for all: each makes the host wait for the GPU


def combine(sets: Sequence[Gaussians], join: Callable[[Sequence[Tensor]], Tensor]) -> Gaussians:
    """Sets of equal shape as one, field by field; ``join``: such as `torch.stack`."""
    return Gaussians(*(join([getattr(one, field.name) for one in sets]) for field in fields(Gaussians)))


class RawGaussians(NamedTuple):
    """The network's 14 output channels by name, before activation (last axis as in `Gaussians`)."""

    position: Tensor  # [..., 3]
    opacity: Tensor  # [..., 1]
    scale: Tensor  # [..., 3]
    quat: Tensor  # [..., 4]
    color: Tensor  # [..., 3]


def split_raw(raw: Tensor) -> RawGaussians:
    """Name the 14 channels on the last axis of ``raw`` ``[..., 14]`` in the published order."""
    if raw.shape[-1] != RAW_CHANNELS:
        raise ValueError(f"raw Gaussians have {RAW_CHANNELS} channels, got {raw.shape[-1]}")
    return RawGaussians(*raw.split([3, 1, 3, 4, 3], dim=-1))


def activate_published(raw: Tensor) -> Gaussians:
    """Published activation of LGM and L4GM: ``raw`` ``[..., N, 14]`` becomes Gaussians.

    Position clamped to [-1, 1] (absolute, world units), opacity = sigmoid, scale = 0.1 softplus, quaternion
    normalised over its four channels, colour = 0.5 tanh + 0.5. Computed in at least float32.
    """
    raw = raw if raw.dtype == torch.float64 else raw.float()
    position, opacity, scale, quat, color = split_raw(raw)
    return Gaussians(
        means=position.clamp(-1, 1),
        opacities=opacity.squeeze(-1).sigmoid(),
        scales=0.1 * F.softplus(scale),
        quats=F.normalize(quat, dim=-1),
        colors=0.5 * color.tanh() + 0.5,
    )
