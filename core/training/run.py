"""The training loop.

clips -> batch -> model -> Gaussians -> renderer -> losses -> step; in between a log line, previews, validation and
saved states. `docs/training.md` lists the files of a run.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, replace
from pathlib import Path

import accelerate
import torch
from accelerate.utils import set_seed
from tqdm import tqdm

from core.checkpoint import load_weights, save_weights
from core.data.batch import BrokenLedger
from core.errors import UserError
from core.files import atomic_path
from core.options import Options
from core.rendering import Renderer, configured_renderer
from core.training.build import (
    make_accelerator,
    make_average,
    make_dataset,
    make_loader,
    make_model,
    make_optimizer,
    make_schedule,
    parameter_groups,
    tracker_name,
)
from core.training.evaluate import Validation, evaluate, load_validation_lpips
from core.training.log import Meter, RunLog
from core.training.objective import Objective
from core.training.preview import save_preview
from core.training.start import Start, decide, options_as_json
from core.training.state import Progress, clear_unfinished, load_run, save_run
from core.training.step import Outcome, Stepper
from core.training.stop import ending_loaders

logger = logging.getLogger(__name__)


def make_renderer_in_turn(options: Options, accelerator: accelerate.Accelerator) -> Renderer:
    """Make the renderer, on the local main process first; all processes fail together.

    gsplat compiles its kernels at first use, and processes that compile at the same time delete each other's build.

    Raises:
        UserError: the renderer cannot run on this or another machine of the run.
    """

    def make() -> Renderer:
        return configured_renderer(options.camera, accelerator.device)

    renderer, error = None, None
    try:
        renderer = make() if accelerator.is_local_main_process else None
    except UserError as caught:
        error = caught
    # The other processes wait here.
    failures = accelerator.reduce(torch.tensor([float(error is not None)], device=accelerator.device))
    if error is not None:
        raise error
    if failures.item() > 0:
        raise UserError("the local main process has no renderer; its message gives the cause")
    return renderer or make()


class Training:
    """One run: its parts and the loop over them."""

    def __init__(self, options: Options) -> None:
        """
        Raises:
            UserError: bad options, missing data or checkpoints, a workspace that holds another run.
        """
        self.options = options
        self.workspace = Path(options.run.workspace)
        self.accelerator = make_accelerator(options)
        set_seed(options.run.seed)
        self.validate_only = options.train.num_epochs == 0
        self.start = Start("only validating", options.run.resume) if self.validate_only else decide(options)
        if self.validate_only and options.run.resume is None:
            raise UserError("--num_epochs 0 only validates: give the checkpoint with --resume")
        model = make_model(options)
        self._inform(self.start.message)
        if self.start.weights is not None:
            self._inform(f"start: {load_weights(model, self.start.weights, strict=self.validate_only)}")
        self.renderer = make_renderer_in_turn(options, self.accelerator)
        self.test_dataset = make_dataset(options, "test")
        self.validation_lpips = load_validation_lpips(options.train)
        self.log = RunLog(self.accelerator, self.workspace)
        self.progress = Progress()
        self.average = None
        if self.validate_only:
            self.ledger = BrokenLedger(self.test_dataset.num_clips, options.data.max_broken)
            self.model = self.accelerator.prepare(model)
            return
        train_dataset = make_dataset(options, "train")
        num_clips = train_dataset.num_clips + self.test_dataset.num_clips
        self.ledger = BrokenLedger(num_clips, options.data.max_broken)
        self._plan(len(train_dataset))
        self.groups = parameter_groups(model, options.train)
        peaks = [group["lr"] for group in self.groups.values()]
        self.average = make_average(model, self.accelerator, options.train.ema_decay)
        self.model, optimizer = self.accelerator.prepare(model, make_optimizer(self.groups))
        self.accelerator.register_for_checkpointing(*filter(None, (self.progress, self.average)))
        if self.start.state is not None:
            self._load(self.start.state)
        step, total = self.progress.step, self.progress.total_steps
        processes = self.accelerator.num_processes
        schedule = make_schedule(optimizer.optimizer, peaks, options.train, total, step, processes)
        batches = processes * options.train.gradient_accumulation_steps
        loader = make_loader(options, train_dataset, step * batches, total * batches)
        self.loader = self.accelerator.prepare_data_loader(loader)
        self.step = Stepper(
            self.accelerator,
            self.model,
            optimizer,
            schedule,
            self.average,
            self.renderer,
            Objective(options.train, options.run.seed),
            options,
        )

    def _plan(self, groups: int) -> None:
        """Compute the length of the run in samples and steps."""
        train = self.options.train
        samples = train.batch_size * self.accelerator.num_processes * train.gradient_accumulation_steps
        steps = train.max_steps or max(1, train.num_epochs * groups // samples)
        self.progress = Progress(total_steps=steps, step_samples=samples, groups=groups)

    def _load(self, state: Path) -> None:
        load_run(self.accelerator, state)
        self.accelerator.step = 0  # its batch counter: the resumed run may accumulate a different number of batches
        for name, (before, now) in (self.start.changed or {}).items():
            self._inform(f"resume: --{name} is {now} from here on; it was {before}")
        self._inform(f"resume: step {self.progress.step} of {self.progress.total_steps}")

    def run(self) -> None:
        """Train until the end or SIGTERM; only validate if ``num_epochs`` is 0."""
        if self.validate_only:
            self._validate()
            return
        self._begin()
        bar = tqdm(
            total=self.progress.total_steps,
            initial=self.progress.step,
            unit="step",
            disable=not self.accelerator.is_main_process,
        )
        meter, options = Meter(), self.options.train
        with ending_loaders(), self.step.request, bar:
            for batch in meter.timed(self.loader):
                self.ledger.add(batch)
                outcome = self.step(batch, self.progress.step)
                meter.add(outcome.terms, outcome.finite)
                if not outcome.complete:
                    continue
                self._count(outcome)
                bar.update()
                if self._due(options.log_every):
                    self._write_log(meter, bar)
                with meter.paused():
                    if self._due(options.preview_every) and outcome.finite:
                        self._preview("train", batch.images, outcome.images)
                    if self._due(options.eval_every, at_end=True):
                        self._validate()
                    if outcome.stop or self._due(options.save_every, at_end=True):
                        self._save()
                if outcome.stop:
                    self._inform(
                        f"SIGTERM: saved at step {self.progress.step} of {self.progress.total_steps}; "
                        f"the same command resumes from there"
                    )
                    break
        self.accelerator.end_training()

    def _due(self, every: int, at_end: bool = False) -> bool:
        step = self.progress.step
        return (every > 0 and step % every == 0) or (at_end and step == self.progress.total_steps)

    def _begin(self) -> None:
        """Record the start in the workspace: options, tracker, log."""
        options = replace(self.options, run=replace(self.options.run, resume=self.start.origin))
        if self.accelerator.is_main_process:
            clear_unfinished(self.workspace)
            with atomic_path(self.workspace / "options.json") as path:
                path.write_text(json.dumps(options_as_json(options), indent=2))
        # TensorBoard creates a folder of this name in the workspace.
        name = "tensorboard" if tracker_name(self.options.train.tracker) == "tensorboard" else "l4gm"
        self.accelerator.init_trackers(name)
        self.log.begin(
            self.progress.step,
            decision=self.start.message,
            changed=self.start.changed or {},
            total_steps=self.progress.total_steps,
            step_samples=self.progress.step_samples,
            groups=self.progress.groups,
            processes=self.accelerator.num_processes,
            device=self.accelerator.device.type,
            torch=torch.__version__,
            accelerate=accelerate.__version__,
        )

    def _count(self, outcome: Outcome) -> None:
        self.progress.step += 1
        if outcome.skipped:
            self.progress.skipped += 1
            self.log.write("skipped", self.progress.step, clips=outcome.skipped, so_far=self.progress.skipped)

    def _write_log(self, meter: Meter, bar: tqdm) -> None:
        steps = self.options.train.log_every
        values = meter.read(self.accelerator, steps, steps * self.progress.step_samples)
        rates = dict(zip(self.groups, self.step.schedule.get_last_lr(), strict=True))
        self.log.write(
            "train", self.progress.step, epoch=self.progress.epoch, **rates, skipped=self.progress.skipped, **values
        )
        bar.set_postfix(
            {
                "loss": f"{values['total']:.4f}" if "total" in values else "not finite",
                "samples/s": f"{values['samples_per_second']:.2f}",
                "memory": f"{values['memory_mib'] / 1024:.1f}G",
                "wait": f"{values['data_wait_fraction']:.0%}",
            }
        )

    def _validate(self) -> Validation:
        model = self.average.module if self.average is not None else self.model
        result, batch, images = evaluate(
            model,
            self.renderer,
            self.test_dataset,
            self.accelerator,
            self.ledger,
            self.validation_lpips,
            self.options.side_views.side_views,
        )
        self.log.write("validation", self.progress.step, **asdict(result))
        self._inform(f"step {self.progress.step}: {json.dumps(asdict(result))}")
        self._preview("eval", batch.images, images)
        if not self.validate_only and result.psnr_novel > self.progress.best:
            self.progress.best = result.psnr_novel
            self._save_model("best.safetensors", result)
        return result

    def _preview(self, kind: str, ground_truth: torch.Tensor, images: torch.Tensor) -> None:
        if self.accelerator.is_main_process:
            save_preview(self.workspace, kind, f"{self.progress.epoch}_{self.progress.step}", ground_truth, images)

    def _save(self) -> None:
        save_run(self.accelerator, self.workspace, self.progress, self.options.train.keep_states)
        self._save_model("model.safetensors")

    def _save_model(self, name: str, result: Validation | None = None) -> None:
        weights = self.average.module.state_dict() if self.average else self.accelerator.get_state_dict(self.model)
        metadata = {"step": str(self.progress.step), "options": json.dumps(asdict(self.options))}
        if result is not None:
            metadata["validation"] = json.dumps(asdict(result))
        if self.accelerator.is_main_process:
            save_weights(weights, self.workspace / name, **metadata)

    def _inform(self, line: str) -> None:
        if self.accelerator.is_main_process:
            logger.info("%s", line)
