"""View generators: models that make the first frame's other views where there are no image files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from core.conventions import INPUT_AZIMUTHS
from core.errors import UserError
from core.gaussians import Gaussians
from core.multiview.diffusion import PICTURE_SIZE, MultiViewDiffusion, Sampling
from core.multiview.hub import INSTALL, fetch_command, find_folder, missing_libraries
from core.multiview.single_view import variants_of, views_from_frame
from core.options.side_views import SideViewOptions
from core.options.views import ViewOptions
from core.rendering.orbit import OrbitRenderer

Frame = Callable[[int], Tensor]
"""Side in pixels -> the first frame ``[3, side, side]`` in [0, 1]."""


@dataclass(frozen=True)
class CandidateViews:
    """Four views of the first frame that need not be consistent in 3D.

    Attributes:
        label: name of the candidate.
        images: ``[4, 3, S, S]`` in [0, 1].
    """

    label: str
    images: Tensor


class ViewGenerator(Protocol):
    """Makes views of a frame."""

    origin: str

    def generate(self, frame: Frame, count: int, azimuths: Sequence[float]) -> Iterator[CandidateViews]:
        """Up to ``count`` different candidates, made one by one; what cannot be made is refused at once.

        Args:
            frame: the first frame at any size.
            count: number of candidates.
            azimuths: of the four views, degrees from the frame's own direction.
        """
        ...


@dataclass(frozen=True)
class SingleViewGenerator:
    """The single-view model. It is deterministic: candidates differ in the input, which is mirrored or scaled.

    Attributes:
        size: side of the model's input in pixels.
        reconstruct: as in `views_from_frame`.
        orbit: renders.
    """

    size: int
    reconstruct: Callable[[Tensor], Gaussians]
    orbit: OrbitRenderer
    origin: str = "single-view model"

    def generate(self, frame: Frame, count: int, azimuths: Sequence[float]) -> Iterator[CandidateViews]:
        """As many as there are variants of the picture, at any azimuths."""
        picture = frame(self.size)
        for variant in variants_of(picture, count):
            frame_and_views = views_from_frame(
                picture, self.reconstruct, lambda gaussians: self.orbit(gaussians, (0.0, *azimuths)), variant
            )
            views = [frame_and_views[0 if azimuth % 360 == 0 else 1 + k] for k, azimuth in enumerate(azimuths)]
            yield CandidateViews(str(variant), torch.stack(views))


@dataclass(frozen=True)
class ImageDreamGenerator:
    """ImageDream. Candidates are its seeds.

    Attributes:
        diffusion, sampling: what draws, and how.
        seed: of the first candidate.
        prompt: what the picture shows; may be empty.
    """

    diffusion: MultiViewDiffusion
    sampling: Sampling
    seed: int
    prompt: str = ""
    origin: str = "ImageDream"

    def generate(self, frame: Frame, count: int, azimuths: Sequence[float]) -> Iterator[CandidateViews]:
        """Views at steps of 90 degrees. Raises `UserError` for other azimuths."""
        turns = [azimuth % 360 for azimuth in azimuths]
        if not set(turns) <= set(INPUT_AZIMUTHS):
            raise UserError(
                f"ImageDream makes views at steps of 90 degrees, not at {list(azimuths)}; give all four images, or use "
                f"--view_generator single-view for the missing ones"
            )
        seeds = range(self.seed, self.seed + count)
        order = [INPUT_AZIMUTHS.index(turn) for turn in turns]
        return self._drawn(frame, seeds, order)

    def _drawn(self, frame: Frame, seeds: Sequence[int], order: Sequence[int]) -> Iterator[CandidateViews]:
        generated = self.diffusion.views(frame(PICTURE_SIZE), self.prompt, seeds, self.sampling)
        for seed, images in zip(seeds, generated, strict=True):
            yield CandidateViews(f"seed {seed}", images[order])


def choose_generator(
    side_views: SideViewOptions, options: ViewOptions
) -> tuple[Literal["imagedream", "single-view"], str]:
    """The view generator of the options, for ``auto`` the one that can run here; and the reason."""
    if side_views.view_generator in ("imagedream", "single-view"):
        return side_views.view_generator, "as asked for with --view_generator"
    if side_views.view_generator == "published":
        return "imagedream", "the published programs always take it"
    folder, missing = find_folder(options.imagedream), missing_libraries()
    if folder is None:
        why = f"the weights of ImageDream are not on this machine; fetch them with: {fetch_command(options.imagedream)}"
        return "single-view", why
    if missing:
        return "single-view", f"ImageDream is in {folder}, but it needs {' and '.join(missing)}: {INSTALL}"
    return "imagedream", f"its weights are in {folder}"
