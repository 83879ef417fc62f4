"""Training of LaCT: the published recipe on this project's runs, states and logs (`core.training`).

scenes -> views -> network -> squared error, later also LPIPS -> step; in between log lines, validation, saved states.
"""

from __future__ import annotations

import json
import logging
import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor
from torch.optim import AdamW, Muon, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from tqdm import tqdm

from core.checkpoint import save_weights
from core.errors import UserError
from core.files import atomic_path, read_json
from core.lact import LaCT
from core.losses import psnr
from core.lpips import Lpips, load_lpips
from core.nvs.dataset import ViewDataset
from core.nvs.posed import PosedImages, interleave
from core.nvs.scenes import open_scenes
from core.nvs.weights import load_lact
from core.options.lact import NvsTrainOptions, lact_preset
from core.training.build import prepare_worker
from core.training.log import Meter, RunLog
from core.training.order import SampleStream
from core.training.state import Progress, load_run, save_run, saved_states
from core.training.stop import StopRequest, ending_loaders

logger = logging.getLogger(__name__)

CLIP_NORM, SKIP_NORM = 1.0, 4.0
_KEPT_STATES = 2


class NvsTraining:
    """One run: its parts and the loop over them."""

    def __init__(self, options: NvsTrainOptions) -> None:
        """
        Raises:
            UserError: bad options, scenes that cannot be read, a checkpoint or a saved run that does not fit.
        """
        self.options, self.workspace = options, Path(options.output_dir) / options.expname
        self.accelerator = Accelerator(
            cpu=not torch.accelerator.is_available(), mixed_precision=options.mixed_precision
        )
        set_seed(options.seed)
        self.sizes = replace(lact_preset(options.config), mixer=options.mixer)
        model = LaCT(self.sizes)
        model.recompute = options.actckpt
        self.train_set, self.val_set = self._dataset(options.data_path, options.mirror), None
        if options.data_path_val:
            self.val_set = self._dataset(options.data_path_val)
        states = saved_states(self.workspace)
        if states:
            self._check_network()
        elif options.load:
            load_lact(model, options.load)
        if options.compile:
            for block in model.blocks:
                block.compile()
        self.perceptual = load_lpips() if 0 <= options.lpips_start < options.steps else None
        optimizers = make_optimizers(model, options)
        samples = options.bs_per_gpu * self.accelerator.num_processes
        self.progress = Progress(total_steps=options.steps, step_samples=samples, groups=len(self.train_set))
        self.model, *self.optimizers = self.accelerator.prepare(model, *optimizers)
        self.accelerator.register_for_checkpointing(self.progress)
        if states:
            load_run(self.accelerator, states[-1])
            self._inform(f"resume: {states[-1]}")
        self.schedules = [make_schedule(each.optimizer, options, self.progress.step) for each in self.optimizers]
        self.log, self.request = RunLog(self.accelerator, self.workspace), StopRequest()

    def _dataset(self, path: str, mirror: bool = False) -> ViewDataset:
        options = self.options
        frame = "scene" if options.scene_pose_normalize else self.sizes.frame
        scenes = open_scenes(path)
        size, views = tuple(options.image_size), options.num_all_views
        return ViewDataset(scenes, size, views, frame, options.seed, mirror)

    def _check_network(self) -> None:
        before = read_json(self.workspace / "options.json").get("network")
        now = asdict(self.sizes)
        if before != now:
            raise UserError(
                f"the folder {self.workspace} holds a run of another network ({before}, this is {now}); choose another "
                f"--expname"
            )

    def _loader(self) -> DataLoader:
        options, processes = self.options, self.accelerator.num_processes
        first, last = self.progress.step * processes, options.steps * processes
        loader = DataLoader(
            self.train_set,
            batch_sampler=SampleStream(len(self.train_set), options.bs_per_gpu, options.seed, first, last),
            num_workers=options.num_workers,
            collate_fn=PosedImages.stack,
            pin_memory=torch.accelerator.is_available(),
            worker_init_fn=prepare_worker,
        )
        return self.accelerator.prepare_data_loader(loader)

    def run(self) -> None:
        """Train until the end or SIGTERM, after which the same command goes on.

        Raises:
            UserError: a picture cannot be read, a scene has too few views.
        """
        with ending_loaders():
            self._train()

    def _train(self) -> None:
        self._begin()
        meter, options, device = Meter(), self.options, self.accelerator.device
        bar = tqdm(
            total=options.steps,
            initial=self.progress.step,
            unit="step",
            disable=not self.accelerator.is_main_process,
            mininterval=10,
        )
        with self.request, bar:
            for batch in meter.timed(self._loader()):
                terms, made, stop = self._step(batch.to(device))
                meter.add(terms, bool(torch.isfinite(terms["total"])))
                self.progress.step += 1
                self.progress.skipped += not made
                bar.update()
                if self._due(options.log_every):
                    self._write_log(meter)
                with meter.paused():
                    if self._due(options.eval_every, at_end=True):
                        self._validate()
                    if stop or self._due(options.save_every, at_end=True):
                        self._save()
                if stop:
                    self._inform(f"SIGTERM: saved at step {self.progress.step}; the same command goes on from there")
                    break

    def _due(self, every: int, at_end: bool = False) -> bool:
        return self.progress.step % every == 0 or (at_end and self.progress.step == self.options.steps)

    def _predict(self, batch: PosedImages, inputs: int) -> tuple[Tensor, Tensor]:
        """Predicted and true targets ``[b, t, 3, h, w]`` from the first ``inputs`` views."""
        inputs, targets = batch[:, :inputs], batch[:, -self.options.num_target_views :]
        with self.accelerator.autocast():
            images = self.model(inputs.images, inputs.cameras, targets.cameras)
        return images.float(), targets.images

    def _step(self, batch: PosedImages) -> tuple[dict[str, Tensor], bool, bool]:
        """One step; the terms of its loss, whether it was made, and whether the run is to stop."""
        images, targets = self._predict(batch, self._input_views())
        terms = {"rgb": F.mse_loss(images, targets)}
        terms["total"] = terms["rgb"]
        if self.perceptual and self.progress.step >= self.options.lpips_start:
            terms["lpips"] = self._lpips(self.perceptual, images, targets)
            terms["total"] = terms["total"] + terms["lpips"]
        self.accelerator.backward(terms["total"])
        made, stop = self._clip()
        for optimizer, schedule in zip(self.optimizers, self.schedules, strict=True):
            if made:
                optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        return {**terms, "psnr": psnr(images.detach(), targets).mean()}, made, stop

    def _input_views(self) -> int:
        """Of this step; a function of seed and step."""
        most = self.options.num_input_views
        draw = np.random.default_rng((self.options.seed, self.progress.step))
        return int(draw.integers(self.options.min_input_views or most, most, endpoint=True))

    @staticmethod
    def _lpips(perceptual: Lpips, images: Tensor, targets: Tensor) -> Tensor:
        return perceptual(interleave(images), interleave(targets)).mean()

    def _clip(self) -> tuple[bool, bool]:
        """Clip the gradient as published; whether all processes may make the step, and whether any was told to stop."""
        late = self.progress.step >= self.options.clip_start
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), CLIP_NORM if late else math.inf)
        fine = bool(torch.isfinite(norm)) and not (late and float(norm) > SKIP_NORM)
        flags = torch.tensor([not fine, self.request.asked], dtype=torch.float32, device=self.accelerator.device)
        bad, stops = self.accelerator.reduce(flags, "sum").tolist()
        return bad == 0, stops > 0

    @torch.inference_mode()
    def _validate(self) -> None:
        """PSNR of the first sample of every scene for validation; every process does all of them."""
        if self.val_set is None:
            return
        self.model.eval()
        scores = []
        for index in range(len(self.val_set)):
            batch = PosedImages.stack([self.val_set[index]]).to(self.accelerator.device)
            images, targets = self._predict(batch, self.options.num_input_views)
            scores.append(psnr(images, targets).mean())
        self.model.train()
        value = torch.stack(scores).mean().item()
        self.log.write("validation", self.progress.step, psnr_novel=value, scenes=len(scores))
        self._inform(f"step {self.progress.step}: validation {value:.2f} dB")

    def _begin(self) -> None:
        if self.accelerator.is_main_process:
            record = {"network": asdict(self.sizes), "train": asdict(self.options)}
            with atomic_path(self.workspace / "options.json") as path:
                path.write_text(json.dumps(record, indent=2))
        self.log.begin(
            self.progress.step,
            total_steps=self.options.steps,
            step_samples=self.progress.step_samples,
            processes=self.accelerator.num_processes,
            device=self.accelerator.device.type,
            decision=f"step {self.progress.step}",
        )

    def _write_log(self, meter: Meter) -> None:
        steps = self.options.log_every
        values = meter.read(self.accelerator, steps, steps * self.progress.step_samples)
        rate = self.schedules[0].get_last_lr()[0]
        self.log.write("train", self.progress.step, lr=rate, skipped=self.progress.skipped, **values)

    def _save(self) -> None:
        save_run(self.accelerator, self.workspace, self.progress, _KEPT_STATES)
        weights = self.accelerator.get_state_dict(self.model)
        if self.accelerator.is_main_process:
            metadata = {"step": str(self.progress.step), "lact": json.dumps(asdict(self.sizes))}
            save_weights(weights, self.workspace / "model.safetensors", **metadata)

    def _inform(self, line: str) -> None:
        if self.accelerator.is_main_process:
            logger.info("%s", line)


def make_optimizers(model: LaCT, options: NvsTrainOptions) -> list[Optimizer]:
    """AdamW as published: betas (0.9, 0.95), weight decay on tensors of two and more dimensions.

    With ``muon_lr`` a second one, Muon, takes the matrices of the blocks; the fast weights' start stays with AdamW.
    ``nano`` at 32 pixels after 80 s on a busy core: 20.4 dB, with AdamW alone 16.9 dB.
    """
    muon = [
        parameter
        for name, parameter in model.blocks.named_parameters()
        if options.muon_lr and parameter.ndim == 2 and "lr_fc" not in name
    ]
    taken = set(muon)
    rest = [parameter for parameter in model.parameters() if parameter not in taken]
    matrices, vectors = ([p for p in rest if (p.ndim >= 2) == many] for many in (True, False))
    groups = [{"params": matrices, "weight_decay": options.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    adam = AdamW(groups, lr=options.lr, betas=(0.9, 0.95), fused=True)
    if not muon:
        return [adam]
    decay = options.weight_decay
    return [adam, Muon(muon, lr=options.muon_lr, weight_decay=decay, adjust_lr_fn="match_rms_adamw")]


def make_schedule(optimizer: Optimizer, options: NvsTrainOptions, step: int) -> LambdaLR:
    """Linear warm-up, then a cosine to zero; a function of the step and of the current options."""

    def factor(step: int) -> float:
        if step < options.warmup:
            return (step + 1) / options.warmup
        part = (step - options.warmup) / max(1, options.steps - options.warmup)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, part)))

    for group in optimizer.param_groups:
        group["initial_lr"] = options.muon_lr if isinstance(optimizer, Muon) else options.lr
    return LambdaLR(optimizer, factor, last_epoch=step - 1)
