"""Guidance by name, and as a term of the fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from core.cameras import orbit_cameras
from core.gaussians import Gaussians
from core.guidance.base import Guidance
from core.guidance.imagedream import ImageDream
from core.guidance.svd import SvdDistillation, SvdFolder, SvdRefinement, VideoDiffusion
from core.guidance.zero123 import Zero123, Zero123Folder
from core.multiview.diffusion import MultiViewDiffusion
from core.multiview.repository import open_repository
from core.options import CameraOptions, RefineOptions, ViewOptions
from core.rendering import Renderer


def make_guidance(
    options: RefineOptions, views: ViewOptions, pictures: Tensor, device: torch.device, dtype: torch.dtype
) -> Guidance | None:
    """The guidance that the options name; None for none.

    Args:
        options: its name, its weights, renders a step.
        views: the weights of ImageDream, its text, whether to download.
        pictures: the video ``[T, 3, S, S]`` on white.
        device, dtype: of the networks.

    Raises:
        UserError: packages or weights are missing, or the weights are damaged.
    """
    count, where = options.guidance_views, (device, dtype)
    if options.guidance == "zero123":
        folder = Zero123Folder.open(options.zero123, views.download)
        return Zero123(folder, options.zero123, pictures, count, *where)
    if options.guidance == "imagedream":
        repository = open_repository(views.imagedream, "imagedream", views.download)
        return ImageDream(MultiViewDiffusion(repository, *where, offload=True), pictures, count, views.prompt)
    if options.guidance in ("svd", "svd-refine"):
        diffusion = VideoDiffusion(SvdFolder.open(options.svd, views.download).pipeline(*where))
        return (SvdDistillation if options.guidance == "svd" else SvdRefinement)(diffusion, pictures)
    return None


@dataclass(frozen=True)
class Guide:
    """Guidance as a term of the fit.

    Attributes:
        guidance: what judges.
        renderer, camera: what draws, and the orbit.
    """

    guidance: Guidance
    renderer: Renderer
    camera: CameraOptions

    def __call__(self, object_at: Callable[[Tensor], Gaussians], done: float, generator: torch.Generator) -> Tensor:
        """The loss of one step, see `Guidance.loss`.

        Args:
            object_at: numbers of frames ``[T]`` to Gaussians with leading axes ``[T]``.
            done: share of the steps that are done.
            generator: draws cameras and noise, on the CPU.
        """
        shot, camera = self.guidance.shot(generator), self.camera
        orbit = {"radius": camera.cam_radius, "fovy": camera.fovy, "size": (shot.size, shot.size)}
        gaussians = object_at(shot.frames)
        cameras = orbit_cameras(shot.azimuths, shot.elevations, **orbit).to(gaussians.means.device)
        image = self.renderer(gaussians, cameras).image
        return self.guidance.loss(image, shot, done, generator).to(image.device)
