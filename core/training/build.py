"""Build the parts of a training run from options: network, loaders, optimiser, schedule."""

from __future__ import annotations

import gc
import importlib.util
import signal
from collections.abc import Sequence
from datetime import timedelta

import torch
from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from accelerate.utils import DistributedType, InitProcessGroupKwargs
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from core.architectures import build_model
from core.checkpoint import learns_time
from core.data.batch import ClipBatch
from core.data.dataset import ClipDataset
from core.errors import UserError
from core.model import FastL4GM
from core.options import Options, TrainOptions
from core.training.order import SampleStream

_LONGEST_WAIT = timedelta(
    hours=1
)  # processes wait for the first one, whose compilation may take longer than the default
_LONGEST_WARMUP = 0.3  # of the run; published warm-ups of 3,000 steps refuse shorter runs


def make_accelerator(options: Options) -> Accelerator:
    """The Accelerator: devices, processes, precision, gradient accumulation; --mixed_precision overrides the launch
    config.

    Several processes on a machine without accelerators are joined with gloo.

    Raises:
        UserError: the tracker is unknown or not installed, fp16 is requested without a GPU, or Accelerate does not
            assign the requested device.
    """
    train, device = options.train, options.run.device
    has_device = torch.accelerator.is_available() and device != "cpu"
    if device not in ("auto", "cpu") and not (has_device and ":" not in device):
        raise UserError(
            f"--device {device}: which GPUs train is chosen by CUDA_VISIBLE_DEVICES and the configuration of "
            f"accelerate launch, and torch sees {torch.accelerator.device_count()}; use --device auto or cpu"
        )
    if train.mixed_precision == "fp16" and not has_device:
        raise UserError("--mixed_precision fp16 needs a GPU: on a CPU it has no effect; use bf16 or no")
    return Accelerator(
        cpu=not has_device,
        mixed_precision=train.mixed_precision,
        log_with=tracker_name(train.tracker),
        project_dir=options.run.workspace,
        gradient_accumulation_steps=train.gradient_accumulation_steps,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=_LONGEST_WAIT)],
    )


def tracker_name(option: str) -> str | None:
    """Accelerate's name of the tracker, None for no tracker.

    Raises:
        UserError: Accelerate does not know it, or its package is not installed.
    """
    if option == "auto":
        return "tensorboard" if importlib.util.find_spec("tensorboard") else None
    if option == "none":
        return None
    known, usable = ([str(name) for name in names] for names in (LOGGER_TYPE_TO_CLASS, get_available_trackers()))
    if option not in known:
        raise UserError(f"--tracker {option} is unknown; choose auto, none or one of {', '.join(known)}")
    if option not in usable:
        raise UserError(f"--tracker {option}: its package is not installed; pip install {option}, or --tracker none")
    return option


def make_model(options: Options) -> FastL4GM:
    """The network with fresh weights, set up for training: compilation, activation checkpointing, frozen parts.

    Raises:
        UserError: everything but temporal attention and motion code is to be frozen, and there is neither.
    """
    model = build_model(options.model).to(memory_format=torch.channels_last)
    if options.train.freeze_backbone:
        if not (options.model.use_temp_attn or options.model.motion_code):
            raise UserError("--freeze_backbone trains the temporal attention only, and --no-use_temp_attn leaves none")
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(learns_time(name))
    if options.train.activation_checkpointing:
        model.unet.recompute_activations()
    if options.train.compile:
        model.unet.compile()
    return model


def make_dataset(options: Options, split: str) -> ClipDataset:
    """The clips of a split; test: first clip of each group, first frames, fixed views.

    Raises:
        UserError: the list or its clips are missing.
    """
    return ClipDataset(
        options.data,
        options.camera,
        options.side_views,
        input_size=options.model.input_size,
        split=split,
        batch_size=options.train.batch_size,
        seed=options.run.seed,
    )


def make_loader(options: Options, dataset: ClipDataset, first: int, last: int) -> DataLoader:
    """One pass over batches ``first`` to ``last`` - 1 of the run, counted over all processes (`SampleStream`)."""
    workers, seed = options.data.num_workers, options.run.seed
    return DataLoader(
        dataset,
        batch_sampler=SampleStream(len(dataset), options.train.batch_size, seed, first, last),
        num_workers=workers,
        collate_fn=ClipBatch.collate,
        pin_memory=torch.accelerator.is_available(),
        worker_init_fn=prepare_worker,
        generator=torch.Generator().manual_seed(seed),
    )


def prepare_worker(worker: int) -> None:
    """``worker_init_fn`` of a `DataLoader`: leave SIGTERM and all inherited objects to the main process.

    Job systems signal all processes; a loader that ended first would stop the run before it is saved. A garbage
    collection that ends an inherited loader raises inside its destructor, and Python before 3.11.8 then fails in
    whatever it is compiling, such as the header of an array file (python/cpython#106905).
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    gc.freeze()


def parameter_groups(model: FastL4GM, options: TrainOptions) -> dict[str, dict]:
    """Trainable parameters by the name of their learning rate in the log: ``lr`` those of LGM, ``lr_temporal`` temporal
    attention and the motion code."""
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    temporal = [parameter for name, parameter in named if learns_time(name)]
    others = [parameter for name, parameter in named if not learns_time(name)]
    groups = {
        "lr": {"params": others, "lr": options.lr},
        "lr_temporal": {"params": temporal, "lr": options.lr * options.temporal_lr_factor},
    }
    return {name: group for name, group in groups.items() if group["params"]}


def make_optimizer(groups: dict[str, dict]) -> Optimizer:
    """AdamW as published: betas (0.9, 0.95), weight decay 0.05 on all parameters.

    The one-cycle schedule moves the first beta between 0.85 and 0.95, as published.
    """
    return AdamW(list(groups.values()), betas=(0.9, 0.95), weight_decay=0.05)


def make_schedule(
    optimizer: Optimizer,
    peaks: Sequence[float],
    options: TrainOptions,
    total_steps: int,
    step: int = 0,
    processes: int = 1,
) -> OneCycleLR:
    """One cycle with cosine arms as published, stepped once per optimiser step whatever the number of processes.

    Published: Accelerate steps the schedule once per process, so the peak is at optimiser step 3,000 / processes.
    With ``options.share_warmup`` the peak is there as well.

    The schedule is a function of the step and of the current options and is never saved: a resumed run uses the
    current --lr.

    Args:
        optimizer: fresh, or with a loaded state.
        peaks: peak learning rate of each parameter group.
        options: its warm-up.
        total_steps: length of the run.
        step: steps done.
        processes: of the run.
    """
    warmup_steps = options.warmup_steps / (processes if options.share_warmup else 1)
    # The run ends one step before the cycle does, so that the last rate is above zero.
    warmup = min(warmup_steps / total_steps, _LONGEST_WARMUP)
    schedule = OneCycleLR(optimizer, max_lr=list(peaks), total_steps=total_steps + 1, pct_start=warmup)
    if step:
        schedule.load_state_dict({"last_epoch": step - 1, "_step_count": step + 1})
        schedule.step()
    return schedule


def make_average(model: FastL4GM, accelerator: Accelerator, decay: float) -> AveragedModel | None:
    """The exponential moving average of the weights, on the accelerator's device; None where the decay is 0.

    Raises:
        UserError: the weights are sharded over processes.
    """
    if decay == 0:
        return None
    if accelerator.distributed_type == DistributedType.FSDP:
        raise UserError("--ema_decay needs whole weights on every process, FSDP shards them; use acc_configs/gpu8.yaml")
    return AveragedModel(model, accelerator.device, multi_avg_fn=get_ema_multi_avg_fn(decay))
