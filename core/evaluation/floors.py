"""What needs no network: the visual hull of the input's silhouettes, and the mean of the input images.

A reconstruction that scores less has understood nothing of its object.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from core.cameras import Cameras, input_cameras
from core.evaluation.metrics import Prediction
from core.evaluation.protocol import Protocol
from core.evaluation.tasks import draw
from core.evaluation.truth import Truth
from core.gaussians import Gaussians
from core.images import resize_area
from core.options import CameraOptions
from core.options.eval import Baseline
from core.rendering import Renderer

CELLS = 96  # along an axis of the cube that is carved
OPACITY = 0.95
WHITE = 0.9  # a pixel is foreground where its smallest channel is below


def floors(
    truth: Truth,
    protocol: Protocol,
    baselines: Iterable[Baseline],
    camera: CameraOptions,
    renderer: Renderer,
    device: torch.device,
) -> Iterator[tuple[str, Prediction]]:
    """The asked ones of ``hull`` and ``mean``, for the task of reconstruction; a hull needs true side views."""
    if protocol.task != "reconstruct":
        return
    if "hull" in baselines and truth.sides is not None:
        cameras = input_cameras(size=truth.front.shape[-1], radius=camera.cam_radius, fovy=camera.fovy)
        half = camera.cam_radius * math.tan(math.radians(camera.fovy) / 2)
        sets = hull_gaussians(truth.front, truth.sides, cameras, half)
        yield "hull", draw(renderer, sets.to(device), truth.cameras, protocol)
    if "mean" in baselines:
        yield "mean", mean_image(truth)


def hull_gaussians(front: Tensor, sides: Tensor, cameras: Cameras, half: float) -> Gaussians:
    """The surface of the visual hull of every frame as Gaussians, coloured by the nearest camera.

    The front silhouette is that of the frame, the others are those of frame 0, as networks see them.

    Args:
        front: ``[T, 3, S, S]`` on white.
        sides: ``[3, 3, S, S]`` on white.
        cameras: of the four views ``[4]``.
        half: half a side of the cube that is carved, world units.

    Returns:
        leading axes ``[T]``; frames with fewer Gaussians are filled up with transparent ones.
    """
    spacing = 2 * half / CELLS
    axis = (torch.arange(CELLS) + 0.5) * spacing - half
    points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).reshape(-1, 3)
    nearest = (points @ cameras.positions.T).argmax(dim=-1)
    still = [_look(cameras[1 + i], image, points) for i, image in enumerate(sides)]
    carved = torch.ones(len(points), dtype=torch.bool)
    for _, inside in still:
        carved &= inside
    frames = []
    for image in front:
        colors, inside = _look(cameras[0], image, points)
        surface = _surface(inside & carved)
        colors = torch.stack([colors, *(other for other, _ in still)])[nearest[surface], surface]
        frames.append((points[surface], colors))
    count = max(1, *(len(means) for means, _ in frames))
    opacities = torch.stack([_filled(torch.full((len(means),), OPACITY), count) for means, _ in frames])
    means, colors = (torch.stack([_filled(frame[i], count) for frame in frames]) for i in range(2))
    quats = torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(*opacities.shape, 4)
    scales = torch.full((*opacities.shape, 3), 0.6 * spacing)
    return Gaussians(means=means, opacities=opacities, scales=scales, quats=quats, colors=colors)


def mean_image(truth: Truth) -> Prediction:
    """The mean of the input images of each time, whichever camera looks."""
    size = truth.images.shape[-2:]
    inputs = truth.front[:, None]
    if truth.sides is not None:
        inputs = torch.cat([inputs, truth.sides.expand(len(inputs), *truth.sides.shape)], dim=1)
    inputs = resize_area(inputs, tuple(size))
    alpha = (inputs.amin(dim=2, keepdim=True) < WHITE).float().mean(dim=1, keepdim=True)
    shape = truth.images.shape[:2]
    return Prediction(inputs.mean(dim=1, keepdim=True).expand(*shape, 3, *size), alpha.expand(*shape, 1, *size))


def _look(camera: Cameras, image: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Colours ``[N, 3]`` of an image ``[3, S, S]`` where points lie in it, and which lie on its foreground ``[N]``."""
    pixels, _ = camera.project(points)
    grid = 2 * pixels / image.shape[-1] - 1
    layers = torch.cat([image, (image.amin(dim=0, keepdim=True) < WHITE).to(image)])
    found = rearrange(F.grid_sample(layers[None], grid[None, None], align_corners=False), "1 c 1 n -> n c")
    return found[:, :3], found[:, 3] > 0.5


def _surface(inside: Tensor) -> Tensor:
    """Indices of the cells inside that touch one outside."""
    outside = rearrange(~inside, "(x y z) -> 1 1 x y z", x=CELLS, y=CELLS).float()
    touched = F.max_pool3d(F.pad(outside, (1,) * 6, value=1.0), 3, stride=1).flatten() > 0
    return (inside & touched).nonzero().squeeze(-1)


def _filled(values: Tensor, count: int) -> Tensor:
    return torch.cat([values, values.new_zeros(count - len(values), *values.shape[1:])])
