"""Validation: means over the whole set, beside what one gets without any motion."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from core.data.batch import BrokenLedger, ClipBatch
from core.data.input_grid import blank_side_views
from core.gaussians import Gaussians
from core.losses import psnr
from core.rendering import Renderer


@dataclass(frozen=True)
class Validation:
    """Means over all validation clips; PSNR in dB is the mean over images.

    Attributes:
        psnr_novel: views the network never sees, all frames.
        psnr_novel_frozen: the same when the Gaussians of frame 0 are shown at every time.
        psnr_novel_single: the same from the front video alone, the side views blank.
        psnr_input: the four input views (of later frames only view 0 was seen).
        clips: number of different clips that were read.
        images: number of novel images.
    """

    psnr_novel: float
    psnr_novel_frozen: float
    psnr_novel_single: float
    psnr_input: float
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
    sums = torch.zeros(4, dtype=torch.float64, device=device)
    counts = torch.zeros(2, dtype=torch.float64, device=device)
    batch, images, clips = None, None, set()
    for batch in DataLoader(share, batch_size=1, collate_fn=ClipBatch.collate):
        ledger.add(batch)
        clips.update(batch.names)
        batch = batch.to(device)
        with accelerator.autocast():
            gaussians, single = model(batch.grid), model(blank_side_views(batch.grid))
        inputs = batch.grid.shape[2]
        images = renderer(gaussians, batch.cameras).image.clamp(0, 1)
        novel, truth = batch.cameras[:, :, inputs:], batch.images[:, :, inputs:]
        scores = [images[:, :, inputs:], *(renderer(g, novel).image.clamp(0, 1) for g in (_freeze(gaussians), single))]
        scores = [psnr(predicted, truth) for predicted in scores]
        scores.append(psnr(images[:, :, :inputs], batch.images[:, :, :inputs]))
        sums += torch.stack([score.sum() for score in scores])
        counts += torch.tensor([scores[0].numel(), scores[3].numel()], device=device)
    model.train()
    counts = torch.cat([counts, counts.new_tensor([len(clips)])])
    sums, counts = accelerator.reduce(sums, "sum"), accelerator.reduce(counts, "sum")
    means = (sums / counts[[0, 0, 0, 1]]).tolist()
    return Validation(*means, clips=round(counts[2].item()), images=round(counts[0].item())), batch, images


def _freeze(gaussians: Gaussians) -> Gaussians:
    """The Gaussians of frame 0 at every time step."""
    return gaussians.map(lambda field: field[:, :1].expand_as(field))
