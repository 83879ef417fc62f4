"""Score distillation with Zero123: the view of one picture from another camera.

render -> VAE -> latents + noise ──────────┐
picture -> VAE -> latents ─────────────────┴─> U-Net -> noise
picture -> CLIP ─┬─> projection -> one token ──┘
camera, 4 numbers ┘
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from core.guidance.base import VIDEO_WEIGHT, Shot, blend, distil, encode, noise_like, random_shot, timestep
from core.images import resize_area, to_uint8
from core.multiview.folder import PipelineFolder
from core.tensor_files import read_tensors

SCALE = 5.0  # weight of the condition, published
_PARTS = ("unet", "vae", "image_encoder", "clip_camera_projection")
CAMERA_NUMBERS = 4


@dataclass(frozen=True)
class Zero123Folder(PipelineFolder):
    """Zero123 in the layout of diffusers, with its camera projection."""

    @classmethod
    def open(cls, name: str, download: bool = True) -> Zero123Folder:
        """Find it or download it, and check its files. Raises `UserError`."""
        return cls._open(name, "zero123", _PARTS, download)

    def load(self, part: str, device: torch.device, dtype: torch.dtype) -> Any:
        """``unet``, ``vae`` or ``image_encoder``, frozen. Raises `UserError`."""
        from diffusers import AutoencoderKL, UNet2DConditionModel
        from transformers import CLIPVisionModelWithProjection

        classes = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "image_encoder": CLIPVisionModelWithProjection}
        return self._pretrained(part, classes[part], device, dtype)

    def projection(self, device: torch.device) -> nn.Linear:
        """CLIP embedding and camera to a token, float32. Raises `UserError`."""
        part = "clip_camera_projection"
        state, _ = read_tensors(self._weights(part))
        state = {name.removeprefix("proj."): value.float() for name, value in state.items()}
        if state.keys() != {"weight", "bias"} or state["weight"].dim() != 2:
            self._refuse(part, ["missing proj.weight or proj.bias"])
        width, width_in = state["weight"].shape
        if (width_in, state["bias"].shape) != (width + CAMERA_NUMBERS, (width,)):
            self._refuse(part, [f"proj.weight is {(width, width_in)}"])
        linear = nn.Linear(width_in, width)
        linear.load_state_dict(state)
        return linear.requires_grad_(False).to(device)


class Zero123:
    """Guidance by Zero123. The image encoder is in memory only while this is made.

    Args:
        folder: of the network.
        name: under which it was asked for; that of Stable Zero123 holds the word stable, and its fourth camera number
            is the elevation of the picture, where that of Zero123-XL is the change of the radius.
        pictures: the video ``[T, 3, S, S]`` on white, seen from azimuth 0.
        views: renders a step.
        device, dtype: of the networks.
    """

    def __init__(
        self, folder: Zero123Folder, name: str, pictures: Tensor, views: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.views, self.stable = views, "stable" in Path(name).name
        self.embeddings = _embeddings(folder, pictures, device, dtype)
        self.projection = folder.projection(device)
        self.alphas = folder.scheduler().alphas_cumprod
        self.unet, self.vae = (folder.load(part, device, dtype) for part in ("unet", "vae"))
        self.vae.decoder = None
        self.size = self.unet.config.sample_size * 2 ** (len(self.vae.config.block_out_channels) - 1)
        shown = [2 * resize_area(picture, (self.size, self.size))[None] - 1 for picture in pictures]
        with torch.no_grad():
            self.pictures = torch.cat([self.vae.encode(one.to(device, dtype)).latent_dist.mode() for one in shown])

    def shot(self, generator: torch.Generator) -> Shot:
        """Random frames from random directions."""
        return random_shot(len(self.pictures), self.views, self.size, generator)

    def loss(self, renders: Tensor, shot: Shot, done: float, generator: torch.Generator) -> Tensor:
        """Score distillation, mean over the renders."""
        latents = encode(self.vae, renders.flatten(0, 1), generator)
        noise, time = noise_like(latents, generator), timestep(done)
        alpha = float(self.alphas[time])
        guessed = self._guided_noise(blend(latents, noise, alpha), time, shot)
        return distil(latents, (1 - alpha) * (guessed - noise)) / len(latents) / VIDEO_WEIGHT

    @torch.no_grad()
    def _guided_noise(self, noisy: Tensor, time: int, shot: Shot) -> Tensor:
        """The noise that the network sees in ``[B, C, h, w]``."""
        frames = shot.frames.repeat_interleave(shot.azimuths.shape[1]).to(noisy.device)
        numbers = self.camera_numbers(shot).to(noisy)
        tokens = self.projection(torch.cat([self.embeddings[frames], numbers], dim=1))[:, None]
        pictures = self.pictures[frames].to(noisy)
        tokens, pictures = (torch.cat([torch.zeros_like(x), x]) for x in (tokens, pictures))
        batch = torch.cat([noisy.repeat(2, 1, 1, 1), pictures], dim=1).to(self.unet.dtype)
        free, told = self.unet(batch, time, tokens.to(self.unet.dtype)).sample.float().chunk(2)
        return free + SCALE * (told - free)

    def camera_numbers(self, shot: Shot) -> Tensor:
        """``[T * V, 4]``: change of the angle from the zenith, sine and cosine of the azimuth, and the fourth one.

        Published elevations are positive below the horizon, so the first is minus the elevation.
        """
        azimuths = shot.azimuths.flatten().deg2rad()
        fourth = torch.full_like(azimuths, math.pi / 2 if self.stable else 0.0)
        return torch.stack([-shot.elevations.flatten().deg2rad(), azimuths.sin(), azimuths.cos(), fourth], dim=1)


@torch.no_grad()
def _embeddings(folder: Zero123Folder, pictures: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """CLIP embeddings ``[T, C]`` float32."""
    encoder, extractor = folder.load("image_encoder", device, dtype), folder.feature_extractor()
    shown = [Image.fromarray(to_uint8(picture)) for picture in pictures]
    pixels = [extractor(picture, return_tensors="pt").pixel_values.to(device, dtype) for picture in shown]
    return torch.cat([encoder(one).image_embeds.float() for one in pixels])
