"""Clips whose surfaces are known become samples of the motion network: a first frame, a later frame, the true motion.

Many samples from few clips: any of the four views is the front; the later frame may be seen from another of them, which
is a turn of the object; images roll about their axis; colours change. A share of the later frames are renders of the
first frame's own Gaussians in random poses, which teach to compare.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from core.conventions import INPUT_AZIMUTHS
from core.data.clips import BrokenClip, Clip
from core.errors import UserError, reason
from core.gaussians import Gaussians, combine
from core.inference.network import Network
from core.motion.augment import Samples, recoloured, rolled
from core.options import CameraOptions
from core.rendering import Renderer
from core.rotations import quaternion_product, turn
from core.tracking.deformation import quaternion_of, rotation_matrix
from core.tracking.pose import Pose, centre_of, posed, rotation_vector
from core.tracking.prediction import cut, object_share, reach_of, windows

POINTS, GAUSSIANS = 512, 8192  # of a clip that count
_SHOWN = 0.02  # Gaussians below are left out


@dataclass(frozen=True)
class MovingClip:
    """A clip in memory.

    Attributes:
        images: ``[F, 4, 3, S, S]`` uint8, from azimuth 0, 90, 180, 270.
        points: on the surface ``[F, P, 3]``, world units.
        first: Gaussians of frame 0, no leading axes, `GAUSSIANS` of them.
        share: of the images that the object needs, see `object_share`.
        pack: what the list calls the clip up to the first dash; packs of many clips count less a clip.
    """

    images: Tensor
    points: Tensor
    first: Gaussians
    share: float
    pack: str

    @property
    def weight(self) -> float:
        """How often it is drawn: clips that hardly move a quarter to a fifth as often."""
        return 0.25 + min(1.0, 10 * float((self.points - self.points[:1]).norm(dim=-1).mean()))


def points_path(home: Path, line: str) -> Path:
    """File with the surface points of a clip, beside its tars; ``line``: its entry in a list of clips."""
    return home / f"points-{line.removesuffix('.tar').replace('/', '-')}.npy"


def load_clip(home: Path, line: str, network: Network) -> MovingClip:
    """One clip of a list.

    Args:
        home: folder of the clips.
        line: of the list.
        network: makes the first frame's Gaussians from its four views.

    Raises:
        UserError: the clip is broken, lacks a view, or its file of points is missing or does not fit.
    """
    path = points_path(home, line)
    try:
        clip = Clip(home, line)
        views = [view for azimuth in INPUT_AZIMUTHS for view in clip.view_ids if clip.angles(view) == (azimuth, 0.0)]
        if len(views) != len(INPUT_AZIMUTHS):
            raise BrokenClip(line, "it has not one view each at azimuth 0, 90, 180 and 270, elevation 0")
        images = clip.read(views, range(clip.num_frames), network.size)[0]
        points = torch.from_numpy(np.load(path, allow_pickle=False)).float()
    except BrokenClip as error:
        raise UserError(f"{error}; render it again") from error
    except (OSError, ValueError, EOFError) as error:
        raise UserError(
            f"cannot read the surface points {path} ({reason(error)}); make them with blender_scripts/export_points.py"
        ) from error
    if points.ndim != 3 or points.shape[2] != 3 or len(points) != len(images) or len(images) < 2:
        raise UserError(
            f"{path} holds {tuple(points.shape)} and the clip has {len(images)} frames; wanted [frames, points, 3] and "
            f"two frames or more. Make the points again with blender_scripts/export_points.py"
        )
    first = network.reconstruct(images[:1, 0], images[0, 1:])[0].to("cpu").to(torch.float32)
    first = _most_opaque(first)
    share, pack = object_share(first, network.camera), line.split("-")[0]
    return MovingClip((255 * images).round().byte(), points[:, :POINTS].clone(), first, share, pack)


def _most_opaque(gaussians: Gaussians) -> Gaussians:
    """As many for every clip: those that count most, and transparent ones where there are fewer."""
    order = gaussians.opacities.argsort(descending=True)[:GAUSSIANS]
    kept = gaussians.select(order)
    kept = replace(kept, opacities=kept.opacities * (kept.opacities > _SHOWN))
    missing = GAUSSIANS - len(order)
    padded = kept.map(lambda x: torch.cat([x, x[-1:].expand(missing, *x.shape[1:])]))
    opacities = torch.cat([kept.opacities, kept.opacities.new_zeros(missing)])
    return replace(padded, opacities=opacities)


class SampleMaker:
    """Draws samples of clips.

    Args:
        clips: in memory.
        renderer: draws them.
        options: of the orbit.
        posed_share: of samples whose frame is a render in a random pose.
    """

    def __init__(
        self, clips: Sequence[MovingClip], renderer: Renderer, options: CameraOptions, posed_share: float
    ) -> None:
        self.clips, self.renderer, self.options, self.posed_share = clips, renderer, options, posed_share
        packs = Counter(clip.pack for clip in clips)
        weights = np.array([clip.weight / math.sqrt(packs[clip.pack]) for clip in clips])
        self._weights = weights / weights.sum()

    def draw(self, count: int, draw: np.random.Generator) -> Samples:
        """``count`` samples, of nothing but the generator's state."""
        chosen = draw.choice(len(self.clips), count, p=self._weights)
        made = [self._seen(self.clips[index], draw) for index in chosen]
        sets = combine([one.first for one in made], torch.stack)
        before, after, near, frames = (
            torch.stack([getattr(one, name) for one in made]) for name in ("before", "after", "near", "frame")
        )
        shares, centres = torch.tensor([one.share for one in made]), centre_of(sets)
        true, close = (rigid_motion(before, points, centres) for points in (after, near))
        start = Pose(*(torch.stack(parts) for parts in zip(*self._starts(true, close, shares, draw), strict=True)))
        samples = Samples(sets, centres, frames, shares, start, before, after)
        return rolled(recoloured(self._some_posed(samples, draw), draw), draw)

    def _seen(self, clip: MovingClip, draw: np.random.Generator) -> _Seen:
        """A first and a later frame, each with any of the four views as its front."""
        later, side = int(draw.integers(1, len(clip.images))), int(draw.integers(4))
        seen_from = (side + int(draw.choice([1, 1, 2, 3, 3]))) % 4 if draw.random() < 0.12 else side
        near = max(0, later - 1) if draw.random() < 0.7 else int(draw.integers(len(clip.images)))
        share = min(1.0, clip.share * draw.uniform(0.9, 1.1))
        frame = cut(clip.images[later, seen_from][None].float() / 255, share)[0]
        points = clip.points @ _about_y(-90.0 * seen_from).mT
        before = clip.points[0] @ _about_y(-90.0 * side).mT
        return _Seen(turn(clip.first, -90.0 * side), before, points[later], points[near], frame, share)

    def _starts(self, true: Pose, close: Pose, shares: Tensor, draw: np.random.Generator) -> list[Pose]:
        """No motion, the motion of a frame close by, or the true one; the last two with errors."""
        starts = []
        for k, reach in enumerate(reach_of(self.options, shares).tolist()):
            kind = draw.choice(3, p=[0.4, 0.35, 0.25])
            if kind == 0:
                starts.append(Pose(torch.zeros(3), torch.zeros(3)))
                continue
            base = (close, true)[kind - 1]
            starts.append(
                _disturbed(Pose(base.turn[k], base.shift[k]), 0.6 * draw.choice([0.1, 0.3, 0.6]), reach, draw)
            )
        return starts

    def _some_posed(self, samples: Samples, draw: np.random.Generator) -> Samples:
        """Some frames replaced by renders of the set in a random pose, which then is the truth."""
        rows = torch.from_numpy(draw.random(len(samples.shares)) < self.posed_share).nonzero()[:, 0]
        if not len(rows):
            return samples
        still = Pose(torch.zeros(3), torch.zeros(3))
        poses, starts = [], []
        for reach in reach_of(self.options, samples.shares[rows]).tolist():
            pose = _disturbed(still, 0.7 * draw.choice([0.15, 0.4, 0.8]), 1.2 * reach, draw)
            poses.append(pose)
            starts.append(still if draw.random() < 0.6 else _disturbed(pose, 0.3, 0.6 * reach, draw))
        pose, start = (Pose(*(torch.stack(parts) for parts in zip(*each, strict=True))) for each in (poses, starts))
        centres = samples.centres[rows]
        sets = posed(samples.sets.map(lambda field: field[rows]), pose, centres)
        drawn = self.renderer(sets, windows(self.options, samples.shares[rows])).image[:, 0].clamp(0, 1)
        return replace(
            samples,
            frames=samples.frames.index_copy(0, rows, drawn),
            after=samples.after.index_copy(0, rows, pose.applied_to(samples.before[rows], centres)),
            start=Pose(*(x.index_copy(0, rows, new) for x, new in zip(samples.start, start, strict=True))),
        )


@dataclass(frozen=True)
class _Seen:
    first: Gaussians
    before: Tensor
    after: Tensor
    near: Tensor
    frame: Tensor
    share: float


def rigid_motion(points: Tensor, target: Tensor, centres: Tensor) -> Pose:
    """The poses about ``centres`` ``[B, 3]`` that bring points ``[B, P, 3]`` nearest to ``[B, P, 3]`` (Kabsch 1976)."""
    middles = [x.mean(1, keepdim=True) for x in (points, target)]
    here, there = (x - middle for x, middle in zip((points, target), middles, strict=True))
    u, _, vh = torch.linalg.svd(here.mT @ there)
    signs = torch.ones_like(centres)
    signs[:, 2] = torch.linalg.det(u @ vh).sign()
    rotation = ((u * signs[:, None]) @ vh).mT
    shift = middles[1][:, 0] - centres - ((middles[0] - centres[:, None]) @ rotation.mT)[:, 0]
    return Pose(_vectors(rotation), shift)


def _vectors(rotations: Tensor) -> Tensor:
    """Rotation vectors ``[B, 3]`` of matrices ``[B, 3, 3]``: the quaternion is the eigenvector of a symmetric matrix of
    their entries (Bar-Itzhack 2000), exact for half turns too."""
    (a, b, c), (d, e, f), (g, h, i) = (row.unbind(-1) for row in rotations.unbind(-2))
    rows = [[a + e + i, h - f, c - g, d - b], [h - f, a - e - i, b + d, c + g],
            [c - g, b + d, e - a - i, f + h], [d - b, c + g, f + h, i - a - e]]  # fmt: skip
    quats = torch.linalg.eigh(torch.stack([torch.stack(row, -1) for row in rows], -2)).eigenvectors[..., -1]
    return rotation_vector(quats)


def _disturbed(pose: Pose, angle: float, reach: float, draw: np.random.Generator) -> Pose:
    """A pose ``[3]`` after a normal turn of ``angle`` radians and a shift of at most about a tenth of the reach."""
    turned = torch.from_numpy(draw.normal(size=3)).float() * angle
    shift = torch.from_numpy(draw.normal(size=3)).float() * (0.1 * reach * draw.random())
    quats = quaternion_product(quaternion_of(turned), quaternion_of(pose.turn))
    return Pose(rotation_vector(quats), pose.shift + shift)


def _about_y(degrees: float) -> Tensor:
    """The matrix of a turn about the y axis."""
    return rotation_matrix(quaternion_of(torch.tensor([0.0, math.radians(degrees), 0.0])))
