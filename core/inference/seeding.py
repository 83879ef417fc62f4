"""The first frame gets its other views: chosen seeder, own images, candidates and which of them is the best.

frame -> raw views (own images; a seeder for the rest) -> fused into Gaussians -> aligned -> four consistent views
         └───────────── once for every candidate; the one that repeats the frame best is kept ───────────┘
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor

from core.cameras import INPUT_AZIMUTHS
from core.errors import UserError
from core.images import resize_area
from core.inference.lift import Lifted, lift
from core.inference.network import Network
from core.multiview.diffusion import PICTURE_SIZE, MultiViewDiffusion, Sampling
from core.multiview.files import load_views
from core.multiview.hub import INSTALL, fetch_command, find_folder, missing_libraries
from core.multiview.single_view import variants_of, views_from_frame
from core.options.side_views import SideViewOptions
from core.options.views import ViewOptions
from core.rendering.orbit import OrbitRenderer

BLANK = 0.03  # a frame that nowhere differs more from white shows nothing
IMAGE_FILES = "image files"
Frame = Callable[[int], Tensor]  # side in pixels -> the first frame [3, side, side]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RawViews:
    """Four views that need not agree in 3D.

    Attributes:
        label: which candidate this is, in words.
        images: ``[4, 3, S, S]`` in [0, 1].
    """

    label: str
    images: Tensor


class Seeder(Protocol):
    """Makes raw views of a frame."""

    origin: str

    def draw(self, frame: Frame, count: int, azimuths: Sequence[float]) -> Iterator[RawViews]:
        """Up to ``count`` different sets of views; ``azimuths``: degrees from the frame's own direction."""
        ...


@dataclass(frozen=True)
class SingleViewSeeder:
    """The single-view model. It is not random: candidates show it the picture mirrored and in other sizes."""

    network: Network
    orbit: OrbitRenderer
    origin: str = "single-view model"

    def draw(self, frame: Frame, count: int, azimuths: Sequence[float]) -> Iterator[RawViews]:
        """As many as there are ways to show the picture. Every azimuth can be drawn."""
        picture = frame(self.network.size)
        for variant in variants_of(picture, count):
            frame_and_views = views_from_frame(
                picture, self.network.reconstruct, lambda sets: self.orbit(sets, (0.0, *azimuths)), variant
            )
            views = [frame_and_views[0 if azimuth % 360 == 0 else 1 + k] for k, azimuth in enumerate(azimuths)]
            yield RawViews(str(variant), torch.stack(views))


@dataclass(frozen=True)
class ImageDreamSeeder:
    """ImageDream. Candidates are its seeds."""

    diffusion: MultiViewDiffusion
    sampling: Sampling
    seed: int
    origin: str = "ImageDream"

    def draw(self, frame: Frame, count: int, azimuths: Sequence[float]) -> Iterator[RawViews]:
        """Views at steps of 90 degrees. Raises `UserError` for other azimuths."""
        turns = [azimuth % 360 for azimuth in azimuths]
        if not set(turns) <= set(INPUT_AZIMUTHS):
            raise UserError(
                f"ImageDream makes views at steps of 90 degrees, not at {list(azimuths)}; give all four images, or use "
                f"--view_generator single-view for the missing ones"
            )
        seeds = range(self.seed, self.seed + count)
        order = [INPUT_AZIMUTHS.index(turn) for turn in turns]
        drawn = self.diffusion.views(frame(PICTURE_SIZE), "", seeds, self.sampling)
        for seed, images in zip(seeds, drawn, strict=True):
            yield RawViews(f"seed {seed}", images[order])


@dataclass(frozen=True)
class Chosen:
    """The best candidate.

    Attributes:
        lifted: its aligned Gaussians.
        raw: its raw views.
        origin: what made them, in words.
        ranking: of all candidates, best first: label, pose, error and PSNR against the frame.
    """

    lifted: Lifted
    raw: RawViews
    origin: str
    ranking: list[dict[str, object]]


def choose_seeder(
    side_views: SideViewOptions, options: ViewOptions
) -> tuple[Literal["imagedream", "single-view"], str]:
    """Who makes views, and why, where there are no image files."""
    if side_views.view_generator in ("imagedream", "single-view"):
        return side_views.view_generator, "as asked for with --view_generator"
    folder, missing = find_folder(options.imagedream), missing_libraries()
    if folder is None:
        why = f"the weights of ImageDream are not on this machine; fetch them with: {fetch_command(options.imagedream)}"
        return "single-view", why
    if missing:
        return "single-view", f"ImageDream is in {folder}, but it needs {' and '.join(missing)}: {INSTALL}"
    return "imagedream", f"its weights are in {folder}"


def seed_views(
    name: str,
    frame: Frame,
    files: Mapping[int, Path],
    seeder: Callable[[], Seeder],
    network: Network,
    orbit: OrbitRenderer,
    options: ViewOptions,
) -> Chosen:
    """Make raw views of a frame, lift them, keep the best.

    Args:
        name: of the video, for messages.
        frame: its first frame.
        files: own raw views by number; they replace what a seeder makes, and with all four none is asked.
        seeder: called when one is needed.
        network: fuses the views.
        orbit: renders.
        options: candidates, azimuths, alignment.

    Raises:
        UserError: the frame is blank, an image or a model cannot be used.
    """
    shown = frame(network.size)
    if float((1 - shown).max()) < BLANK:
        raise UserError(
            f"the first frame of {name} is blank, there is nothing to lift; begin the video where the object is seen"
        )
    given = dict(zip(files, load_views(list(files.values())), strict=True)) if files else {}
    azimuths = options.view_azimuths if given else INPUT_AZIMUTHS
    origin, candidates = _candidates(frame, given, seeder, azimuths, options)
    lifted: list[tuple[Lifted, RawViews]] = []
    for raw in candidates:
        images = resize_area(raw.images, (network.size, network.size))
        fused = network.reconstruct(images[:1], images[1:], azimuths)
        found = lift(fused, shown, orbit, elevation=options.align_elevation, scale=options.align_scale)
        lifted.append((found, raw))
    lifted.sort(key=lambda entry: entry[0].error)
    ranking = [_describe(raw.label, found) for found, raw in lifted]
    if options.candidates > 1:
        for place, line in enumerate(ranking, 1):
            _log.info("%s: %d. %s: %.2f dB, azimuth %g", name, place, line["candidate"], line["psnr"], line["azimuth"])
    best, raw = lifted[0]
    return Chosen(best, raw, origin, ranking)


def _candidates(
    frame: Frame,
    given: Mapping[int, Tensor],
    seeder: Callable[[], Seeder],
    azimuths: Sequence[float],
    options: ViewOptions,
) -> tuple[str, Iterator[RawViews]]:
    """What makes the views, in words, and the views."""
    if len(given) == len(azimuths):
        return IMAGE_FILES, iter([RawViews(IMAGE_FILES, torch.stack([given[view] for view in sorted(given)]))])
    maker = seeder()
    # In the place of a given view anything may be drawn: the frame itself.
    drawn = maker.draw(frame, options.candidates, [0.0 if view in given else a for view, a in enumerate(azimuths)])
    if not given:
        return maker.origin, drawn

    def completed() -> Iterator[RawViews]:
        for raw in drawn:
            size = tuple(raw.images.shape[-2:])
            own = {view: resize_area(image, size).to(raw.images) for view, image in given.items()}
            yield RawViews(raw.label, torch.stack([own.get(k, image) for k, image in enumerate(raw.images)]))

    return f"{IMAGE_FILES} (views {', '.join(map(str, sorted(given)))}) and {maker.origin}", completed()


def _describe(label: str, lifted: Lifted) -> dict[str, object]:
    pose = {"azimuth": lifted.pose.azimuth, "elevation": lifted.pose.elevation, "scale": lifted.pose.scale}
    return {"candidate": label, **pose, "error": lifted.error, "psnr": -10 * math.log10(max(lifted.error, 1e-10))}
