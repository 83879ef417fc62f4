"""What a step minimises: the loss of LGM and L4GM, and this project's additions to it."""

from __future__ import annotations

import torch
from torch import Tensor

from core.data.batch import ClipBatch
from core.gaussians import Gaussians
from core.losses import LossWeights, psnr, training_loss
from core.lpips import load_lpips
from core.nano.hull_loss import hull_depth_error
from core.options import TrainOptions
from core.rendering import RenderOutput


class Objective:
    """Terms of a batch and their weighted sum; each is a mean over samples.

    What is drawn at random (views for LPIPS, rays for the hull) depends on seed and step alone, so that all samples of
    a step are treated alike, however they are spread over processes and batches.
    """

    def __init__(self, options: TrainOptions, seed: int = 0) -> None:
        """
        Raises:
            UserError: LPIPS has a weight and its own weights are not installed.
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
        if self.options.lambda_hull:
            terms["hull"] = hull_depth_error(gaussians, batch.cameras, batch.masks, batch.grid.shape[2], generator)
            terms["total"] = terms["total"] + self.options.lambda_hull * terms["hull"]
        return {**terms, "psnr": psnr(render.image.detach().clamp(0, 1), batch.images).mean()}
