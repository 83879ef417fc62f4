"""Score distillation with ImageDream: four views of one frame at once."""

from __future__ import annotations

import torch
from torch import Tensor

from core.conventions import INPUT_AZIMUTHS, NUM_VIEWS
from core.guidance.base import VIDEO_WEIGHT, Shot, blend, distil, encode, noise_like, random_shot, timestep
from core.multiview.diffusion import GUIDANCE, MultiViewDiffusion, guided_noise
from core.multiview.poses import VIEW_ORDER, camera_numbers


class ImageDream:
    """Guidance by ImageDream. The encoders are in memory only while this is made.

    Args:
        diffusion: the pipeline of this project; its parts are taken from it.
        pictures: the video ``[T, 3, S, S]`` on white, seen from azimuth 0.
        views: renders a step; rounded down to fours, at least four.
        prompt: what the pictures show; may be empty.
    """

    def __init__(self, diffusion: MultiViewDiffusion, pictures: Tensor, views: int, prompt: str = "") -> None:
        self.groups = max(1, views // NUM_VIEWS)
        self.conditions = diffusion.conditions(list(pictures), prompt)
        repository, where = diffusion.repository, (diffusion.device, diffusion.dtype)
        self.unet, self.vae = repository.unet(*where), repository.vae(*where)
        self.vae.decoder = None
        self.alphas = diffusion.scheduler.alphas_cumprod
        self.size = self.unet.config.image_size * 2 ** (len(self.vae.config.block_out_channels) - 1)

    def shot(self, generator: torch.Generator) -> Shot:
        """Random frames, each from four directions at right angles."""
        one = random_shot(len(self.conditions), self.groups, self.size, generator)
        azimuths = one.azimuths + torch.tensor(INPUT_AZIMUTHS)
        return Shot(one.frames, azimuths, one.elevations.expand_as(azimuths), self.size)

    def loss(self, renders: Tensor, shot: Shot, done: float, generator: torch.Generator) -> Tensor:
        """Score distillation without w(t), as published; mean over the renders."""
        latents = encode(self.vae, renders.flatten(0, 1), generator).unflatten(0, renders.shape[:2])
        noise, time = noise_like(latents, generator), timestep(done)
        noisy = blend(latents, noise, float(self.alphas[time]))
        guessed = [self._guided_noise(noisy[k], time, shot, k, generator) for k in range(len(noisy))]
        return distil(latents, torch.stack(guessed) - noise) / latents[:, :, 0, 0, 0].numel() / VIDEO_WEIGHT

    @torch.no_grad()
    def _guided_noise(self, noisy: Tensor, time: int, shot: Shot, group: int, generator: torch.Generator) -> Tensor:
        """The noise that the network sees in one group ``[4, C, h, w]``."""
        condition = self.conditions[int(shot.frames[group])]
        extra = condition.extra_frame(self.unet, generator)
        turn, elevation = float(shot.azimuths[group, 0]), float(shot.elevations[group, 0])
        cameras = camera_numbers(elevation, turn=turn, extra_frames=1)
        # The network's view k is this project's view at azimuth 90 (k - 1).
        own = noisy[[VIEW_ORDER.index(k) for k in range(NUM_VIEWS)]][None]
        when = torch.tensor(time, device=noisy.device)
        guided = guided_noise(
            self.unet, own, when, condition.context(self.unet), extra, cameras, GUIDANCE["imagedream"]
        )
        return guided[0, list(VIEW_ORDER)]
