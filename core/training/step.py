"""One optimiser step: forward, loss, backward; handling of non-finite numbers."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from core.data.batch import ClipBatch
from core.errors import UserError
from core.options import Options
from core.rendering import Renderer
from core.training.objective import Objective
from core.training.rollout import predict
from core.training.stop import StopRequest

logger = logging.getLogger(__name__)

MOST_SKIPPED_IN_A_ROW = 20


@dataclass(frozen=True)
class Outcome:
    """Result of a batch.

    Attributes:
        terms: the loss by term, on this process.
        finite: this process's loss was finite.
        images: the render ``[B,T,V,3,H,W]``.
        complete: the batch ended an optimiser step, made or skipped.
        skipped: the clips of a skipped step, on all processes; only the faulty ones if they are known.
        stop: some process received a stop signal; all processes agree on it after the same step.
    """

    terms: dict[str, Tensor]
    finite: bool
    images: Tensor
    complete: bool
    skipped: tuple[str, ...] = ()
    stop: bool = False


@dataclass
class Stepper:
    """Model, optimiser and schedule of a run; one call is one step.

    A step whose loss or gradient is not finite on any process is skipped on all of them: weights, optimiser and average
    stay unchanged, the schedule advances. After 20 such steps in a row the run has diverged.
    """

    accelerator: Accelerator
    model: nn.Module
    optimizer: Optimizer
    schedule: LRScheduler
    average: AveragedModel | None
    renderer: Renderer
    objective: Objective
    options: Options
    request: StopRequest = field(default_factory=StopRequest)

    def __post_init__(self) -> None:
        self._names: list[str] = []  # clips of the running step, on this process
        self._at_fault: list[str] = []
        self.skipped_in_a_row = 0

    def __call__(self, batch: ClipBatch, step: int) -> Outcome:
        """Forward and backward; where the gradients are complete, an optimiser step.

        Args:
            batch: on the device.
            step: optimiser steps done.

        Raises:
            UserError: too many steps in a row were skipped.
        """
        with self.accelerator.accumulate(self.model):
            terms, images = self._forward(batch, step)
            self.accelerator.backward(terms["total"])
            self._names += batch.names
            fine = bool(torch.isfinite(terms["total"]))
            self._at_fault += () if fine else batch.names
            complete, finite, stop = self.accelerator.sync_gradients, True, False
            if complete:
                norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.options.train.gradient_clip)
                finite, stop = self._agree(not self._at_fault and bool(torch.isfinite(norm)))
            if finite or self.accelerator.scaler is not None:
                self.optimizer.step()  # with fp16 the scaler itself skips such steps and lowers its scale
            if complete:
                self.schedule.step()
                if finite and self.average is not None:
                    self.average.update_parameters(self.accelerator.unwrap_model(self.model))
            self.optimizer.zero_grad()
        skipped = self._account(finite, step) if complete else ()
        return Outcome(terms, fine, images, complete, skipped, stop)

    def _forward(self, batch: ClipBatch, step: int) -> tuple[dict[str, Tensor], Tensor]:
        gaussians = predict(self.model, batch.grid, self.renderer, self.options.side_views.side_views)
        finite = gaussians.is_finite()
        if not finite:  # renderers refuse such Gaussians, but every process must reach its backward pass
            gaussians = gaussians.map(lambda field: torch.where(torch.isfinite(field), field, 0.5))
        render = self.renderer(gaussians, batch.cameras)
        terms = self.objective(gaussians, render, batch, step)
        if not finite:
            terms["total"] = terms["total"] * float("nan")
        return terms, render.image.detach()

    def _agree(self, finite: bool) -> tuple[bool, bool]:
        """Whether all processes are finite, and whether any received a stop signal."""
        flags = torch.tensor([not finite, self.request.asked], dtype=torch.float32, device=self.accelerator.device)
        not_finite, stops = self.accelerator.reduce(flags, "sum").tolist()
        return not_finite == 0, stops > 0

    def _account(self, finite: bool, step: int) -> tuple[str, ...]:
        """The clips of a skipped step; ends a run that skips too many in a row."""
        at_fault, names = self._at_fault, self._names
        self._names, self._at_fault = [], []
        self.skipped_in_a_row = 0 if finite else self.skipped_in_a_row + 1
        if finite:
            return ()
        blamed = gather_object(at_fault)  # empty on all processes if only the gradient is not finite
        clips = tuple(blamed or gather_object(names))
        if self.accelerator.is_main_process:
            logger.warning("step %d skipped: loss or gradient not finite; clips %s", step + 1, ", ".join(clips))
        if self.skipped_in_a_row >= MOST_SKIPPED_IN_A_ROW:
            raise UserError(
                f"{self.skipped_in_a_row} steps in a row had no finite loss, the last with clips {', '.join(clips)}: "
                f"the run has diverged; go on from an earlier state in {self.options.run.workspace}/state with a "
                f"lower --lr (docs/training.md, When it diverges)"
            )
        return clips
