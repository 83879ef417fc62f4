"""Options of a training run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from core.errors import UserError
from core.options.checks import at_least


@dataclass(frozen=True)
class TrainOptions:
    """Optimisation, logging and checkpoints."""

    workspace: str = "./workspace"
    """Folder for everything a program writes."""
    resume: str | None = None
    """What to start from: a checkpoint (.safetensors), the folder of a saved state, or None for fresh weights. auto:
    go on with the run in the workspace, start fresh where there is none."""
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
    """Autocast type; fp16 needs a GPU."""
    lr: float = 4e-4
    """Peak learning rate."""
    temporal_lr_factor: float = 1.0
    """Learning rate of the temporal attention as a multiple of lr: fresh layers among pretrained ones bear more."""
    freeze_backbone: bool = False
    """Train the temporal attention only."""
    warmup_steps: int = 3000
    """Optimiser steps to the peak; at most 30 % of the run."""
    share_warmup: bool = True
    """Divide warmup_steps by the number of processes, as the published trainer does in effect: its peak is at step 375
    with 8 processes."""
    ema_decay: float = 0.0
    """Decay of the averaged weights that are evaluated and kept; 0: off."""
    activation_checkpointing: bool = False
    """Compute the U-Net's activations again in the backward pass: less memory, more time, the same gradients."""
    compile: bool = False
    """Compile the U-Net with torch.compile; the first steps take minutes."""
    seed: int = 0
    """Seed of weights, data order and augmentation."""
    tracker: str = "auto"
    """Where numbers go beside log.jsonl: any tracker Accelerate knows by name (tensorboard, wandb, ...) or none; auto:
    TensorBoard where it is installed."""
    log_every: int = 10
    """Steps between lines of the log."""
    preview_every: int = 500
    """Steps between preview videos."""
    save_every: int = 500
    """Steps between saved states of the run."""
    keep_states: int = 2
    """Saved states that are kept, the newest ones; the best weights stay in any case."""
    eval_every: int = 1000
    """Steps between validations."""
    eval_lpips: bool = True
    """Validate with LPIPS too, where its weights are installed."""

    def __post_init__(self) -> None:
        at_least(self, 1, "batch_size", "gradient_accumulation_steps", "log_every", "keep_states")
        at_least(self, 0, "num_epochs", "max_steps", "lr", "temporal_lr_factor", "warmup_steps", "gradient_clip")
        at_least(self, 0, "lambda_lpips", "lambda_hull", "lpips_views", "ema_decay")
        at_least(self, 0, "save_every", "eval_every", "preview_every")
        if self.ema_decay >= 1:
            raise UserError(f"--ema_decay is {self.ema_decay} and must be below 1: at 1 the average never moves")
