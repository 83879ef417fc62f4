"""Baselines without a network: the visual hull of the input silhouettes, and the mean of the input images."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from core.cameras import Cameras, input_cameras
from core.evaluation.ground_truth import GroundTruth, Prediction
from core.evaluation.protocol import Protocol
from core.evaluation.systems import draw, stack
from core.gaussians import Gaussians
from core.images import resize_area
from core.options import CameraOptions
from core.options.eval import Baseline
from core.rendering import Renderer

CELLS = 96  # along each axis of the voxel grid
OPACITY = 0.95
WHITE = 0.9  # a pixel is foreground where its smallest channel is below


def baseline_predictions(
    ground_truth: GroundTruth,
    protocol: Protocol,
    baselines: Collection[Baseline],
    camera: CameraOptions,
    renderer: Renderer,
    device: torch.device,
) -> Iterator[tuple[str, Prediction]]:
    """``hull`` and ``mean`` if chosen, for the task of reconstruction; ``hull`` needs ground-truth side views."""
    if protocol.task != "reconstruct":
        return
    if "hull" in baselines and ground_truth.first_sides is not None:
        cameras = input_cameras(size=ground_truth.front.shape[-1], radius=camera.cam_radius, fovy=camera.fovy)
        half = camera.cam_radius * math.tan(math.radians(camera.fovy) / 2)
        gaussians = hull_gaussians(ground_truth.front, ground_truth.first_sides, cameras, half)
        yield "hull", draw(renderer, gaussians.to(device), ground_truth.cameras, protocol)
    if "mean" in baselines:
        yield "mean", mean_image(ground_truth)


def hull_gaussians(front: Tensor, sides: Tensor, cameras: Cameras, half: float) -> Gaussians:
    """The surface of every frame's visual hull as Gaussians, coloured by the nearest camera.

    The front silhouette is that of the frame, the others are those of frame 0, as in the networks' input.

    Args:
        front: ``[T, 3, S, S]`` on white.
        sides: ``[3, 3, S, S]`` on white.
        cameras: of the four views ``[4]``.
        half: half the side of the voxel grid, world units.

    Returns:
        leading axes ``[T]``; frames with fewer Gaussians are padded with transparent ones.
    """
    spacing = 2 * half / CELLS
    axis = (torch.arange(CELLS) + 0.5) * spacing - half
    points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).reshape(-1, 3)
    nearest = (points @ cameras.positions.T).argmax(dim=-1)
    sides_seen = [_sample(cameras[1 + i], image, points) for i, image in enumerate(sides)]
    carved = torch.stack([inside for _, inside in sides_seen]).all(dim=0)
    frames = []
    for image in front:
        front_colors, inside = _sample(cameras[0], image, points)
        surface = _surface(inside & carved)
        colors = torch.stack([front_colors, *(colors for colors, _ in sides_seen)])[nearest[surface], surface]
        frames.append(_isotropic(points[surface], colors, 0.6 * spacing))
    return stack(frames)


def _isotropic(means: Tensor, colors: Tensor, scale: float) -> Gaussians:
    """Round Gaussians ``[N]`` of one size."""
    return Gaussians(
        means=means,
        opacities=torch.full((len(means),), OPACITY),
        scales=torch.full_like(means, scale),
        quats=torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(len(means), 4),
        colors=colors,
    )


def mean_image(ground_truth: GroundTruth) -> Prediction:
    """The mean of the input images of each time, the same for every camera."""
    size = ground_truth.images.shape[-2:]
    inputs = ground_truth.front[:, None]
    if ground_truth.first_sides is not None:
        inputs = torch.cat(
            [inputs, ground_truth.first_sides.expand(len(inputs), *ground_truth.first_sides.shape)], dim=1
        )
    inputs = resize_area(inputs, tuple(size))
    alpha = (inputs.amin(dim=2, keepdim=True) < WHITE).float().mean(dim=1, keepdim=True)
    shape = ground_truth.images.shape[:2]
    return Prediction(inputs.mean(dim=1, keepdim=True).expand(*shape, 3, *size), alpha.expand(*shape, 1, *size))


def _sample(camera: Cameras, image: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Colours ``[N, 3]`` of an image ``[3, S, S]`` at projected points, and whether they lie on its foreground."""
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
