"""What a network sees: posed images on a grid of samples, time steps and views, each distinct image stored once.

    images [N,3,H,W] + cameras [N] ──features()──> [N,9,H,W] ──index [B,T,V]──> tensor() [B,T,V,9,H,W]

A video repeats images: the side views of the first frame stand beside every later frame, and two intervals share the
frame between them. The index is known when the grid is made (`core.data.side_views`), so equal images need not be
searched for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from core.cameras import Cameras, concatenate

# ImageNet statistics: how the first three channels of the published network encode RGB.
RGB_MEAN = (0.485, 0.456, 0.406)
RGB_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ViewGrid:
    """A batch of posed images.

    What a network computes for an image may depend on the time step at which the image first occurs; samples that must
    not depend on each other have images of their own, as `collate` gives them.

    Attributes:
        images: ``[N, 3, H, W]`` RGB in [0, 1] on white, in the order in which they first occur in ``index``.
        cameras: of the images, leading axis ``[N]``.
        index: ``[B, T, V]`` int64: the image that is seen there. Every image occurs.

    Raises:
        ValueError: the parts do not fit together.
    """

    images: Tensor
    cameras: Cameras
    index: Tensor

    def __post_init__(self) -> None:
        images, cameras = self.images, self.cameras
        if images.shape[:-3] != cameras.shape or tuple(images.shape[-2:]) != tuple(cameras.size):
            raise ValueError(
                f"images {tuple(images.shape)} do not belong to cameras with leading axes {tuple(cameras.shape)} "
                f"and size {tuple(cameras.size)}"
            )
        if images.ndim != 4 or self.index.ndim != 3:
            raise ValueError(
                f"images must be [N,3,H,W] and index [B,T,V], got {tuple(images.shape)} and {tuple(self.index.shape)}"
            )
        if self.index.device.type == "cpu" and not _in_order(self.index.flatten(), len(images)):  # would stall a GPU
            raise ValueError(f"the index must contain all {len(images)} images, in the order in which they first occur")

    @staticmethod
    def of(images: Tensor, cameras: Cameras) -> ViewGrid:
        """A grid without repeated images.

        Args:
            images: ``[B, T, V, 3, H, W]``.
            cameras: leading axes ``[B, T, V]``.
        """
        index = torch.arange(cameras.shape.numel(), device=images.device).reshape(cameras.shape)
        return ViewGrid(images.flatten(0, 2), cameras.reshape(-1), index)

    @property
    def shape(self) -> torch.Size:
        """``[B, T, V]``."""
        return self.index.shape

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images in pixels."""
        return self.cameras.size

    @property
    def view_images(self) -> Tensor:
        """``[B, T, V, 3, H, W]``."""
        return self.images[self.index]

    @property
    def view_cameras(self) -> Cameras:
        """Leading axes ``[B, T, V]``."""
        return self.cameras[self.index]

    def features(self) -> Tensor:
        """The nine channels of every distinct image ``[N, 9, H, W]``: normalised RGB, moment o x d, unit direction d.

        In the type of the images, also under autocast.
        """
        mean, std = (rearrange(self.images.new_tensor(value), "c -> c 1 1") for value in (RGB_MEAN, RGB_STD))
        return torch.cat([(self.images - mean) / std, self.cameras.pluecker().to(self.images)], dim=1)

    def tensor(self) -> Tensor:
        """The input of the published network ``[B, T, V, 9, H, W]``."""
        return self.features()[self.index]

    def to(self, target: torch.device | torch.dtype | str, non_blocking: bool = False) -> ViewGrid:
        """Move to a device, or cast images and cameras to a floating-point type."""
        index = self.index if isinstance(target, torch.dtype) else self.index.to(target, non_blocking=non_blocking)
        images = self.images.to(target, non_blocking=non_blocking)
        return ViewGrid(images, self.cameras.to(target, non_blocking=non_blocking), index)

    def pin_memory(self) -> ViewGrid:
        """The same in page-locked memory, for ``DataLoader(pin_memory=True)``."""
        return ViewGrid(self.images.pin_memory(), self.cameras.pin_memory(), self.index.pin_memory())

    @staticmethod
    def collate(grids: Sequence[ViewGrid]) -> ViewGrid:
        """Concatenate along B; no image is shared between the grids."""
        starts = [sum(len(grid.images) for grid in grids[:k]) for k in range(len(grids))]
        return ViewGrid(
            torch.cat([grid.images for grid in grids]),
            concatenate([grid.cameras for grid in grids]),
            torch.cat([grid.index + start for grid, start in zip(grids, starts, strict=True)]),
        )


def _in_order(index: Tensor, count: int) -> bool:
    """Whether 0 to ``count`` - 1 all occur in ``index`` ``[P]``, each for the first time after those below it."""
    if not len(index):
        return not count
    seen = index.cummax(dim=0).values
    new = torch.cat([seen[:1], seen.diff()])
    return bool((index >= 0).all()) and bool((new <= 1).all()) and int(seen[0]) == 0 and int(seen[-1]) == count - 1
