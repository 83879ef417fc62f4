"""A pipeline of diffusers as a folder: its files checked, its parts loaded one by one. Code in it is never run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from core.errors import UserError
from core.files import parse_table, read_text
from core.multiview.hub import PUBLISHED, Published, fetch_command, find_or_fetch

# Names without and with a suffix of the two libraries that wrote them; those of half the size after the others.
_DIFFUSERS = tuple(f"diffusion_pytorch_model{end}" for end in (".safetensors", ".fp16.safetensors", ".bin"))
_TRANSFORMERS = ("model.safetensors", "model.fp16.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class PipelineFolder:
    """A folder in the published layout. Every method reads one part anew.

    Attributes:
        folder: where it is.
        kind: which published pipeline it should be.
    """

    folder: Path
    kind: Published

    @classmethod
    def _open(cls, name: str, kind: Published, parts: Sequence[str], download: bool) -> Self:
        """Find a pipeline that sees pictures, or download it, and check the files of its parts. Raises `UserError`."""
        folder = cls(find_or_fetch(name, kind, download), kind)
        texts = [f"{part}/config.json" for part in parts]
        others = ["scheduler/scheduler_config.json", "feature_extractor/preprocessor_config.json"]
        folder._check_files([*texts, *others], parts)
        return folder

    def feature_extractor(self) -> Any:
        """Transformers' CLIPImageProcessor in its form that needs no torchvision."""
        from transformers import CLIPImageProcessorPil

        return self._load("feature_extractor", CLIPImageProcessorPil)

    def scheduler(self) -> Any:
        """Diffusers' DDIMScheduler."""
        from diffusers import DDIMScheduler

        return self._load("scheduler", DDIMScheduler)

    def _check_files(self, texts: Sequence[str], parts: Sequence[str]) -> None:
        """All files exist, JSON is readable, weight files are complete. Raises `UserError`."""
        missing = [name for name in texts if not (self.folder / name).is_file()]
        weights = [self._weights(part) for part in parts]
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

    def _weights(self, part: str) -> Path:
        names = _TRANSFORMERS if part.endswith("encoder") else _DIFFUSERS
        paths = [self.folder / part / name for name in names]
        return next((path for path in paths if path.is_file()), paths[0])

    def _json(self, name: str) -> Mapping[str, object]:
        try:
            return parse_table(read_text(self.folder / name))
        except (UserError, ValueError) as error:
            raise self._error(f"has a damaged file, {name} ({error})") from error

    def _pretrained(self, part: str, cls: Any, device: torch.device, dtype: torch.dtype) -> nn.Module:
        """A part with all of its weights, frozen."""
        type_name = "dtype" if part.endswith("encoder") else "torch_dtype"  # transformers, diffusers
        kwargs = {type_name: dtype, "variant": "fp16" if ".fp16." in self._weights(part).name else None}
        module, report = self._load(part, cls, output_loading_info=True, **kwargs)
        problems = [f"missing {name}" for name in sorted(report["missing_keys"])]
        self._refuse(part, problems + [f"unexpected {name}" for name in sorted(report["unexpected_keys"])])
        return module.requires_grad_(False).eval().to(device)

    def _load(self, part: str, cls: Any, **kwargs: object) -> Any:
        with quiet_libraries():
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
def quiet_libraries() -> Iterator[None]:
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
