"""ImageDream and MVDream: a picture, or a text, becomes four views.

    picture -> CLIP image encoder ──> image tokens ─┐
            -> VAE ─> latent of the extra frame ────┤
    text ───-> CLIP text encoder ──-> text tokens ──┴-> U-Net, DDIM steps with guidance -> latents -> VAE -> views

Each stage runs for all seeds before the next begins, so only one part need be in memory at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from core.conventions import NUM_VIEWS
from core.errors import UserError
from core.images import resize_area, to_uint8
from core.multiview.hub import Kind
from core.multiview.poses import VIEW_ORDER, camera_numbers
from core.multiview.repository import Repository

PICTURE_SIZE = 256  # pixels; the size of the published training
GUIDANCE: Mapping[Kind, float] = {"imagedream": 5.0, "mvdream": 7.5}  # published
# What LGM's web page has views of a text avoid.
FLAWS = (
    "ugly, blurry, pixelated obscure, unnatural colors, poor lighting, dull, unclear, cropped, lowres, low quality, "
    "artifacts, duplicate"
)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sampling:
    """Settings of the diffusion sampling.

    Attributes:
        steps: of denoising.
        guidance: weight of the conditional against the unconditional noise; 1 skips the unconditional half.
        negative_prompt: what the views should avoid.
        elevation: of the cameras in degrees, positive above the horizon.
    """

    steps: int = 30
    guidance: float = 5.0
    negative_prompt: str = ""
    elevation: float = 0.0


@dataclass(frozen=True)
class Condition:
    """What the U-Net is told of one object; each first for the unconditional half of the guidance.

    Attributes:
        text: tokens ``[2, 77, C]``.
        features: of the picture ``[2, L, D]``; None without one.
        moments: mean and standard deviation of the picture's latent ``[2, C, h, w]``; None without one.
    """

    text: Tensor
    features: Tensor | None = None
    moments: Tensor | None = None

    def context(self, unet: Any) -> Tensor:
        """Text and image tokens ``[2, L, C]``."""
        text = self.text.to(unet.dtype)
        if self.features is None:
            return text
        return torch.cat([text, unet.image_embed(self.features.to(unet.dtype))], dim=1)

    def extra_frame(self, unet: Any, noise: torch.Generator) -> Tensor:
        """A zero latent for the unconditional half, and a sample of the picture's distribution: ``[2, 1 or 0, C, h,
        w]``."""
        if self.moments is None:
            side = unet.config.image_size
            return torch.zeros(2, 0, unet.config.in_channels, side, side, device=self.text.device)
        mean, std = self.moments.float()
        drawn = mean + std * torch.randn(mean.shape, generator=noise).to(mean)
        return torch.stack([torch.zeros_like(drawn), drawn])[:, None]


def guided_noise(
    unet: Any, latents: Tensor, time: Tensor, context: Tensor, extra: Tensor, cameras: Tensor, guidance: float
) -> Tensor:
    """The noise in the latents of the four views, with guidance.

    Args:
        unet: `MultiViewUNet`.
        latents: ``[1, 4, C, h, w]``.
        time: the timestep, no axes.
        context: tokens ``[2, L, C]``, or ``[1, L, C]`` of the conditional half alone.
        extra: the picture's latent ``[2 or 1, 1 or 0, C, h, w]``, which stays free of noise.
        cameras: ``[F, 16]``, those of the extra frame included.
        guidance: weight of the conditional against the unconditional noise.

    Returns:
        ``[1, 4, C, h, w]`` float32.
    """
    batch = torch.cat([latents.expand(len(context), -1, -1, -1, -1), extra], dim=1)  # both halves form one batch
    cameras = cameras.to(latents).expand(len(context), -1, -1)
    predicted = unet(batch.to(unet.dtype), time.expand(len(batch)), context, cameras)[:, :NUM_VIEWS].float()
    return predicted[:1] + guidance * (predicted[-1:] - predicted[:1])


class MultiViewDiffusion:
    """A diffusion pipeline.

    Args:
        repository: where the parts are read from, when they are first used.
        device, dtype: where it runs, and the type of all parts. A stage whose result is NaN or infinite in a half type
            is run again in float32, and this is logged.
        offload: drop each part after its stage; parts are loaded again when needed.
    """

    def __init__(
        self, repository: Repository, device: torch.device, dtype: torch.dtype, *, offload: bool = False
    ) -> None:
        self.repository = repository
        self.device, self.dtype, self.offload = device, dtype, offload
        self.config = repository.unet_config
        self.tokenizer, self.scheduler = repository.tokenizer(), repository.scheduler()
        self.feature_extractor = repository.feature_extractor() if repository.kind == "imagedream" else None
        self._held: dict[str, Any] = {}
        self._dtypes: dict[str, torch.dtype] = {}  # of parts that overflowed in the half type

    @torch.inference_mode()
    def views(
        self,
        picture: Tensor | None = None,
        prompt: str = "",
        seeds: Sequence[int] = (0,),
        sampling: Sampling = Sampling(),
    ) -> Tensor:
        """Draw four views for every seed.

        Args:
            picture: ``[3, S, S]`` in [0, 1] on white, for ImageDream; None for MVDream.
            prompt: description; may be empty with a picture.
            seeds: a seed's views do not depend on the other seeds.
            sampling: steps and guidance.

        Returns:
            ``[seeds, 4, 3, P, P]`` in [0, 1] on the CPU at azimuth 0, 90, 180, 270 from the picture's view.

        Raises:
            UserError: parts do not load, or the result is not finite in float32 either.
        """
        if (picture is None) != (self.repository.kind == "mvdream"):
            raise ValueError(f"{self.repository.kind} was called {'without' if picture is None else 'with'} a picture")
        pictures = [] if picture is None else [picture]
        (condition,) = self.conditions(pictures, prompt, sampling.negative_prompt)

        def sample_all(unet: Any) -> Tensor:
            return torch.cat([self._sample(unet, condition, seed, sampling) for seed in seeds])

        latents = self._stage("unet", sample_all)
        images = self._stage("vae", lambda vae: self._decode(vae, latents))
        return images[:, list(VIEW_ORDER)].clamp(0, 1).cpu()

    @torch.no_grad()
    def conditions(self, pictures: Sequence[Tensor], prompt: str = "", negative_prompt: str = "") -> list[Condition]:
        """The condition of each of the pictures ``[3, S, S]``; without pictures that of the text alone."""
        text = self._stage("text_encoder", lambda encoder: self._read_texts(encoder, prompt, negative_prompt))
        if not pictures:
            return [Condition(text)]

        def over(look: Callable[[Any, Tensor], Tensor]) -> Callable[[Any], Tensor]:
            return lambda module: torch.stack([look(module, picture) for picture in pictures])

        features = self._stage("image_encoder", over(self._look_at))
        moments = self._stage("vae", over(self._encode))
        return [Condition(text, *each) for each in zip(features, moments, strict=True)]

    def _sample(self, unet: Any, condition: Condition, seed: int, sampling: Sampling) -> Tensor:
        """One seed's latents ``[1, 4, C, h, w]``, float32."""
        noise = torch.Generator().manual_seed(seed)  # on the CPU, so that seeds are reproducible on every device
        latents = torch.randn(1, NUM_VIEWS, *self._latent_size(), generator=noise).to(self.device)
        halves = slice(1, None) if sampling.guidance == 1 else slice(None)
        context, extra = condition.context(unet)[halves], condition.extra_frame(unet, noise)[halves]
        cameras = camera_numbers(sampling.elevation, extra_frames=extra.shape[1])
        self.scheduler.set_timesteps(sampling.steps, device=self.device)
        for time in tqdm(self.scheduler.timesteps, f"seed {seed}", unit="step", disable=None, leave=False):
            guided = guided_noise(unet, latents, time, context, extra, cameras, sampling.guidance)
            latents = self.scheduler.step(guided, time, latents).prev_sample
        return latents

    def _read_texts(self, encoder: Any, prompt: str, negative_prompt: str) -> Tensor:
        """``[2, 77, C]``, the negative prompt first."""
        length = self.tokenizer.model_max_length
        tokens = self.tokenizer(
            [negative_prompt, prompt], padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        return encoder(tokens.input_ids.to(self.device)).last_hidden_state

    def _look_at(self, encoder: Any, picture: Tensor) -> Tensor:
        """Features of the picture, after those of the unconditional half (zeros): ``[2, L, D]``, before the encoder's
        last layer."""
        pixels = self.feature_extractor(Image.fromarray(to_uint8(picture)), return_tensors="pt").pixel_values
        features = encoder(pixels.to(self.device, encoder.dtype), output_hidden_states=True).hidden_states[-2]
        return torch.cat([torch.zeros_like(features), features])

    def _encode(self, vae: Any, picture: Tensor) -> Tensor:
        """Mean and standard deviation of the picture's latent: ``[2, C, h, w]``."""
        side = self.config.image_size * 2 ** (len(vae.config.block_out_channels) - 1)
        pixels = 2 * resize_area(picture, (side, side)) - 1
        moments = vae.encode(pixels[None].to(self.device, vae.dtype)).latent_dist
        return torch.cat([moments.mean, moments.std]) * vae.config.scaling_factor

    def _decode(self, vae: Any, latents: Tensor) -> Tensor:
        flat = rearrange(latents / vae.config.scaling_factor, "s v c h w -> (s v) c h w").to(vae.dtype)
        images = torch.cat([vae.decode(part).sample for part in flat.split(NUM_VIEWS)])
        return rearrange(images.float() / 2 + 0.5, "(s v) c h w -> s v c h w", v=NUM_VIEWS)

    def _latent_size(self) -> tuple[int, int, int]:
        config = self.config
        return config.in_channels, config.image_size, config.image_size

    def _stage(self, part: str, run: Callable[[Any], Tensor]) -> Tensor:
        """Run a stage; if half precision overflows, once more in float32."""
        with self._loaded(part) as module:
            result = run(module)
        if bool(torch.isfinite(result).all()):
            return result
        if self._dtypes.get(part, self.dtype) == torch.float32:
            raise UserError(f"the {part} of {self.repository.folder} gives NaN or infinity: its weights are damaged")
        _log.warning("%s overflowed in %s: once more in float32", part, str(self.dtype).removeprefix("torch."))
        self._held.pop(part, None)
        self._dtypes[part] = torch.float32
        return self._stage(part, run)

    @contextmanager
    def _loaded(self, part: str) -> Iterator[Any]:
        if part not in self._held:
            load = getattr(self.repository, part)
            self._held[part] = load(self.device, self._dtypes.get(part, self.dtype))
        yield self._held[part]
        if self.offload:
            del self._held[part]
            if self.device.type != "cpu":
                torch.cuda.empty_cache()
