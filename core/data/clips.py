"""Clip tars in the published layout: what is in them, their cameras, and single images out of them.

A clip is two tars: sixteen fixed cameras on the horizon (view ids 32..47, azimuth 22.5 degrees times id - 32) and
random cameras (view ids 0..31). Inside: ``./VVV/img/TTT.jpg`` (colour on white), ``./VVV/mask/TTT.png`` (alpha) and
``./VVV/camera/{elevation,rotation}.npy`` (degrees per frame). A tar may hold fewer views than the published ones.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from PIL import Image, ImageChops
from torch import Tensor

from core.cameras import Cameras, orbit_cameras
from core.conventions import FOVY, ORBIT_RADIUS

FIXED_VIEW_OFFSET = 32
"""View ids of the fixed tar start here; those of the random tar at 0."""
TAR_KINDS = {
    "3d": ("fixed_16_clip", "random_clip"),
    "4d": ("fixed_16_clip", "random_clip"),
    "4d_interp": ("fixed_16_24fps", "random_24fps"),
}
"""Data mode -> prefixes of the fixed and the random tar's file name."""

_MEMBER = re.compile(r"(?:\./)?(\d{3})/(?:(img)/(\d{3})\.jpg|(mask)/(\d{3})\.png|camera/(elevation|rotation)\.npy)")
_OUTSIDE = [255] + 255 * [0]  # where alpha is 0
_IMAGE_ERRORS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


class BrokenClip(Exception):
    """A clip that cannot be used, and why. Picklable, for worker processes."""

    def __init__(self, clip: str, reason: str) -> None:
        super().__init__(clip, reason)
        self.clip, self.reason = clip, reason

    def __str__(self) -> str:
        return f"{self.clip}: {self.reason}"


@dataclass(frozen=True)
class _View:
    members: np.ndarray  # [frames, 2 (image, mask), 2 (offset, size)] in bytes
    azimuth: np.ndarray  # [frames] degrees
    elevation: np.ndarray  # [frames] degrees, positive above the horizon


class Clip:
    """One indexed clip: reads only the requested images and leaves no file open.

    Attributes:
        name: its line in the list.
        view_ids: the available views, ascending.
        num_frames: frames that every view has.

    Raises:
        BrokenClip: a tar is missing or truncated, lacks a member, or holds cameras that are not finite.
    """

    def __init__(self, home: Path, name: str, mode: str = "4d") -> None:
        self.name = name
        self._views: dict[int, tuple[Path, _View]] = {}
        for kind, first_id in zip(TAR_KINDS[mode], (FIXED_VIEW_OFFSET, 0), strict=True):
            path = home / f"{kind}-{name.replace('/', '-')}"
            try:
                views = _index_tar(path, path.stat().st_mtime_ns)
            except (OSError, EOFError, tarfile.TarError, ValueError) as error:
                raise BrokenClip(name, f"{path.name}: {error}") from error
            self._views |= {first_id + view: (path, entry) for view, entry in views.items()}
        self.view_ids = tuple(sorted(self._views))
        self.num_frames = min(len(view.members) for _, view in self._views.values())

    def azimuth(self, view_id: int) -> float:
        """Degrees, of the first frame."""
        return self.angles(view_id)[0]

    def angles(self, view_id: int) -> tuple[float, float]:
        """Azimuth and elevation in degrees, of the first frame; positive elevation is above the horizon."""
        view = self._views[view_id][1]
        return float(view.azimuth[0]), float(view.elevation[0])

    def cameras(
        self,
        view_ids: Sequence[int],
        frames: Sequence[int],
        *,
        size: int,
        radius: float = ORBIT_RADIUS,
        fovy: float = FOVY,
    ) -> Cameras:
        """Cameras ``[T, V]`` in float64 for images of ``size`` pixels; radius in world units, fovy in degrees."""
        views = [self._views[view_id][1] for view_id in view_ids]
        angles = np.array([[[view.azimuth[t], view.elevation[t]] for view in views] for t in frames])
        azimuth, elevation = torch.from_numpy(angles).unbind(-1)
        return orbit_cameras(azimuth, elevation, radius=radius, fovy=fovy, size=(size, size), dtype=torch.float64)

    def read(self, view_ids: Sequence[int], frames: Sequence[int], size: int) -> tuple[Tensor, Tensor]:
        """Decode images and masks and resample them to ``size`` pixels.

        Returns:
            images ``[T, V, 3, size, size]`` RGB on white and masks ``[T, V, 1, size, size]``, both in [0, 1].

        Raises:
            BrokenClip: an image cannot be decoded, is not square or differs in size from its mask.
        """
        images = np.empty((len(frames), len(view_ids), size, size, 3), np.uint8)
        masks = np.empty((len(frames), len(view_ids), size, size, 1), np.uint8)
        for v, view_id in enumerate(view_ids):
            path, view = self._views[view_id]
            try:
                with path.open("rb") as file:
                    for t, frame in enumerate(frames):
                        picture, mask = _decode_pair(file, view.members[frame], size)
                        images[t, v], masks[t, v] = picture, np.asarray(mask)[..., None]
            except _IMAGE_ERRORS as error:
                raise BrokenClip(self.name, f"{path.name}: view {view_id}, frame {frame}: {error}") from error
        channels_first = "t v h w c -> t v c h w"
        return (
            rearrange(torch.from_numpy(images), channels_first).float() / 255.0,
            rearrange(torch.from_numpy(masks), channels_first).float() / 255.0,
        )


@lru_cache(maxsize=4096)  # an index is a few kilobytes; every worker has its own cache
def _index_tar(path: Path, mtime_ns: int) -> dict[int, _View]:
    """Offsets of the members, and camera angles. The modification time makes a replaced tar get a new index."""
    images: dict[int, dict[int, list]] = {}
    angles: dict[int, dict[str, np.ndarray]] = {}
    with tarfile.open(path, "r:") as tar:  # a compressed tar has no random access and is refused
        for member in tar:
            match = _MEMBER.fullmatch(member.name)
            if match is None:
                continue
            view, angle = int(match[1]), match[6]
            if angle:
                angles.setdefault(view, {})[angle] = _read_angles(tar, member)
            else:
                frame, slot = int(match[3] or match[5]), int(match[4] is not None)
                entry = images.setdefault(view, {}).setdefault(frame, [None, None])
                entry[slot] = (member.offset_data, member.size)
    if not images:
        raise ValueError("holds no views")
    return {view: _make_view(view, frames, angles.get(view, {})) for view, frames in sorted(images.items())}


def _read_angles(tar: tarfile.TarFile, member: tarfile.TarInfo) -> np.ndarray:
    values = np.lib.format.read_array(io.BytesIO(tar.extractfile(member).read()), allow_pickle=False)
    values = np.asarray(values, np.float64).reshape(-1)
    if not np.isfinite(values).all():
        raise ValueError(f"{member.name} holds values that are not finite")
    if member.name.endswith("elevation.npy") and (np.abs(values) >= 90).any():
        raise ValueError(f"{member.name} holds an elevation outside (-90, 90) degrees")
    return values


def _make_view(view: int, frames: dict[int, list], angles: dict[str, np.ndarray]) -> _View:
    for frame in range(max(frames) + 1):
        for slot, what in enumerate(("image", "mask")):
            if frame not in frames or frames[frame][slot] is None:
                raise ValueError(f"view {view:03d} has no {what} of frame {frame:03d}")
    for what in ("elevation", "rotation"):
        if len(angles.get(what, ())) < len(frames):
            raise ValueError(
                f"view {view:03d} has {len(angles.get(what, ()))} values in camera/{what}.npy for {len(frames)} frames"
            )
    members = np.array([frames[frame] for frame in range(len(frames))], np.int64)
    return _View(members, azimuth=angles["rotation"], elevation=angles["elevation"])


def _decode_pair(file: io.BufferedReader, members: np.ndarray, size: int) -> tuple[Image.Image, Image.Image]:
    picture, mask = (_decode(file, *member, mode) for member, mode in zip(members, ("RGB", "L"), strict=True))
    if picture.size != mask.size or picture.width != picture.height:
        raise ValueError(f"image {picture.size} and mask {mask.size} must be square and of one size")
    # The picture is on white already; a second blend would lighten soft edges. Only JPEG artefacts outside the
    # silhouette are removed.
    outside = mask.point(_OUTSIDE)
    picture = ImageChops.lighter(picture, Image.merge("RGB", [outside] * 3))
    return _resample(picture, size), _resample(mask, size)


def _decode(file: io.BufferedReader, offset: int, length: int, mode: str) -> Image.Image:
    file.seek(offset)
    return Image.open(io.BytesIO(file.read(length))).convert(mode)


def _resample(image: Image.Image, size: int) -> Image.Image:
    """Area average where the image shrinks (nearest, as published, aliases), bilinear where it grows."""
    if image.width == size:
        return image
    return image.resize((size, size), Image.Resampling.BOX if size < image.width else Image.Resampling.BILINEAR)
