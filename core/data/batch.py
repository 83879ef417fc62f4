"""The batch of the loader, and a record of clips that could not be read."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from core.cameras import Cameras, concatenate
from core.errors import UserError
from core.view_grid import ViewGrid

logger = logging.getLogger(__name__)
_TENSORS = ("images", "masks", "frames", "view_ids")


@dataclass(frozen=True)
class ClipBatch:
    """Samples of the clip dataset; a single sample has B = 1, one that found no readable clip has B = 0.

    Attributes:
        grid: network input, ``[B, T, 4]`` views.
        images: supervision ``[B, T, V, 3, H, W]``, RGB in [0, 1] on white.
        masks: their alpha ``[B, T, V, 1, H, W]`` in [0, 1].
        cameras: cameras of the supervision views, leading axes ``[B, T, V]``; the first 4 views are the inputs.
        frames: frame numbers in the clip ``[B, T]``.
        view_ids: view numbers in the clip ``[B, V]``.
        names: clip names, B of them.
        broken: (clip, reason) of every clip that was tried and could not be used.
    """

    grid: ViewGrid
    images: Tensor
    masks: Tensor
    cameras: Cameras
    frames: Tensor
    view_ids: Tensor
    names: tuple[str, ...]
    broken: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> ClipBatch:
        """The same batch on another device."""
        moved = {name: getattr(self, name).to(device, non_blocking=non_blocking) for name in _TENSORS}
        grid = self.grid.to(device, non_blocking=non_blocking)
        return replace(self, grid=grid, cameras=self.cameras.to(device, non_blocking=non_blocking), **moved)

    def pin_memory(self) -> ClipBatch:
        """The same in page-locked memory, for ``DataLoader(pin_memory=True)``."""
        pinned = {name: getattr(self, name).pin_memory() for name in _TENSORS}
        return replace(self, grid=self.grid.pin_memory(), cameras=self.cameras.pin_memory(), **pinned)

    @staticmethod
    def collate(samples: Sequence[ClipBatch]) -> ClipBatch:
        """Concatenate samples along B, for ``DataLoader(collate_fn=...)``."""
        tensors = {name: torch.cat([getattr(sample, name) for sample in samples]) for name in _TENSORS}
        grid = ViewGrid.collate([sample.grid for sample in samples])
        cameras = concatenate([sample.cameras for sample in samples])
        names = sum((sample.names for sample in samples), ())
        broken = sum((sample.broken for sample in samples), ())
        return ClipBatch(grid=grid, cameras=cameras, names=names, broken=broken, **tensors)


class BrokenLedger:
    """Logs every broken clip once, counts them, and stops the run when there are too many.

    It belongs to the main process: workers only report, in ``ClipBatch.broken``.
    """

    def __init__(self, num_clips: int, max_broken: float) -> None:
        """``max_broken``: the fraction of ``num_clips`` that may be broken."""
        self.num_clips, self.max_broken = num_clips, max_broken
        self.reasons: dict[str, str] = {}

    def add(self, batch: ClipBatch) -> None:
        """Record the broken clips of a batch; call it before the batch is used.

        Raises:
            UserError: more clips are broken than allowed, or a sample found no readable clip at all.
        """
        for name, reason in batch.broken:
            if name not in self.reasons:
                self.reasons[name] = reason
                logger.warning("skipping broken clip %s: %s", name, reason)
        too_many = len(self.reasons) > self.max_broken * self.num_clips
        if too_many or len(batch) == 0:
            raise UserError(
                f"{len(self.reasons)} of {self.num_clips} clips could not be used (max_broken allows a fraction of "
                f"{self.max_broken}); render them again or take them out of the list: "
                + "; ".join(f"{name} ({reason})" for name, reason in self.reasons.items())
            )
