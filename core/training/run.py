"""The training loop.

clips -> batch -> model -> Gaussians -> renderer -> losses -> step, with a log line, previews, validation and saved
states along the way. The run's files are listed in `docs/training.md`.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import Accelerator, skip_first_batches
from accelerate.utils import set_seed
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from core.checkpoint import load_weights, save_weights
from core.data.batch import BrokenLedger, ClipBatch
from core.errors import UserError
from core.files import atomic_path
from core.gaussians import Gaussians
from core.losses import LossWeights, hull_depth_error, psnr, training_loss
from core.lpips import load_lpips
from core.model import L4GM
from core.options import Options
from core.rendering import RenderOutput, make_renderer
from core.training.build import make_accelerator, make_optimizer, make_schedule, make_test_dataset, make_train_loader
from core.training.evaluate import Validation, evaluate
from core.training.preview import save_preview
from core.training.state import JsonLog, Progress, save_run, saved_states

logger = logging.getLogger(__name__)

_MOST_SKIPPED_IN_A_ROW = 20


class Training:
    """One run: the composition of its parts, and the loop over them."""

    def __init__(self, options: Options) -> None:
        """
        Raises:
            UserError: bad options, missing data or checkpoints.
        """
        self.options = options
        self.workspace = Path(options.train.workspace)
        self.accelerator: Accelerator = make_accelerator(options.train)
        set_seed(options.train.seed)
        model = L4GM(options.model).to(memory_format=torch.channels_last)
        validate_only = options.train.num_epochs == 0
        if validate_only and options.train.resume is None:
            raise UserError("--num_epochs 0 only validates: give the checkpoint with --resume")
        states = [] if validate_only else saved_states(self.workspace)
        if states:
            self._check_same_model()
        if options.train.resume is not None and not states:
            logger.info("start: %s", load_weights(model, options.train.resume, fresh_temporal=True))
        self.perceptual = load_lpips(self._lpips_dtype()) if options.train.lambda_lpips else None
        self.renderer = make_renderer(
            options.camera.renderer,
            near=options.camera.znear,
            far=options.camera.zfar,
            device=self.accelerator.device,
        )
        self.test_dataset = make_test_dataset(options)
        self.progress = Progress()
        self.ledger = BrokenLedger(self.test_dataset.num_clips, options.data.max_broken)
        self.log = JsonLog(self.workspace / "log.jsonl")
        if validate_only:
            self.model = self.accelerator.prepare(model)
            self.average = None
            return
        loader = make_train_loader(options)
        self.ledger = BrokenLedger(loader.dataset.num_clips + self.test_dataset.num_clips, options.data.max_broken)
        optimizer = make_optimizer(model, options.train)
        self.model, self.optimizer, self.loader = self.accelerator.prepare(model, optimizer, loader)
        if not len(self.loader):
            raise UserError(
                f"{len(loader.dataset)} training groups give no batch of {options.train.batch_size} on each of "
                f"{self.accelerator.num_processes} processes; lower --batch_size or add clips"
            )
        self.steps_per_epoch = math.ceil(len(self.loader) / options.train.gradient_accumulation_steps)
        self.total_steps = options.train.max_steps or options.train.num_epochs * self.steps_per_epoch
        self.progress.total_steps = self.total_steps
        self.schedule = make_schedule(optimizer, options.train, self.total_steps)
        self.average = self._make_average()
        kept = [self.schedule, self.progress] + ([self.average] if self.average is not None else [])
        self.accelerator.register_for_checkpointing(*kept)
        if states:
            self.accelerator.load_state(str(states[-1]))
            self._check_same_length()
            logger.info("resume: %s, step %d of %d", states[-1], self.progress.step, self.total_steps)

    def run(self) -> None:
        """Train to the end, or only validate where ``num_epochs`` is 0."""
        if self.options.train.num_epochs == 0:
            self._validate()
            return
        self._write_options()
        self.accelerator.init_trackers("tensorboard")
        bar = tqdm(
            total=self.total_steps,
            initial=self.progress.step,
            unit="step",
            disable=not self.accelerator.is_main_process,
        )
        skipped_in_a_row, started = 0, time.perf_counter()
        sums, summed, waited = {}, 0, 0.0
        for batch, seconds in self._batches():
            waited += seconds
            terms, images = self._step(batch)
            if terms is None:
                skipped_in_a_row += 1
                self._report_skipped(batch, skipped_in_a_row)
            else:
                skipped_in_a_row = 0
                sums = {name: sums.get(name, 0.0) + value.detach() for name, value in terms.items()}
                summed += 1
            self.progress.batch += 1
            if not self.accelerator.sync_gradients:
                continue
            self.progress.step += 1
            bar.update()
            every = self.options.train
            if self.progress.step % every.log_every == 0 and sums:
                elapsed = time.perf_counter() - started
                self._write_log({name: value / summed for name, value in sums.items()}, elapsed, waited, bar)
                sums, summed, waited = {}, 0, 0.0
                started = time.perf_counter()
            if images is not None and self._due(every.preview_every):
                self._preview("train", batch, images)
            if self._due(every.eval_every) or self.progress.step == self.total_steps:
                self._validate()
            if self._due(every.save_every) or self.progress.step == self.total_steps:
                self._save()
            if self.progress.step % every.log_every == 0:
                started = time.perf_counter()  # previews, validation and saving are no part of a step
        bar.close()
        self.accelerator.end_training()

    def _due(self, every: int) -> bool:
        return every > 0 and self.progress.step % every == 0

    def _batches(self) -> Iterator[tuple[ClipBatch, float]]:
        """Batches from where the run stands to its end, each with the seconds spent waiting for it."""
        progress = self.progress
        while progress.step < self.total_steps:
            loader = skip_first_batches(self.loader, progress.batch) if progress.batch else self.loader
            # Accelerate counts epochs anew after a resume.
            self.loader.dataset.set_epoch(progress.epoch)
            loader.set_epoch(progress.epoch)
            clock = time.perf_counter()
            for batch in loader:
                self.ledger.add(batch)
                yield batch, time.perf_counter() - clock
                if progress.step >= self.total_steps:
                    return
                clock = time.perf_counter()
            progress.epoch, progress.batch = progress.epoch + 1, 0

    def _step(self, batch: ClipBatch) -> tuple[dict[str, Tensor] | None, Tensor | None]:
        """Forward, backward and, where gradients are complete, an optimiser step. None: the loss was not finite."""
        with self.accelerator.accumulate(self.model):
            gaussians = self.model(batch.grid)
            render = self.renderer(gaussians, batch.cameras)
            terms = self._loss(gaussians, render, batch)
            self.accelerator.backward(terms["total"])
            finite = self._everywhere(torch.isfinite(terms["total"]))
            if self.accelerator.sync_gradients:
                norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.options.train.gradient_clip)
                finite = finite and self._everywhere(torch.isfinite(norm))
            if finite or self.accelerator.scaler is not None:
                self.optimizer.step()  # with fp16 the scaler itself leaves such steps out, and lowers its scale
            if self.accelerator.sync_gradients:
                self.schedule.step()
                if finite and self.average is not None:
                    self.average.update_parameters(self.accelerator.unwrap_model(self.model))
            self.optimizer.zero_grad()
        return (terms, render.image.detach()) if finite else (None, None)

    def _loss(self, gaussians: Gaussians, render: RenderOutput, batch: ClipBatch) -> dict[str, Tensor]:
        """The terms, their sum ``total``, and the PSNR for the log."""
        views, count = batch.images.shape[2], self.options.train.lpips_views
        generator = torch.Generator().manual_seed(self.options.train.seed + self.progress.step)
        chosen = torch.randperm(views, generator=generator)[:count].to(render.image.device) if count else None
        weights = LossWeights(lpips=self.options.train.lambda_lpips)
        terms = training_loss(render.image, render.alpha, batch.images, batch.masks, weights, self.perceptual, chosen)
        if self.options.train.lambda_hull:
            terms["hull"] = hull_depth_error(gaussians, batch.cameras, batch.masks, batch.grid.shape[2], generator)
            terms["total"] = terms["total"] + self.options.train.lambda_hull * terms["hull"]
        return {**terms, "psnr": psnr(render.image.detach().clamp(0, 1), batch.images).mean()}

    def _lpips_dtype(self) -> torch.dtype:
        return torch.float32 if self.options.train.mixed_precision == "no" else torch.bfloat16

    def _everywhere(self, flag: Tensor) -> bool:
        """Whether the flag is true on every process."""
        return bool(self.accelerator.reduce(flag.float(), "sum") == self.accelerator.num_processes)

    def _report_skipped(self, batch: ClipBatch, in_a_row: int) -> None:
        self.progress.skipped += 1
        logger.warning("step %d skipped: loss or gradient not finite; clips %s", self.progress.step, batch.names)
        if in_a_row >= _MOST_SKIPPED_IN_A_ROW:
            raise UserError(
                f"{in_a_row} steps in a row had no finite loss, the last with clips {', '.join(batch.names)}: "
                f"the run has diverged; go on from an earlier state in {self.workspace / 'state'} with a lower --lr"
            )

    def _write_log(self, means: dict[str, Tensor], elapsed: float, waited: float, bar: tqdm) -> None:
        means = {name: self.accelerator.reduce(value, "mean").item() for name, value in means.items()}
        steps = self.options.train.log_every
        if not self.accelerator.is_main_process:
            return
        bar.set_postfix({"loss": f"{means['total']:.4f}", "wait": f"{waited / elapsed:.0%}"})
        self.log.write(
            kind="train",
            step=self.progress.step,
            epoch=self.progress.epoch,
            lr=self.schedule.get_last_lr()[0],
            seconds_per_step=elapsed / steps,
            data_wait_fraction=waited / elapsed,
            skipped=self.progress.skipped,
            **means,
        )
        self.accelerator.log({f"train/{name}": value for name, value in means.items()}, step=self.progress.step)

    def _validate(self) -> Validation:
        model = self.average.module if self.average is not None else self.model
        result, batch, images = evaluate(model, self.renderer, self.test_dataset, self.accelerator, self.ledger)
        if self.accelerator.is_main_process:
            self.log.write(kind="validation", step=self.progress.step, **asdict(result))
            self.accelerator.log({f"validation/{k}": v for k, v in asdict(result).items()}, step=self.progress.step)
            logger.info("step %d: %s", self.progress.step, json.dumps(asdict(result)))
            self._preview("eval", batch, images)
            if self.options.train.num_epochs > 0 and result.psnr_novel > self.progress.best:
                self._save_model("best.safetensors", result)
        if self.options.train.num_epochs > 0:
            self.progress.best = max(self.progress.best, result.psnr_novel)
        return result

    def _preview(self, kind: str, batch: ClipBatch, images: Tensor) -> None:
        if self.accelerator.is_main_process:
            save_preview(self.workspace, f"{kind}_gt_images_{self.progress.epoch}_{self.progress.step}", batch.images)
            save_preview(self.workspace, f"{kind}_pred_images_{self.progress.epoch}_{self.progress.step}", images)

    def _save(self) -> None:
        save_run(self.accelerator, self.workspace, self.progress)
        if self.accelerator.is_main_process:
            self._save_model("model.safetensors")

    def _save_model(self, name: str, result: Validation | None = None) -> None:
        model = self.average.module if self.average is not None else self.accelerator.unwrap_model(self.model)
        facts = {"step": str(self.progress.step), "options": json.dumps(asdict(self.options))}
        if result is not None:
            facts["validation"] = json.dumps(asdict(result))
        save_weights(model, self.workspace / name, **facts)

    def _make_average(self) -> AveragedModel | None:
        decay = self.options.train.ema_decay
        if decay == 0:
            return None
        model = self.accelerator.unwrap_model(self.model)
        return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))

    def _write_options(self) -> None:
        if self.accelerator.is_main_process:
            with atomic_path(self.workspace / "options.json") as path:
                path.write_text(json.dumps(asdict(self.options), indent=2))

    def _check_same_length(self) -> None:
        """The schedule and the place in the epoch belong to one length and one number of batches."""
        if self.progress.total_steps != self.total_steps:
            raise UserError(
                f"the workspace {self.workspace} holds a run of {self.progress.total_steps} steps, this would be one "
                f"of {self.total_steps}; repeat its options, or start from its model.safetensors in a new --workspace"
            )

    def _check_same_model(self) -> None:
        """A workspace that holds a run goes on with it; that needs the same network."""
        before = json.loads((self.workspace / "options.json").read_text())["model"]
        now = json.loads(json.dumps(asdict(self.options.model)))
        changed = [name for name in now if before.get(name) != now[name] and "size" not in name]
        if changed:
            raise UserError(
                f"the workspace {self.workspace} holds a run of another network ({', '.join(changed)} differ); "
                f"choose another --workspace"
            )
