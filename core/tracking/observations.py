"""What a tracked set is fitted to: the video, the first frame's views, and renders of the feed-forward sequence.

What is seen is trusted; what a network made up is trusted less: a feed-forward frame counts by how well it repeats its
own video frame, measured against the frame that repeats it best.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from core.cameras import Cameras, orbit_cameras
from core.conventions import INPUT_AZIMUTHS
from core.gaussians import Gaussians
from core.images import resize_area
from core.nano.scene import foreground
from core.options import CameraOptions
from core.rendering import Renderer
from core.rendering.orbit import render_in_parts

ELEVATIONS = (-10.0, 40.0)  # degrees, of the random cameras
SMALL = 64  # side in pixels at which poses are found
_FLOOR = 1e-5  # mean squared error below which feed-forward frames count alike


@dataclass(frozen=True)
class Views:
    """Images with their cameras.

    Attributes:
        cameras: ``[T, V]``.
        images: ``[T, V, 3, S, S]`` on white.
        alpha: ``[T, V, 1, S, S]``.
    """

    cameras: Cameras
    images: Tensor
    alpha: Tensor

    def __getitem__(self, index: object) -> Views:
        """Some of the times and views."""
        return Views(self.cameras[index], self.images[index], self.alpha[index])

    def resized(self, side: int) -> Views:
        """Smaller ones; pixels are averaged, coverage as colour."""
        images, alpha = (resize_area(x, (side, side)) for x in (self.images, self.alpha))
        return Views(self.cameras.resized((side, side)), images, alpha)


@dataclass(frozen=True)
class Observations:
    """All that one object is fitted to.

    Attributes:
        front: the video, ``V`` = 1.
        first: the four views of frame 0, ``T`` = 1; without side views the front alone.
        bank: the feed-forward sequence from random cameras.
        trust: of its frames ``[T]`` in [0, 1].
    """

    front: Views
    first: Views
    bank: Views
    trust: Tensor

    @cached_property
    def small(self) -> Views:
        """The video at `SMALL` pixels."""
        return self.front.resized(SMALL)

    @property
    def num_frames(self) -> int:
        """T, of the video."""
        return len(self.front.images)


def observe(
    front: Tensor,
    sides: Tensor | None,
    frames: Sequence[Gaussians],
    renderer: Renderer,
    camera: CameraOptions,
    generator: torch.Generator,
    others: Sequence[Gaussians] = (),
    bank_views: int = 6,
    bank_size: int = 128,
) -> Observations:
    """Gather the images, on the device that draws.

    Args:
        front: the video ``[T, 3, S, S]`` on white.
        sides: views 1..3 of frame 0 ``[3, 3, R, R]``; None: not known.
        frames: the feed-forward Gaussians of every frame.
        renderer: draws them.
        camera: the orbit.
        generator: draws random cameras, on the CPU.
        others: further reconstructions of frame 0; their mean image replaces its own in the bank.
        bank_views: images of each feed-forward frame.
        bank_size: their side in pixels.
    """
    device = frames[0].means.device if renderer.on_gpu else torch.device("cpu")

    video = orbit_views(front[:, None].to(device), INPUT_AZIMUTHS[:1], camera)
    first = video[:1] if sides is None else orbit_views(sides[None].to(device), INPUT_AZIMUTHS[1:], camera)
    versions = [others or frames[:1], *([one] for one in frames[1:])]
    bank = _bank(versions, renderer, camera, generator, bank_views, bank_size)
    errors = _front_errors(frames, video, renderer)
    return Observations(video, first, bank, (errors.min().clamp_min(_FLOOR) / errors.clamp_min(_FLOOR)).to(device))


def orbit_views(images: Tensor, azimuths: Sequence[float], camera: CameraOptions) -> Views:
    """Images ``[T, V, 3, S, S]`` on white, seen from V places on the orbit."""
    angles, size = torch.tensor(azimuths), tuple(images.shape[-2:])
    cameras = orbit_cameras(angles, 0.0, radius=camera.cam_radius, fovy=camera.fovy, size=size)
    images = images.float()
    return Views(cameras.to(images.device).expand(*images.shape[:2]), images, foreground(images))


def best_start(sets: Sequence[Gaussians], seen: Observations, renderer: Renderer) -> Gaussians:
    """Of some reconstructions of frame 0 the one that repeats its true views best."""

    def error(gaussians: Gaussians) -> float:
        pairs = ((views, render_in_parts(renderer, gaussians[None], views.cameras)[0]) for views in (front, seen.first))
        return sum(float((drawn - views.images).square().mean((2, 3, 4)).sum()) for views, drawn in pairs)

    front = seen.front[:1]
    return min(sets, key=error)


def _bank(
    frames: Sequence[Sequence[Gaussians]],
    renderer: Renderer,
    camera: CameraOptions,
    generator: torch.Generator,
    views: int,
    size: int,
) -> Views:
    """Of each frame the mean over its reconstructions. Azimuths are spread evenly from a random start for each frame,
    elevations are random."""
    steps = 360 * torch.arange(views) / views
    azimuths = steps + 360 * torch.rand(len(frames), 1, generator=generator)
    low, high = ELEVATIONS
    elevations = low + (high - low) * torch.rand(len(frames), views, generator=generator)
    cameras = orbit_cameras(azimuths, elevations, radius=camera.cam_radius, fovy=camera.fovy, size=(size, size))
    parts: list[tuple[Tensor, Tensor]] = []
    for t, versions in enumerate(frames):
        drawn = zip(*(render_in_parts(renderer, one[None], cameras[t : t + 1]) for one in versions), strict=True)
        parts.append(tuple(torch.stack(part).mean(0) for part in drawn))
    images, alpha = (torch.cat(part).clone() for part in zip(*parts, strict=True))
    return Views(cameras.to(images.device), images, alpha)


def _front_errors(frames: Sequence[Gaussians], video: Views, renderer: Renderer) -> Tensor:
    """Mean squared error of each feed-forward frame against its video frame ``[T]``."""
    pairs = enumerate(frames)
    drawn = torch.cat([render_in_parts(renderer, one[None], video.cameras[t : t + 1])[0] for t, one in pairs])
    return (drawn - video.images).square().mean((1, 2, 3, 4))
