"""Validation: means over the whole set, compared with static Gaussians and with the front video alone."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from core.data.batch import BrokenLedger, ClipBatch
from core.data.side_views import front_alone
from core.errors import UserError
from core.gaussians import Gaussians
from core.losses import psnr, ssim
from core.lpips import Lpips, find_weights, load_lpips
from core.options import TrainOptions
from core.options.side_views import SideViews
from core.rendering import Renderer
from core.training.rollout import predict

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Validation:
    """Means over all validation clips, each over images; PSNR in dB.

    Attributes:
        psnr_novel: views that are not inputs, all frames.
        psnr_novel_frozen: the same with the Gaussians of frame 0 at every time.
        psnr_novel_single: the same from the front video alone.
        psnr_input: the four input views (of later frames only view 0 is an input).
        ssim_novel: SSIM of the novel views.
        lpips_novel: their LPIPS distance; None where it is switched off or its weights are not installed.
        clips: number of distinct clips.
        images: number of novel images.
        input_images: number of input images.
    """

    psnr_novel: float
    psnr_novel_frozen: float
    psnr_novel_single: float
    psnr_input: float
    ssim_novel: float
    lpips_novel: float | None
    clips: int
    images: int
    input_images: int


def load_validation_lpips(options: TrainOptions) -> Lpips | None:
    """LPIPS in float32 for validations; None if it is switched off or not installed, which is logged."""
    if not options.eval_lpips:
        return None
    try:
        find_weights()
    except UserError as error:
        logger.warning("validation without LPIPS: %s", error)
        return None
    return load_lpips()


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    renderer: Renderer,
    dataset: Dataset,
    accelerator: Accelerator,
    ledger: BrokenLedger,
    lpips: Lpips | None = None,
    side_views: SideViews = "first",
) -> tuple[Validation, ClipBatch, Tensor]:
    """Validate ``model``, with the clips divided among the processes.

    Every process makes the same number of forward passes, as sharded weights require; clips that pad the last round are
    not counted twice.

    Returns:
        the means, this process's last batch, and its rendered images ``[1,T,V,3,H,W]``.
    """
    model.eval()
    device = accelerator.device
    sums, counts = (torch.zeros(n, dtype=torch.float64, device=device) for n in (6, 3))
    batch, images, clips = None, None, set()
    for batch, counted in _share(dataset, accelerator):
        ledger.add(batch)
        front, batch = front_alone(batch.grid).to(device), batch.to(device)
        with accelerator.autocast():
            gaussians = predict(model, batch.grid, renderer, side_views)
            single = predict(model, front, renderer, side_views)
        inputs = batch.grid.shape[2]
        images = renderer(gaussians, batch.cameras).image.clamp(0, 1)
        if not counted:
            continue
        clips.update(batch.names)
        cameras, targets = batch.cameras[:, :, inputs:], batch.images[:, :, inputs:]
        novel = images[:, :, inputs:]
        scores = [psnr(novel, targets)]
        scores += [psnr(renderer(g, cameras).image.clamp(0, 1), targets) for g in (_freeze(gaussians), single)]
        scores += [psnr(images[:, :, :inputs], batch.images[:, :, :inputs]), ssim(novel, targets)]
        scores.append(lpips(novel.flatten(0, 2), targets.flatten(0, 2)) if lpips else torch.zeros(1, device=device))
        sums += torch.stack([score.double().sum() for score in scores])
        counts += torch.tensor([scores[0].numel(), scores[3].numel(), 0], device=device)
    model.train()
    counts[2] = len(clips)
    sums, counts = accelerator.reduce(sums, "sum"), accelerator.reduce(counts, "sum")
    *means, distance = (sums / counts[[0, 0, 0, 1, 0, 0]]).tolist()
    novel, inputs, clips = (round(count) for count in counts.tolist())
    return Validation(*means, distance if lpips else None, clips, novel, inputs), batch, images


def _share(dataset: Dataset, accelerator: Accelerator) -> Iterator[tuple[ClipBatch, bool]]:
    """This process's clips, one per batch, and whether each is counted."""
    mine = range(accelerator.process_index, len(dataset), accelerator.num_processes)
    rounds = -(-len(dataset) // accelerator.num_processes)
    padded = [*mine, *[0] * (rounds - len(mine))]
    loader = DataLoader(Subset(dataset, padded), batch_size=1, collate_fn=ClipBatch.collate)
    for number, batch in enumerate(loader):
        yield batch, number < len(mine)


def _freeze(gaussians: Gaussians) -> Gaussians:
    """The Gaussians of frame 0 at every time step."""
    return gaussians.map(lambda field: field[:, :1].expand_as(field))
