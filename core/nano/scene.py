"""Geometry of a view grid without a network: foreground, rays through it, and where they enter the visual hull."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from core.cameras import Cameras
from core.nano.visual_hull import HullFront, Rays, foreground_rays, hull_front
from core.view_grid import ViewGrid


@dataclass(frozen=True)
class Scene:
    """A grid and its geometry.

    Attributes:
        grid: in at least float32.
        index: ``[B, T, V]``: its index, or that of some of its time steps.
        rays: through or beside the foregrounds of the views, ``[(B T), V, R]`` of the (h, w) of each view's Gaussians.
        hull: where they enter it, ``[B, T, V, h, w]``.
    """

    grid: ViewGrid
    index: Tensor
    rays: Rays
    hull: HullFront

    @property
    def size(self) -> tuple[int, int]:
        """(h, w) of each view's Gaussians."""
        return tuple(self.hull.depth.shape[-2:])

    @property
    def cameras(self) -> Cameras:
        """Leading axes ``[B, T, V]``."""
        return self.grid.cameras[self.index]

    def at(self, frame_mask: Tensor) -> Scene:
        """The chosen time steps, ``[B, T]`` bool, each as a sample of its own."""
        frame_mask = frame_mask.to(self.index.device)
        hull, index = HullFront(*(x[frame_mask][:, None] for x in self.hull)), self.index[frame_mask][:, None]
        return replace(self, index=index, rays=Rays(*(x[frame_mask.flatten()] for x in self.rays)), hull=hull)


def scene_of(grid: ViewGrid, size: tuple[int, int]) -> Scene:
    """Geometry of a grid; ``size``: (h, w) of a view's Gaussians, which divides that of the images."""
    grid = grid if grid.images.dtype == torch.float64 else grid.to(torch.float32)
    shown = foreground(grid.images)
    silhouettes, cameras = shown[grid.index], grid.view_cameras
    rays = foreground_rays(cameras.reshape(-1, cameras.shape[2]), silhouettes.flatten(0, 1), size)
    return Scene(grid, grid.index, rays, hull_front(cameras, silhouettes, size, rays))


def foreground(images: Tensor) -> Tensor:
    """Foreground ``[..., 1, H, W]`` in [0, 1]: what is not white.

    A pixel counts by how far its smallest channel is from white: fully where this is below 0.9. The shipped weights
    were trained so; with the alpha of rendered clips instead, novel views gain 0.1 dB and input views lose as much.
    """
    return (10 * (1 - images.amin(dim=-3, keepdim=True))).clamp(0, 1)
