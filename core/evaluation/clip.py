"""CLIP similarity: the cosine of the image embeddings of a prediction and the truth."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from core.errors import UserError
from core.images import resize_area

# Statistics of CLIP's training images, with which every published CLIP normalises.
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
AT_ONCE = 16  # images


class ClipImages:
    """CLIP's image tower.

    Args:
        folder: a CLIP model as Hugging Face stores it: config.json and model.safetensors.
        device: where it runs.

    Raises:
        UserError: transformers is not installed, or the folder holds no CLIP model.
    """

    def __init__(self, folder: str | Path, device: torch.device) -> None:
        if not (Path(folder) / "config.json").is_file():
            raise UserError(f"--clip_weights {folder} has no config.json; give the folder of a CLIP model")
        try:
            from transformers import CLIPVisionModelWithProjection
        except ImportError as error:
            raise UserError("CLIP similarity needs transformers: pip install -e '.[eval]'") from error
        try:
            model = CLIPVisionModelWithProjection.from_pretrained(str(folder), local_files_only=True)
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(f"--clip_weights {folder} cannot be read: {str(error).splitlines()[0]}") from error
        self.model, self.device = model.to(device).eval(), device
        self.size = model.config.image_size

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        """Unit embeddings ``[N, D]`` of images ``[N, 3, H, W]`` in [0, 1]."""
        shift, scale = (torch.tensor(values, device=self.device)[:, None, None] for values in (MEAN, STD))
        if images.shape[-1] < self.size:  # the area filter is for making images smaller
            images = F.interpolate(images, (self.size, self.size), mode="bicubic", align_corners=False).clamp(0, 1)
        images = (resize_area(images.to(self.device), (self.size, self.size)) - shift) / scale
        found = [self.model(pixel_values=part).image_embeds for part in images.split(AT_ONCE)]
        return F.normalize(torch.cat(found), dim=-1)

    def similarity(self, images: Tensor, targets: Tensor) -> Tensor:
        """Cosines ``[T, V]`` of ``[T, V, 3, S, S]`` and the truth alike."""
        flat = (rearrange(batch, "t v c h w -> (t v) c h w") for batch in (images, targets))
        own, other = map(self.embed, flat)
        return (own * other).sum(-1).reshape(images.shape[:2]).cpu()
