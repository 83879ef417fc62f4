"""The published multi-view pipelines as folders: checked, and loaded part by part. Code in them is never run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from core.errors import reason
from core.multiview.folder import PipelineFolder
from core.multiview.hub import Kind, find_or_fetch
from core.multiview.unet import MultiViewUNet, UNetConfig
from core.tensor_files import read_tensors

_TEXT_FILES = (
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "tokenizer/vocab.json",
    "tokenizer/merges.txt",
    "scheduler/scheduler_config.json",
)
_IMAGE_FILES = ("image_encoder/config.json", "feature_extractor/preprocessor_config.json")


def open_repository(name: str, kind: Kind, download: bool = True) -> Repository:
    """Find a pipeline or download it from the hub, and check that its files are complete.

    Args:
        name: a folder, or a hub repository ``owner/name``.
        kind: the expected pipeline.
        download: fetch it from the hub where it is not here.

    Raises:
        UserError: diffusers or transformers is not installed; the pipeline is not here and cannot be fetched; a file
            is missing, truncated or unreadable; it is a pipeline of the other kind.
    """
    repository = Repository(find_or_fetch(name, kind, download), kind)
    repository.check()
    return repository


@dataclass(frozen=True)
class Repository(PipelineFolder):
    """A folder in the published layout. Every method reads one part anew.

    Attributes:
        folder: where it is.
        kind: ``imagedream`` from a picture, ``mvdream`` from a text.
    """

    kind: Kind

    def check(self) -> None:
        """Check that all files exist, JSON is readable, weight files are complete and the kind is right. Raises
        `UserError`."""
        texts = _TEXT_FILES + (_IMAGE_FILES if self.kind == "imagedream" else ())
        if (self.folder / _TEXT_FILES[0]).is_file():
            self._check_kind()
        self._check_files(texts, self.parts)

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that have weights."""
        return ("unet", "vae", "text_encoder", *(("image_encoder",) if self.kind == "imagedream" else ()))

    def unet(self, device: torch.device, dtype: torch.dtype) -> MultiViewUNet:
        """The U-Net; every tensor must be there, fit and be finite. Raises `UserError`."""
        try:
            with torch.device("meta"):
                unet = MultiViewUNet(self.unet_config)
        except (RuntimeError, ValueError) as error:
            raise self._error(f"has a unet/config.json of no network that can be built ({reason(error)})") from error
        state, _ = read_tensors(self._weights("unet"))
        own = unet.state_dict()
        problems = [f"missing {name}" for name in sorted(own.keys() - state.keys())]
        problems += [f"unexpected {name}" for name in sorted(state.keys() - own.keys())]
        problems += [
            f"{name} is {tuple(state[name].shape)} in the file and {tuple(own[name].shape)} by its configuration"
            for name in sorted(own.keys() & state.keys())
            if own[name].shape != state[name].shape
        ]
        self._refuse("unet", problems)
        for name in own:  # one by one, so that file and module are not in memory whole at the same time
            value: Tensor = state.pop(name)
            if not bool(torch.isfinite(value).all()):
                raise self._error(f"holds NaN or infinity in the tensor {name} of unet")
            own[name] = value.to(device, dtype)
        unet.load_state_dict(own, assign=True)
        return unet.requires_grad_(False).eval().to(memory_format=torch.channels_last)

    def vae(self, device: torch.device, dtype: torch.dtype) -> Any:
        """Images to latents and back: diffusers' AutoencoderKL."""
        from diffusers import AutoencoderKL

        return self._pretrained("vae", AutoencoderKL, device, dtype)

    def text_encoder(self, device: torch.device, dtype: torch.dtype) -> Any:
        """Transformers' CLIPTextModel."""
        from transformers import CLIPTextModel

        return self._pretrained("text_encoder", CLIPTextModel, device, dtype)

    def image_encoder(self, device: torch.device, dtype: torch.dtype) -> Any:
        """Transformers' CLIPVisionModel."""
        from transformers import CLIPVisionModel

        return self._pretrained("image_encoder", CLIPVisionModel, device, dtype)

    def tokenizer(self) -> Any:
        """Transformers' CLIPTokenizer."""
        from transformers import CLIPTokenizer

        return self._load("tokenizer", CLIPTokenizer)

    @property
    def unet_config(self) -> UNetConfig:
        """Sizes of the U-Net."""
        try:
            return UNetConfig.from_json(self._json("unet/config.json"))
        except ValueError as error:
            raise self._error(f"has a damaged file, unet/config.json ({error})") from error

    def _check_kind(self) -> None:
        found: Kind = "imagedream" if self.unet_config.ip_dim else "mvdream"
        if found != self.kind:
            wants = {"imagedream": "a picture", "mvdream": "a text"}
            raise self._error(f"is the other model: it makes views from {wants[found]}, not from {wants[self.kind]}")
