"""From options to the parts of a training run: loaders, optimiser, schedule."""

from __future__ import annotations

import importlib.util

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from torch.utils.data import DataLoader

from core.data.batch import ClipBatch
from core.data.dataset import ClipDataset
from core.errors import UserError
from core.model import L4GM
from core.options import Options, TrainOptions

_LONGEST_WARMUP = 0.3  # of the run; published warm-ups of 3,000 steps refuse shorter runs


def make_accelerator(options: TrainOptions) -> Accelerator:
    """The engine: devices, processes, precision, gradient accumulation; the option beats the launch config's precision.

    Several processes on a machine without accelerators are joined with gloo. Numbers go to TensorBoard where it is
    installed, in ``<workspace>/tensorboard``.
    """
    return Accelerator(
        cpu=not torch.accelerator.is_available(),
        mixed_precision=options.mixed_precision,
        log_with="tensorboard" if importlib.util.find_spec("tensorboard") else None,
        project_dir=options.workspace,
        gradient_accumulation_steps=options.gradient_accumulation_steps,
        dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True, even_batches=True),
    )


def make_train_loader(options: Options) -> DataLoader:
    """Shuffled training batches; the order depends on seed and epoch alone.

    Raises:
        UserError: the list or its clips are missing, or there are fewer groups than one batch needs.
    """
    dataset = ClipDataset(
        options.data,
        options.camera,
        input_size=options.model.input_size,
        split="train",
        batch_size=options.train.batch_size,
        seed=options.train.seed,
    )
    if len(dataset) < options.train.batch_size:
        raise UserError(
            f"datalist {options.data.datalist} leaves {len(dataset)} groups for training, "
            f"fewer than batch_size {options.train.batch_size}; lower --batch_size or add clips"
        )
    workers = options.data.num_workers
    return DataLoader(
        dataset,
        batch_size=options.train.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=ClipBatch.collate,
        generator=torch.Generator().manual_seed(options.train.seed),
    )


def make_test_dataset(options: Options) -> ClipDataset:
    """The validation clips: first clip of each group, first frames, fixed views."""
    return ClipDataset(
        options.data,
        options.camera,
        input_size=options.model.input_size,
        split="test",
        batch_size=options.train.batch_size,
        seed=options.train.seed,
    )


def make_optimizer(model: L4GM, options: TrainOptions) -> Optimizer:
    """AdamW as published: betas (0.9, 0.95), weight decay 0.05 on everything.

    The one-cycle schedule moves the first beta between 0.85 and 0.95, as published.
    """
    return AdamW(model.parameters(), lr=options.lr, betas=(0.9, 0.95), weight_decay=0.05)


def make_schedule(optimizer: Optimizer, options: TrainOptions, total_steps: int) -> LRScheduler:
    """One cycle with cosine arms as published, stepped once per optimiser step whatever the number of processes."""
    # The last step stands one before the end of the cycle, where the rate is still above zero.
    warmup = min(options.warmup_steps / total_steps, _LONGEST_WARMUP)
    return OneCycleLR(optimizer, max_lr=options.lr, total_steps=total_steps + 1, pct_start=warmup)
