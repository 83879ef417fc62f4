"""What a step minimises: the loss of LGM and L4GM, and this project's further terms.

A new term is a function in `TERMS` and its weight ``lambda_NAME`` in `core.options.train`; log and report show it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from core.data.batch import ClipBatch
from core.gaussians import Gaussians
from core.losses import LossWeights, psnr, training_loss
from core.lpips import load_lpips
from core.nano.hull_loss import hull_depth_error
from core.options import TrainOptions
from core.rendering import RenderOutput


@dataclass(frozen=True)
class StepResult:
    """What a term is computed from.

    Attributes:
        gaussians: of the network, leading axes ``[B, T]``.
        render: of these from the cameras of the batch ``[B, T, V]``.
        batch: the ground truth.
        generator: on the CPU, for random choices of a term.
    """

    gaussians: Gaussians
    render: RenderOutput
    batch: ClipBatch
    generator: torch.Generator


def hull_term(result: StepResult) -> Tensor:
    """Distance of the Gaussians from the front of the visual hull, world units."""
    batch = result.batch
    return hull_depth_error(result.gaussians, batch.cameras, batch.masks, batch.grid.shape[2], result.generator)


def blur_term(result: StepResult) -> Tensor:
    """Mean squared error of colours and alpha after box blurs of an eighth and a quarter of the image.

    What moved further than its own size overlaps nothing of its render, so that the plain error has no gradient towards
    its new place; blurred, it has.
    """
    render, batch = result.render, result.batch
    shown = torch.cat([render.image - batch.images, render.alpha - batch.masks], dim=3).flatten(0, 2)
    errors = [
        F.avg_pool2d(shown, side, stride=max(1, side // 4), padding=side // 2).square().mean()
        for side in (shown.shape[-1] // 8, shown.shape[-1] // 4)
    ]
    return torch.stack(errors).sum()


TERMS: Mapping[str, Callable[[StepResult], Tensor]] = {"hull": hull_term, "blur": blur_term}
"""Name -> a scalar, weighted by ``--lambda_NAME`` and not computed where that is 0."""


class Objective:
    """Terms of a batch and their weighted sum; each is a mean over samples.

    Random choices (views for LPIPS, rays for the hull) depend on seed and step only, so that results do not depend on
    how samples are split over processes and batches.
    """

    def __init__(self, options: TrainOptions, seed: int = 0) -> None:
        """
        Raises:
            UserError: LPIPS is enabled and its network weights are not installed.
        """
        self.options, self.seed = options, seed
        self.weights = LossWeights(lpips=options.lambda_lpips)
        dtype = torch.float32 if options.mixed_precision == "no" else torch.bfloat16
        self.perceptual = load_lpips(dtype) if options.lambda_lpips else None

    def __call__(self, gaussians: Gaussians, render: RenderOutput, batch: ClipBatch, step: int) -> dict[str, Tensor]:
        """The terms, their sum ``total``, and the PSNR for the log; scalars."""
        views, count = batch.images.shape[2], self.options.lpips_views
        generator = torch.Generator().manual_seed(self.seed + step)
        chosen = torch.randperm(views, generator=generator)[:count].to(render.image.device) if count else None
        terms = training_loss(
            render.image, render.alpha, batch.images, batch.masks, self.weights, self.perceptual, chosen
        )
        result = StepResult(gaussians, render, batch, generator)
        for name, term in TERMS.items():
            weight = getattr(self.options, f"lambda_{name}")
            if weight:
                terms[name] = term(result)
                terms["total"] = terms["total"] + weight * terms[name]
        return {**terms, "psnr": psnr(render.image.detach().clamp(0, 1), batch.images).mean()}
