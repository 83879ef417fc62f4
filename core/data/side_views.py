"""Where views 1, 2, ... come from: the one policy that training, inference and evaluation share.

A network sees four views of every time step and a video shows one. The others come from a source:

    first      those of the first frame, repeated: what a video and four views of its first frame give
    every      those of every frame: ground truth, an upper bound
    previous   renders of the network's own Gaussians of the frame or the chunk before, repeated like `first`
    blend      linear blends of those at the two ends of an interval, for interpolation
    none       nothing but the front: white, and from behind the front mirrored: a distant camera sees the same outline

`side_view_grid` makes the grid of any of them; `interval_grid` and `insertion_grid` are the two layouts of
interpolation, where intervals share images.
"""

from __future__ import annotations

from typing import Literal

import torch
from einops import rearrange
from torch import Tensor

from core.cameras import Cameras, concatenate
from core.view_grid import ViewGrid

Source = Literal["first", "every", "previous", "blend", "none"]
_BEHIND = -0.99  # cosine between the axes of two cameras that look at each other


def side_view_grid(
    front: Tensor, sides: Tensor | None, cameras: Cameras, source: Source, inserted: bool = False
) -> ViewGrid:
    """The grid of front videos and their side views, each distinct image once.

    Args:
        front: view 0 of every frame ``[B, T, 3, H, W]``, RGB in [0, 1] on white.
        sides: the known side views. first, previous: ``[B, V-1, 3, H, W]``. every: ``[B, T, V-1, 3, H, W]``. blend:
            of both ends ``[B, 2, V-1, 3, H, W]``. none: None.
        cameras: ``[B, T, V]``. Side views that are repeated or blended have the cameras of the first frame.
        source: see the module.
        inserted: the frames between the first and the last are not known: blends of these two take their place.
    """
    if inserted:
        front = cross_fade(front[:, 0], front[:, -1], front.shape[1])
    if source == "none":
        return _front_alone(front, cameras)
    if source == "blend":
        sides = cross_fade(sides[:, 0], sides[:, 1], front.shape[1])
        cameras = _still_sides(cameras)
    if source in ("first", "previous"):
        return _repeated(front, sides, cameras)
    return ViewGrid.of(torch.cat([front[:, :, None], sides], dim=2), cameras)


def front_alone(grid: ViewGrid) -> ViewGrid:
    """The grid with its side views replaced by those of the front video alone: source ``none``. Cameras stay."""
    return side_view_grid(grid.view_images[:, :, 0], None, grid.view_cameras, "none")


def placeholder_views(front: Tensor) -> Tensor:
    """Views 90, 180 and 270 degrees from a frame ``[..., 3, H, W]``, as source ``none`` has them beside that frame."""
    white = torch.ones_like(front)
    return torch.stack([white, front.flip(-1), white], dim=-4)


def interval_grid(ends: Tensor, cameras: Cameras, steps: int) -> ViewGrid:
    """Successive intervals, all views blended from one end to the other: source ``blend`` of ``M - 1`` samples.

    Neighbouring intervals share the end between them.

    Args:
        ends: the views ``[M, V, 3, H, W]`` at the ends of the intervals, in order.
        cameras: of the views ``[V]``.
        steps: time steps from one end to the next; a sample has ``steps + 1``, both ends among them.
    """
    (count, views), device = ends.shape[:2], ends.device
    blends = cross_fade(ends[:-1], ends[1:], steps + 1)[:, :-1]
    images = torch.cat([blends.flatten(0, 1), ends[-1:]]).flatten(0, 1)
    times = steps * torch.arange(count - 1, device=device)[:, None] + torch.arange(steps + 1, device=device)
    index = views * times[..., None] + torch.arange(views, device=device)
    return ViewGrid(images, cameras.expand(len(images) // views, views).reshape(-1), index)


def insertion_grid(first: Tensor, frames: Tensor, sides: Tensor, cameras: Cameras) -> ViewGrid:
    """Frames of several intervals; each sample starts with the first frame and has its side views: source ``first``.

    All samples share the first frame and the side views.

    Args:
        first: the frame to which the side views belong ``[3, H, W]``.
        frames: ``[P, K, 3, H, W]``.
        sides: ``[V-1, 3, H, W]``.
        cameras: of the views ``[V]``.
    """
    samples, steps = frames.shape[:2]
    grid = _repeated(torch.cat([first[None], frames.flatten(0, 1)])[None], sides[None], _over_time(cameras, frames))
    own = grid.index[:, 1:].reshape(samples, steps, -1)
    return ViewGrid(grid.images, grid.cameras, torch.cat([grid.index[:, :1].expand(samples, -1, -1), own], dim=1))


def inserted_fronts(frames: Tensor, steps: int) -> Tensor:
    """View 0 at the times between neighbouring frames ``[M, ...]``, where no video shows it: blends of the two,
    ``[M - 1, steps - 1, ...]``."""
    return cross_fade(frames[:-1], frames[1:], steps + 1)[:, 1:-1]


def cross_fade(first: Tensor, last: Tensor, num_frames: int) -> Tensor:
    """From images to others: two ``[B, ..., 3, H, W]`` become ``[B, T, ..., 3, H, W]``, frame t with weight t / (T - 1)
    on the last."""
    weights = torch.linspace(0.0, 1.0, num_frames, dtype=first.dtype, device=first.device)
    weights = weights.reshape(-1, *[1] * (first.ndim - 1))
    return torch.lerp(first.unsqueeze(1), last.unsqueeze(1), weights)


def _repeated(front: Tensor, sides: Tensor, cameras: Cameras) -> ViewGrid:
    """The side views of the first frame beside every frame: T + V - 1 images a sample."""
    (batch, frames), views = front.shape[:2], 1 + sides.shape[1]
    images = torch.cat([front[:, :1], sides, front[:, 1:]], dim=1)
    seen_by = concatenate([cameras[:, 0], cameras[:, 1:, 0]], dim=1)
    index = torch.arange(views, device=front.device).repeat(frames, 1)
    index[1:, 0] += torch.arange(views, views + frames - 1, device=front.device)
    starts = images.shape[1] * torch.arange(batch, device=front.device)
    return ViewGrid(images.flatten(0, 1), seen_by.reshape(-1), index + rearrange(starts, "b -> b 1 1"))


def _front_alone(front: Tensor, cameras: Cameras) -> ViewGrid:
    samples = range(len(front))
    return ViewGrid.collate([_one_front_alone(front[b], cameras[b]) for b in samples])


def _one_front_alone(front: Tensor, cameras: Cameras) -> ViewGrid:
    """One sample ``[T, 3, H, W]``: white views once, those from behind for every frame."""
    axes = cameras.c2w[0, :, :3, 2]
    behind = ((axes * axes[0]).sum(-1) < _BEHIND).tolist()
    images, seen_by, index = [], [], torch.empty(cameras.shape, dtype=torch.int64)
    for t, frame in enumerate(front):
        for view, mirrored in enumerate(behind):
            if t and view and not mirrored:
                index[t, view] = index[0, view]
                continue
            index[t, view] = len(images)
            images.append(frame if view == 0 else frame.flip(-1) if mirrored else torch.ones_like(frame))
            seen_by.append((t if view == 0 else 0, view))
    times, views = torch.tensor(seen_by).unbind(-1)
    return ViewGrid(torch.stack(images), cameras[times, views], index[None].to(front.device))


def _still_sides(cameras: Cameras) -> Cameras:
    """Cameras ``[B, T, V]`` whose side views are those of the first frame at all times."""
    batch, frames, views = cameras.shape
    return concatenate([cameras[:, :, :1], cameras[:, :1, 1:].expand(batch, frames, views - 1)], dim=2)


def _over_time(cameras: Cameras, frames: Tensor) -> Cameras:
    """Cameras ``[V]`` of one sample that has a first frame and those in ``frames`` ``[P, K, ...]``."""
    return cameras.expand(1, 1 + frames.shape[:2].numel(), *cameras.shape)
