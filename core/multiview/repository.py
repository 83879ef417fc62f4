"""The published multi-view pipelines as folders: checked, and loaded part by part. Code in them is never run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from core.errors import UserError, reason
from core.files import parse_table, read_text
from core.multiview.hub import PUBLISHED, Kind, fetch_command, find_or_fetch
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
# Names without and with a suffix of the two libraries that wrote them.
_DIFFUSERS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
_TRANSFORMERS = ("model.safetensors", "pytorch_model.bin")


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
class Repository:
    """A folder in the published layout. Every method reads one part anew.

    Attributes:
        folder: where it is.
        kind: ``imagedream`` from a picture, ``mvdream`` from a text.
    """

    folder: Path
    kind: Kind

    def check(self) -> None:
        """Check that all files exist, JSON is readable, weight files are complete and the kind is right. Raises
        `UserError`."""
        texts = _TEXT_FILES + (_IMAGE_FILES if self.kind == "imagedream" else ())
        if (self.folder / _TEXT_FILES[0]).is_file():
            self._check_kind()
        missing = [name for name in texts if not (self.folder / name).is_file()]
        weights = [self._weights(part) for part in self.parts]
        missing += [str(path.relative_to(self.folder)) for path in weights if not path.is_file()]
        if missing:
            raise self._error(f"is incomplete: {', '.join(missing)} missing")
        for name in texts:
            if name.endswith(".json"):
                self._json(name)
        for path in weights:
            if path.suffix == ".safetensors":
                try:
                    with safe_open(path, framework="pt"):
                        pass
                except (SafetensorError, OSError) as error:
                    raise self._error(f"has a truncated or damaged file, {path.relative_to(self.folder)}") from error

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

        return self._pretrained("vae", AutoencoderKL, device, torch_dtype=dtype)

    def text_encoder(self, device: torch.device, dtype: torch.dtype) -> Any:
        """Transformers' CLIPTextModel."""
        from transformers import CLIPTextModel

        return self._pretrained("text_encoder", CLIPTextModel, device, dtype=dtype)

    def image_encoder(self, device: torch.device, dtype: torch.dtype) -> Any:
        """Transformers' CLIPVisionModel."""
        from transformers import CLIPVisionModel

        return self._pretrained("image_encoder", CLIPVisionModel, device, dtype=dtype)

    def tokenizer(self) -> Any:
        """Transformers' CLIPTokenizer."""
        from transformers import CLIPTokenizer

        return self._load("tokenizer", CLIPTokenizer)

    def feature_extractor(self) -> Any:
        """Transformers' CLIPImageProcessor in its form that needs no torchvision."""
        from transformers import CLIPImageProcessorPil

        return self._load("feature_extractor", CLIPImageProcessorPil)

    def scheduler(self) -> Any:
        """Diffusers' DDIMScheduler."""
        from diffusers import DDIMScheduler

        return self._load("scheduler", DDIMScheduler)

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

    def _weights(self, part: str) -> Path:
        names = _TRANSFORMERS if part.endswith("encoder") else _DIFFUSERS
        paths = [self.folder / part / name for name in names]
        return next((path for path in paths if path.is_file()), paths[0])

    def _json(self, name: str) -> Mapping[str, object]:
        try:
            return parse_table(read_text(self.folder / name))
        except (UserError, ValueError) as error:
            raise self._error(f"has a damaged file, {name} ({error})") from error

    def _pretrained(self, part: str, cls: Any, device: torch.device, **kwargs: object) -> nn.Module:
        module, report = self._load(part, cls, output_loading_info=True, **kwargs)
        problems = [f"missing {name}" for name in sorted(report["missing_keys"])]
        self._refuse(part, problems + [f"unexpected {name}" for name in sorted(report["unexpected_keys"])])
        return module.requires_grad_(False).eval().to(device)

    def _load(self, part: str, cls: Any, **kwargs: object) -> Any:
        with _quiet_libraries():
            try:
                return cls.from_pretrained(self.folder / part, local_files_only=True, **kwargs)
            except (OSError, ValueError, RuntimeError, KeyError, TypeError, EOFError) as error:
                reason = str(error).strip().partition("\n")[0]
                raise self._error(f"has a part that does not load, {part} ({reason})") from error

    def _refuse(self, part: str, problems: list[str]) -> None:
        if problems:
            rest = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
            raise self._error(f"does not hold the weights of {self.kind} in {part}: {', '.join(problems[:3])}{rest}")

    def _error(self, what: str) -> UserError:
        return UserError(f"the pipeline {self.folder} {what}; fetch it with: {fetch_command(PUBLISHED[self.kind])}")


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Silence progress bars and reports on stderr: problems are raised as errors here."""
    from transformers.utils import logging as transformers_logging

    verbosity: Callable[[], int] = transformers_logging.get_verbosity
    before, bar = verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)
        if bar:
            transformers_logging.enable_progress_bar()
