"""Options of a training run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from core.options.checks import at_least


@dataclass(frozen=True)
class TrainOptions:
    """Optimisation, logging and checkpoints."""

    workspace: str = "./workspace"
    """Folder for everything a program writes."""
    resume: str | None = None
    """Checkpoint to start from (.safetensors)."""
    batch_size: int = 8
    """Samples per process and step."""
    gradient_accumulation_steps: int = 1
    """Batches per optimiser step."""
    num_epochs: int = 30
    """Passes over the list's groups; 0 only validates."""
    max_steps: int = 0
    """Length of the run in optimiser steps instead of epochs; 0: num_epochs counts."""
    lambda_lpips: float = 1.0
    """Weight of LPIPS; 0 switches it off and needs no VGG weights."""
    lambda_hull: float = 0.0
    """Weight of the distance between Gaussians and the front of the visual hull; not published, finds depths early."""
    lpips_views: int = 0
    """Views of each sample, drawn at random, that LPIPS looks at: it is costly on a CPU. 0: all, as published."""
    gradient_clip: float = 1.0
    """Largest gradient norm."""
    mixed_precision: Literal["no", "fp16", "bf16"] = "bf16"
    """Autocast type."""
    lr: float = 4e-4
    """Peak learning rate."""
    warmup_steps: int = 3000
    """Optimiser steps to the peak; at most 30 % of the run."""
    ema_decay: float = 0.0
    """Decay of the averaged weights that are evaluated and kept; 0: off."""
    seed: int = 0
    """Seed of weights, data order and augmentation."""
    log_every: int = 10
    """Steps between lines of the log."""
    preview_every: int = 500
    """Steps between preview videos."""
    save_every: int = 500
    """Steps between saved states of the run."""
    eval_every: int = 1000
    """Steps between validations."""

    def __post_init__(self) -> None:
        at_least(self, 1, "batch_size", "gradient_accumulation_steps", "log_every")
        at_least(self, 0, "num_epochs", "max_steps", "lr", "warmup_steps", "ema_decay", "save_every", "eval_every")
        at_least(self, 0, "lambda_lpips", "lambda_hull", "lpips_views", "gradient_clip", "preview_every")
