"""Stable Video Diffusion (SVD), through the pipeline of diffusers: a picture becomes a video; a video is refined; score
distillation.

Its noise is not blended in but added: latents + sigma * noise. One Euler step of the pipeline from sigma to 0 gives the
clean latents that the network sees, which is all that score distillation needs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from core.errors import UserError
from core.guidance.base import VIDEO_WEIGHT, Shot, distil, noise_like, timestep
from core.images import resize_area, to_uint8
from core.multiview.folder import PipelineFolder, quiet_libraries

RATE = 7  # frames a second, of the published network
SIZE = 512  # pixels
WINDOW = 8  # consecutive frames of one step
TURN = 10.0  # degrees of azimuth from one frame to the next
DENOISING, FROM = 25, 17  # steps of denoising; the one that refinement begins with
_PARTS = ("unet", "vae", "image_encoder")


@dataclass(frozen=True)
class Settings:
    """What the network is told beside the picture; the published values.

    Attributes:
        steps: of denoising.
        guidance: weight of the condition in the first and the last frame.
        motion: bucket of motion.
        augmentation: noise that is added to the picture.
        rate: frames a second.
    """

    steps: int = DENOISING
    guidance: tuple[float, float] = (1.0, 3.0)
    motion: int = 127
    augmentation: float = 0.02
    rate: int = RATE


@dataclass(frozen=True)
class SvdFolder(PipelineFolder):
    """SVD in the layout of diffusers."""

    @classmethod
    def open(cls, name: str, download: bool = True) -> SvdFolder:
        """Find it or download it, and check its files. Raises `UserError`."""
        return cls._open(name, "svd", _PARTS, download)

    def pipeline(self, device: torch.device, dtype: torch.dtype) -> Any:
        """Diffusers' StableVideoDiffusionPipeline, frozen, without a progress bar. Raises `UserError`."""
        with quiet_libraries():
            from diffusers import (
                AutoencoderKLTemporalDecoder,
                EulerDiscreteScheduler,
                StableVideoDiffusionPipeline,
                UNetSpatioTemporalConditionModel,
            )
        from transformers import CLIPVisionModelWithProjection

        # The VAE overflows in float16, and its configuration says so.
        vae_dtype = torch.float32 if dtype == torch.float16 else dtype
        pipeline = StableVideoDiffusionPipeline(
            vae=self._pretrained("vae", AutoencoderKLTemporalDecoder, device, vae_dtype),
            image_encoder=self._pretrained("image_encoder", CLIPVisionModelWithProjection, device, dtype),
            unet=self._pretrained("unet", UNetSpatioTemporalConditionModel, device, dtype),
            scheduler=self._load("scheduler", EulerDiscreteScheduler),
            feature_extractor=self.feature_extractor(),
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline


class VideoDiffusion:
    """SVD.

    Args:
        pipeline: `SvdFolder.pipeline`.
        settings: of all calls.
    """

    def __init__(self, pipeline: Any, settings: Settings = Settings()) -> None:
        self.pipeline, self.settings = pipeline, settings

    @torch.no_grad()
    def video(
        self,
        picture: Tensor,
        num_frames: int,
        generator: torch.Generator,
        report: Callable[[int], None] = lambda step: None,
    ) -> Tensor:
        """A video that begins with the picture.

        Args:
            picture: ``[3, H, W]`` in [0, 1], sides divisible by 64.
            num_frames: 14 for the published network.
            generator: draws noise, on the CPU.
            report: called with the number of each step.

        Returns:
            ``[num_frames, 3, H, W]`` in [0, 1] on the CPU.
        """

        def after(_: Any, step: int, time: Tensor, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            report(step)
            return {}

        steps = {"num_inference_steps": self.settings.steps, "callback_on_step_end": after}
        return self._decode(self._latents(picture, num_frames, generator, **steps)).cpu()

    @torch.no_grad()
    def refined(self, video: Tensor, picture: Tensor, generator: torch.Generator) -> Tensor:
        """The video after some of its noise was drawn anew: steps 17 to 24 of 25.

        Args:
            video: ``[T, 3, S, S]`` in [0, 1].
            picture: the condition ``[3, S, S]``.
            generator: draws noise, on the CPU.

        Returns:
            like ``video``.
        """
        sigmas = self.sigmas(DENOISING)[FROM:]
        latents = self.encode(video)
        noisy = latents + sigmas[0] * noise_like(latents, generator)
        return self._decode(self._denoised(noisy, [*sigmas, 0.0], picture, generator))

    @torch.no_grad()
    def clean(self, noisy: Tensor, sigma: float, picture: Tensor, generator: torch.Generator) -> Tensor:
        """The clean latents that the network sees in ``[T, C, h, w]``, with guidance."""
        return self._denoised(noisy, [sigma, 0.0], picture, generator)

    def sigmas(self, steps: int) -> list[float]:
        """Levels of noise of the pipeline's own schedule, falling."""
        self.pipeline.scheduler.set_timesteps(steps)
        return self.pipeline.scheduler.sigmas[:-1].tolist()

    def encode(self, video: Tensor) -> Tensor:
        """Scaled latents ``[T, C, h, w]`` float32, with gradients.

        For them frames are encoded again, one by one: activations of one frame are in memory, and not of all.
        """
        vae = self.pipeline.vae
        shown = (2 * video - 1).to(vae.device, vae.dtype)

        def encode(frame: Tensor) -> Tensor:
            return vae.encode(frame).latent_dist.mode()

        modes = [checkpoint(encode, one[None], use_reentrant=False) for one in shown]
        return torch.cat(modes).float() * vae.config.scaling_factor

    def _denoised(self, noisy: Tensor, sigmas: list[float], picture: Tensor, generator: torch.Generator) -> Tensor:
        """The pipeline from given noisy latents along given levels, of which the last is 0."""
        scheduler = self.pipeline.scheduler
        scheduler.set_timesteps(sigmas=sigmas)  # which sets the factor that the pipeline puts on given latents
        start = (noisy / scheduler.init_noise_sigma)[None].to(self.pipeline.unet.dtype)
        return self._latents(picture, len(noisy), generator, latents=start, sigmas=sigmas)

    def _latents(self, picture: Tensor, num_frames: int, generator: torch.Generator, **how: Any) -> Tensor:
        """Latents ``[T, C, h, w]`` float32 of the pipeline's video."""
        height, width = picture.shape[-2:]
        low, high = self.settings.guidance
        result = self.pipeline(
            Image.fromarray(to_uint8(picture)),
            height=height,
            width=width,
            num_frames=num_frames,
            min_guidance_scale=low,
            max_guidance_scale=high,
            fps=self.settings.rate,
            motion_bucket_id=self.settings.motion,
            noise_aug_strength=self.settings.augmentation,
            generator=generator,
            output_type="latent",
            **how,
        )
        return result.frames[0].float()

    def _decode(self, latents: Tensor) -> Tensor:
        """``[T, 3, S, S]`` in [0, 1], one frame at a time."""
        vae = self.pipeline.vae
        latents = (latents / vae.config.scaling_factor).to(vae.dtype)
        frames = [vae.decode(one[None], num_frames=1).sample for one in latents]
        return (torch.cat(frames).float() / 2 + 0.5).clamp(0, 1)


class _Svd:
    """What both ways of guidance share.

    Args:
        diffusion: the network.
        pictures: the video ``[T, 3, S, S]`` on white; the condition is its first frame.
        size: side of the renders; None: `SIZE`.

    Raises:
        UserError: it is no video but a picture.
    """

    def __init__(self, diffusion: VideoDiffusion, pictures: Tensor, size: int | None = None) -> None:
        if len(pictures) < 2:
            raise UserError("SVD judges videos: of a single picture use --guidance zero123 or imagedream")
        self.diffusion, self.size, self.num_frames = diffusion, size or SIZE, len(pictures)
        self.picture = resize_area(pictures[0], (self.size, self.size)).cpu()

    def shot(self, generator: torch.Generator) -> Shot:
        """Consecutive frames; the camera goes round at the height of the video's from a random start."""
        count = min(WINDOW, self.num_frames)
        first = int(torch.randint(self.num_frames - count + 1, (), generator=generator))
        start = 360 * torch.rand((), generator=generator)
        frames = torch.arange(first, first + count)
        azimuths = (start + TURN * frames)[:, None]
        return Shot(frames, azimuths, torch.zeros_like(azimuths), self.size)


class SvdDistillation(_Svd):
    """Score distillation with SVD."""

    def loss(self, renders: Tensor, shot: Shot, done: float, generator: torch.Generator) -> Tensor:
        """Mean over the frames; w = sigma^2 / (1 + sigma^2), which is 1 - alpha_bar."""
        latents = self.diffusion.encode(renders[:, 0])
        alpha = float(self.diffusion.pipeline.scheduler.alphas_cumprod[timestep(done)])
        sigma = math.sqrt((1 - alpha) / alpha)  # the noise that an image network has at this step
        noisy = latents.detach() + sigma * noise_like(latents, generator)
        clean = self.diffusion.clean(noisy, sigma, self.picture, generator)
        # guessed noise - noise = (noisy - clean) / sigma - noise = (latents - clean) / sigma
        gradient = sigma / (1 + sigma**2) * (latents.detach() - clean)
        return distil(latents, gradient) / len(latents) / VIDEO_WEIGHT


class SvdRefinement(_Svd):
    """Video-to-video refinement: renders come near what SVD makes of them."""

    def loss(self, renders: Tensor, shot: Shot, done: float, generator: torch.Generator) -> Tensor:
        """Mean squared error."""
        refined = self.diffusion.refined(renders[:, 0].detach(), self.picture, generator)
        return (renders[:, 0] - refined.to(renders)).square().mean()
