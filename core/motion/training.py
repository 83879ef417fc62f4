"""Training of the motion network: samples -> two rounds of comparing -> distances on the surface -> step.

The loss of a round is the mean distance, in reaches, of surface points from where the pose brings them, and from where
pose and bend do. The second round starts from the pose that the first one found.
"""

from __future__ import annotations

import json
import logging
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from core.checkpoint import load_weights, save_weights
from core.data.lists import data_home, read_groups
from core.files import atomic_path
from core.inference.network import Network
from core.motion.augment import Samples
from core.motion.samples import MovingClip, SampleMaker, load_clip
from core.options import PRESETS
from core.options.motion import MotionTrainOptions
from core.rendering import configured_renderer
from core.tracking.motion_network import Motion, MotionNetwork, mirrored_motion, mirrored_pose
from core.tracking.pose import Pose, centre_of, posed
from core.tracking.prediction import ROUNDS, MotionPredictor, compared, reach_of
from core.training.log import Meter, RunLog
from core.training.state import Progress, load_run, save_run, saved_states
from core.training.stop import StopRequest

logger = logging.getLogger(__name__)

POSED_SHARE = 0.4
CLIP_NORM, DECAY, _KEPT_STATES = 1.0, 0.999, 2


class MotionTraining:
    """One run: its parts and the loop over them."""

    def __init__(self, options: MotionTrainOptions) -> None:
        """
        Raises:
            UserError: bad options, clips or surfaces that cannot be read, a checkpoint or a saved run that does not
                fit.
        """
        self.options, self.workspace = options, Path(options.workspace)
        self.accelerator = Accelerator(cpu=not torch.accelerator.is_available())
        set_seed(options.seed)
        self.camera = PRESETS["nano"].camera
        device = self.accelerator.device
        network = MotionNetwork()
        if options.load:
            load_weights(network, options.load)
        self.averaged = AveragedModel(network, avg_fn=_average).to(device)
        optimizer = AdamW(network.parameters(), lr=options.lr, betas=(0.9, 0.98), weight_decay=options.weight_decay)
        samples = options.batch_size * self.accelerator.num_processes
        first_frames = Network(options.resume, PRESETS["nano"].model, self.camera, device=device)
        self.clips = self._clips(options.datalist, first_frames)
        self.val_clips = self._clips(options.datalist_val, first_frames) if options.datalist_val else []
        renderer = configured_renderer(self.camera, torch.device("cpu"))
        self.maker = SampleMaker(self.clips, renderer, self.camera, POSED_SHARE)
        self.progress = Progress(total_steps=options.steps, step_samples=samples, groups=len(self.clips))
        self.network, self.optimizer = self.accelerator.prepare(network, optimizer)
        self.accelerator.register_for_checkpointing(self.progress, self.averaged)
        states = saved_states(self.workspace)
        if states:
            load_run(self.accelerator, states[-1])
            self._inform(f"resume: {states[-1]}")
        for group in self.optimizer.optimizer.param_groups:
            group["initial_lr"] = options.lr
        self.schedule = LambdaLR(self.optimizer.optimizer, self._rate, last_epoch=self.progress.step - 1)
        self.log, self.request = RunLog(self.accelerator, self.workspace), StopRequest()

    def _clips(self, datalist: str, network: Network) -> list[MovingClip]:
        home = data_home(self.options.data_home)
        lines = [line for group in read_groups(datalist) for line in group]
        bar = tqdm(lines, desc="first frames", unit="clip", disable=not self.accelerator.is_main_process)
        return [load_clip(home, line, network) for line in bar]

    def _rate(self, step: int) -> float:
        """Linear warm-up, then a cosine to a fiftieth; a function of the step and of the current options."""
        options = self.options
        part = min(1.0, step / options.steps)
        return min(1.0, (step + 1) / max(1, options.warmup)) * (0.49 * (1 + math.cos(math.pi * part)) + 0.02)

    def run(self) -> None:
        """Train until the end or SIGTERM, after which the same command goes on.

        Raises:
            UserError: a file cannot be written.
        """
        self._begin()
        meter, options = Meter(), self.options
        bar = tqdm(
            total=options.steps, initial=self.progress.step, unit="step", mininterval=10,
            disable=not self.accelerator.is_main_process,
        )  # fmt: skip
        with self.request, bar:
            while self.progress.step < options.steps:
                terms, stop = self._step()
                meter.add(terms, bool(torch.isfinite(terms["total"])))
                self.progress.step += 1
                bar.update()
                if self.progress.step % options.log_every == 0:
                    values = meter.read(
                        self.accelerator, options.log_every, options.log_every * self.progress.step_samples
                    )
                    rate = self.schedule.get_last_lr()[0]
                    self.log.write("train", self.progress.step, lr=rate, skipped=self.progress.skipped, **values)
                with meter.paused():
                    if stop or self.progress.step in (options.steps, *range(0, options.steps, options.save_every)):
                        self._validate()
                        self._save()
                if stop:
                    self._inform(f"SIGTERM: saved at step {self.progress.step}; the same command goes on from there")
                    break

    def _step(self) -> tuple[dict[str, Tensor], bool]:
        """One step; the terms of its loss, and whether the run is to stop. Samples depend on seed, step and process."""
        place = (self.options.seed, self.progress.step, self.accelerator.process_index)
        draw = np.random.default_rng(place)
        torch.manual_seed(int(draw.integers(2**31)))  # of the dropout
        terms = self._losses(self.maker.draw(self.options.batch_size, draw), draw)
        self.accelerator.backward(terms["total"])
        norm = self.accelerator.clip_grad_norm_(self.network.parameters(), CLIP_NORM)
        flags = torch.tensor([not torch.isfinite(norm), self.request.asked], dtype=torch.float32)
        bad, stops = self.accelerator.reduce(flags.to(self.accelerator.device), "sum").tolist()
        if not bad:
            self.optimizer.step()
            self.averaged.update_parameters(self.accelerator.unwrap_model(self.network))
        self.progress.skipped += bad > 0
        self.optimizer.zero_grad()
        self.schedule.step()
        return {name: value.detach() for name, value in terms.items()}, stops > 0

    def _losses(self, samples: Samples, draw: np.random.Generator) -> dict[str, Tensor]:
        """Means over the samples, see the module."""
        pose = samples.start
        rows = torch.from_numpy(draw.random(len(samples.shares)) < 0.5)
        terms: dict[str, list[Tensor]] = {"rigid": [], "bent": []}
        for _ in range(ROUNDS):
            motion = self._compare(samples, pose, rows)
            places = motion.places(samples.before, samples.centres)
            errors = [_distance(place, samples.after) / motion.reach for place in places]
            for name, error in zip(("rigid", "bent"), errors, strict=True):
                terms[name].append(error.mean())
            pose = Pose(*(part.detach() for part in motion.pose))
        means = {name: torch.stack(values).mean() for name, values in terms.items()}
        return {"total": means["rigid"] + means["bent"], **means}

    def _compare(self, samples: Samples, pose: Pose, rows: Tensor) -> Motion:
        """The motion that the network finds from a pose, as a mirror shows it for the samples ``rows`` ``[B]``."""
        with torch.no_grad():
            sets = posed(samples.sets, pose, samples.centres)
            pairs = compared(self.maker.renderer, self.camera, sets, samples.frames, samples.shares)
        pairs = torch.where(rows[:, None, None, None], pairs.flip(-1), pairs)
        inputs = (pairs, *mirrored_pose(pose, rows), reach_of(self.camera, samples.shares))
        pairs, turn, shift, reach = (x.to(self.accelerator.device) for x in inputs)
        motion = self.network(pairs, Pose(turn, shift), reach)
        return mirrored_motion(motion.map(Tensor.cpu), rows)

    @torch.inference_mode()
    def _validate(self) -> None:
        """Mean distance on the surface over all later frames of all clips for validation, and that of no motion; every
        process does all of them."""
        if not self.val_clips:
            return
        network = self.averaged.module.eval()
        predictor = MotionPredictor(network, self.maker.renderer, self.camera)
        rows = torch.tensor([followed_error(predictor, clip) for clip in self.val_clips]).mean(0).tolist()
        values = dict(zip(("still", "rigid", "bent"), rows, strict=True))
        self.log.write("validation", self.progress.step, clips=len(self.val_clips), **values)
        self._inform(f"step {self.progress.step}: " + ", ".join(f"{key} {value:.4f}" for key, value in values.items()))

    def _begin(self) -> None:
        if self.accelerator.is_main_process:
            with atomic_path(self.workspace / "options.json") as path:
                path.write_text(json.dumps(asdict(self.options), indent=2))
        self.log.begin(
            self.progress.step,
            total_steps=self.options.steps,
            step_samples=self.progress.step_samples,
            processes=self.accelerator.num_processes,
            device=self.accelerator.device.type,
            clips=len(self.clips),
        )

    def _save(self) -> None:
        save_run(self.accelerator, self.workspace, self.progress, _KEPT_STATES)
        if self.accelerator.is_main_process:
            path = self.workspace / "model.safetensors"
            save_weights(self.averaged.module, path, step=str(self.progress.step), clips=str(len(self.clips)))

    def _inform(self, line: str) -> None:
        if self.accelerator.is_main_process:
            logger.info("%s", line)


def _average(before: Tensor, now: Tensor, count: Tensor | int) -> Tensor:
    """An exponential average whose memory grows with the number of steps."""
    return torch.lerp(now, before, min(DECAY, float(count) / (float(count) + 10)))


def followed_error(predictor: MotionPredictor, clip: MovingClip) -> list[float]:
    """Mean distances in reaches at the later frames of a clip, its view 0 being the front: without motion, after the
    poses alone, after all."""
    first, (start, *frames) = clip.first, clip.images[:, 0].float() / 255
    centre = centre_of(first.visible())
    errors = []
    for motion, after in zip(predictor.motions(first, start, frames), clip.points[1:], strict=True):
        before = clip.points[:1]
        places = (before, *motion.places(before, centre[None]))
        errors.append([float((_distance(place, after[None]) / motion.reach).mean()) for place in places])
    return torch.tensor(errors).mean(0).tolist()


def _distance(places: Tensor, truth: Tensor) -> Tensor:
    """Mean distance of points ``[B, P, 3]`` ``[B]``, smooth at zero."""
    return ((places - truth).square().sum(-1) + 1e-4).sqrt().mean(1)
