"""What every guidance is: it chooses cameras, and turns what they see into a loss.

Score distillation adds noise to the latents of renders and lets a diffusion network guess it. Where the guess differs,
the network would rather see something else: gradient of the latents = w(t) (guessed noise - noise), with w = 1 -
alpha_bar (DreamFusion, equation 3; the published DreamGaussian4D). No gradient goes through the network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from core.errors import UserError

# Published weight of the video's mean squared error where that of score distillation is 1.
VIDEO_WEIGHT = 10_000.0
STEPS, FIRST, LAST = 1000, 20, 980  # timesteps of training; those that are used
ELEVATIONS = (-30.0, 30.0)  # degrees, of random cameras


@dataclass(frozen=True)
class Shot:
    """What is to be rendered.

    Attributes:
        frames: numbers of frames of the video ``[T]``.
        azimuths, elevations: of their cameras, degrees from the video's and above the horizon ``[T, V]``.
        size: side of the renders in pixels.
    """

    frames: Tensor
    azimuths: Tensor
    elevations: Tensor
    size: int


class Guidance(Protocol):
    """One way of guidance, for one video. Random numbers come from the generator, on the CPU."""

    def shot(self, generator: torch.Generator) -> Shot:
        """Cameras of one step."""
        ...

    def loss(self, renders: Tensor, shot: Shot, done: float, generator: torch.Generator) -> Tensor:
        """How much the network would change.

        Args:
            renders: what the shot asks for, on white ``[T, V, 3, size, size]``.
            shot: it.
            done: share of the steps of the fit that are done.
            generator: draws noise.

        Returns:
            a number in units of the video's mean squared error.

        Raises:
            UserError: the network gives NaN or infinity.
        """
        ...


def timestep(done: float) -> int:
    """From much noise to little, linearly."""
    return min(max(round((1 - done) * STEPS), FIRST), LAST)


def random_shot(num_frames: int, count: int, size: int, generator: torch.Generator) -> Shot:
    """``count`` random frames, each from one random direction."""
    frames = torch.randint(num_frames, (count,), generator=generator)
    azimuths, heights = torch.rand(2, count, 1, generator=generator)
    low, high = ELEVATIONS
    return Shot(frames, 360 * azimuths, low + (high - low) * heights, size)


def noise_like(latents: Tensor, generator: torch.Generator) -> Tensor:
    """Normal noise, the same on every device."""
    return torch.randn(latents.shape, generator=generator).to(latents)


def blend(latents: Tensor, noise: Tensor, alpha: float) -> Tensor:
    """Latents at the noise level of alpha_bar, without gradients."""
    return math.sqrt(alpha) * latents.detach() + math.sqrt(1 - alpha) * noise


def encode(vae: Any, images: Tensor, generator: torch.Generator) -> Tensor:
    """Scaled latents ``[B, C, h, w]`` float32 of images ``[B, 3, S, S]`` in [0, 1], drawn from their distribution, with
    gradients."""
    latents = vae.encode((2 * images - 1).to(vae.device, vae.dtype)).latent_dist
    mean, std = latents.mean.float(), latents.std.float()
    return (mean + std * noise_like(mean, generator)) * vae.config.scaling_factor


def distil(latents: Tensor, gradient: Tensor) -> Tensor:
    """A number whose gradient with respect to the latents is ``gradient``: 0.5 sum (latents - stop(latents -
    gradient))^2. Raises `UserError` where that is not finite."""
    if not bool(torch.isfinite(gradient).all()):
        raise UserError("the guidance network gives NaN or infinity; try --precision fp32, or fetch its weights again")
    return 0.5 * (latents - (latents - gradient).detach()).square().sum()
