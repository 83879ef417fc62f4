"""The canonical set: Gaussians before activation, as parameters."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from core.gaussians import Gaussians

_EDGE = 1e-3  # opacities and colours start this far from 0 and 1, where a sigmoid still has a gradient
_MIN_SCALE = 1e-5

# Steps of Adam for each parameter, world units, logits and logarithms.
RATES = {"means": 3e-4, "opacities": 5e-2, "scales": 3e-3, "quats": 3e-3, "colors": 1e-2}


class Canonical(nn.Module):
    """One set of Gaussians that an optimiser can change.

    Args:
        start: no leading axes.
    """

    def __init__(self, start: Gaussians) -> None:
        super().__init__()
        self.means = nn.Parameter(start.means.float().clone())
        self.opacities = nn.Parameter(start.opacities.float().clamp(_EDGE, 1 - _EDGE).logit())
        self.scales = nn.Parameter(start.scales.float().clamp_min(_MIN_SCALE).log())
        self.quats = nn.Parameter(start.quats.float().clone())
        self.colors = nn.Parameter(start.colors.float().clamp(_EDGE, 1 - _EDGE).logit())
        self.register_buffer("start_scales", self.scales.detach().clone(), persistent=False)

    def forward(self) -> Gaussians:
        """The activated set, no leading axes."""
        return Gaussians(self.means, self.opacities.sigmoid(), self.scales.exp(), self.quats, self.colors.sigmoid())

    def parameter_groups(self) -> list[dict[str, object]]:
        """Parameters with their rates, for Adam."""
        return [{"params": [getattr(self, name)], "lr": rate} for name, rate in RATES.items()]

    def opacity_term(self) -> Tensor:
        """How far opacities are from 0 and 1: mean of 4 o (1 - o), in [0, 1]."""
        opacities = self.opacities.sigmoid()
        return (4 * opacities * (1 - opacities)).mean()

    def scale_term(self) -> Tensor:
        """Mean squared change of the logarithms of the scales since the start."""
        return (self.scales - self.start_scales).square().mean()


def jittered(gaussians: Gaussians, noise: float, generator: torch.Generator) -> Gaussians:
    """A set whose centres are off by normal noise: fitted to few views, it closes its gaps and overfits less.

    Args:
        gaussians: any leading axes.
        noise: standard deviation in world units.
        generator: on the CPU.
    """
    offsets = torch.randn(gaussians.means.shape, generator=generator).to(gaussians.means)
    return replace(gaussians, means=gaussians.means + noise * offsets)
