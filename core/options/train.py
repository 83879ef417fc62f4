"""Options of a training run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from core.errors import UserError
from core.options.checks import within


@dataclass(frozen=True)
class TrainOptions:
    """Optimisation, logging and checkpoints."""

    batch_size: int = 8
    """Samples per process and step."""
    gradient_accumulation_steps: int = 1
    """Batches per optimiser step."""
    num_epochs: int = 30
    """Passes over the list's groups; 0 only validates."""
    max_steps: int = 0
    """Length of the run in optimiser steps; 0: num_epochs counts."""
    lambda_lpips: float = 1.0
    """Weight of LPIPS; 0 switches it off and needs no VGG weights."""
    lambda_hull: float = 0.0
    """Weight of the distance between Gaussians and the front of the visual hull; not published."""
    lambda_blur: float = 0.0
    """Weight of the error of blurred images, which finds what moved far; not published."""
    lpips_views: int = 0
    """Views of a sample, drawn at random, that LPIPS looks at; 0: all, as published."""
    gradient_clip: float = 1.0
    """Largest gradient norm."""
    mixed_precision: Literal["no", "fp16", "bf16"] = "bf16"
    """Autocast type; fp16 needs a GPU."""
    lr: float = 4e-4
    """Peak learning rate."""
    temporal_lr_factor: float = 1.0
    """Learning rate of temporal attention and motion code as a multiple of lr."""
    freeze_backbone: bool = False
    """Train temporal attention and motion code only."""
    warmup_steps: int = 3000
    """Optimiser steps to the peak; at most 30 % of the run."""
    share_warmup: bool = True
    """Divide warmup_steps by the number of processes, as the published trainer does in effect."""
    ema_decay: float = 0.0
    """Decay of the averaged weights that are evaluated and saved; 0: off."""
    activation_checkpointing: bool = False
    """Compute activations again in the backward pass: less memory, more time."""
    compile: bool = False
    """Compile the U-Net with torch.compile; the first steps take minutes."""
    tracker: str = "auto"
    """A tracker of Accelerate (tensorboard, wandb, ...) or none; auto: TensorBoard if installed."""
    log_every: int = 10
    """Steps between lines of the log."""
    preview_every: int = 500
    """Steps between preview videos; 0: none."""
    save_every: int = 500
    """Steps between saved states; 0: at the end only."""
    keep_states: int = 2
    """Newest saved states that are kept."""
    eval_every: int = 1000
    """Steps between validations; 0: at the end only."""
    eval_lpips: bool = True
    """Validate with LPIPS too, where its weights are installed."""

    def __post_init__(self) -> None:
        within(self, 1, 65536, "batch_size", "gradient_accumulation_steps", "keep_states")
        within(self, 0, 10**9, "num_epochs", "max_steps", "warmup_steps", "save_every", "eval_every", "preview_every")
        within(self, 1, 10**9, "log_every")
        within(self, 0, 10**6, "lambda_lpips", "lambda_hull", "lambda_blur", "gradient_clip")
        within(self, 0, 1024, "lpips_views")
        within(self, 0, 10, "lr")
        within(self, 0, 1000, "temporal_lr_factor")
        within(self, 0, 1, "ema_decay")
        if self.ema_decay == 1:
            raise UserError(f"--ema_decay is {self.ema_decay} and must be below 1: at 1 the average never moves")
