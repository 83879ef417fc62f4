"""Validation: means over the whole set, beside what one gets without any motion."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from core.data.batch import BrokenLedger, ClipBatch
from core.gaussians import Gaussians
from core.losses import psnr
from core.rendering import Renderer


@dataclass(frozen=True)
class Validation:
    """Means over all validation clips.

    Attributes:
        psnr_novel: dB, views the network never sees, all frames; the mean over images.
        psnr_input: dB, the four input views (of later frames only view 0 was seen).
        psnr_novel_frozen: dB, novel views when the Gaussians of frame 0 are shown at every time.
        clips: number of clips.
        images: number of novel images.
    """

    psnr_novel: float
    psnr_input: float
    psnr_novel_frozen: float
    clips: int
    images: int


@torch.inference_mode()
def evaluate(
    model: nn.Module, renderer: Renderer, dataset: Dataset, accelerator: Accelerator, ledger: BrokenLedger
) -> tuple[Validation, ClipBatch, Tensor]:
    """Validate ``model``, the clips shared out over the processes.

    Returns:
        the means, this process's last batch, and its rendered images ``[1,T,V,3,H,W]``.
    """
    model.eval()
    device = accelerator.device
    share = Subset(dataset, range(accelerator.process_index, len(dataset), accelerator.num_processes))
    sums = torch.zeros(5, dtype=torch.float64, device=device)
    batch, images = None, None
    for batch in DataLoader(share, batch_size=1, collate_fn=ClipBatch.collate):
        ledger.add(batch)
        batch = batch.to(device)
        with accelerator.autocast():
            gaussians = model(batch.grid)
        inputs = batch.grid.shape[2]
        images = renderer(gaussians, batch.cameras).image.clamp(0, 1)
        frozen = renderer(_freeze(gaussians), batch.cameras[:, :, inputs:]).image.clamp(0, 1)
        scores = psnr(images, batch.images)
        frozen_scores = psnr(frozen, batch.images[:, :, inputs:])
        novel, seen = scores[:, :, inputs:], scores[:, :, :inputs]
        sums += torch.stack(
            [
                novel.sum(),
                seen.sum(),
                frozen_scores.sum(),
                novel.new_tensor(novel.numel()),
                seen.new_tensor(seen.numel()),
            ]
        )
    model.train()
    novel, seen, frozen, novel_count, seen_count = accelerator.reduce(sums, "sum").tolist()
    result = Validation(novel / novel_count, seen / seen_count, frozen / novel_count, len(dataset), round(novel_count))
    return result, batch, images


def _freeze(gaussians: Gaussians) -> Gaussians:
    """The Gaussians of frame 0 at every time step."""
    return gaussians.map(lambda field: field[:, :1].expand_as(field))
