"""One object of a protocol: inputs, compared cameras and ground-truth images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from core.cameras import Cameras
from core.conventions import INPUT_AZIMUTHS
from core.data.clips import FIXED_VIEW_OFFSET, BrokenClip, Clip
from core.data.lists import read_groups
from core.data.views import SAME_AZIMUTH, first_view_in_front
from core.errors import UserError
from core.evaluation.protocol import Protocol
from core.images import resize_area
from core.options import CameraOptions

SIDE_AZIMUTHS = INPUT_AZIMUTHS[1:]


@dataclass(frozen=True)
class GroundTruth:
    """One object.

    Attributes:
        name: its line in the list or its folder.
        front: the input video, ``[T, 3, R, R]`` in [0, 1] on white.
        cameras: of the compared images ``[T, V]``; azimuth 0 is the camera of the input video.
        images: ``[T, V, 3, S, S]`` on the protocol's background.
        alpha: ``[T, V, 1, S, S]``; None where the images have none.
        views: names of the V cameras.
        frames: numbers of the T frames in the object; they may repeat.
        first_sides: ground-truth views of frame 0 at 90, 180, 270 degrees ``[3, 3, R, R]``; None if they are not an
            input.
        oracle_sides: those of every frame ``[T, 3, 3, R, R]``, for an upper bound; None where they are not known.
    """

    name: str
    front: Tensor
    cameras: Cameras
    images: Tensor
    alpha: Tensor | None
    views: tuple[str, ...]
    frames: tuple[int, ...]
    first_sides: Tensor | None = None
    oracle_sides: Tensor | None = None

    def first_frame(self, size: int) -> Tensor:
        """Frame 0 of the input video ``[3, size, size]``."""
        return resize_area(self.front[0], (size, size))

    @property
    def motion(self) -> float:
        """PSNR in dB of the first ground-truth images at all later times; 100 for an object that does not move.

        From the mean squared error over frames and views: the upper bound of a static prediction.
        """
        if len(self.images) < 2:
            return 100.0
        error = (self.images[1:] - self.images[:1]).square().mean()
        return float(-10 * error.clamp_min(1e-10).log10())


@dataclass(frozen=True)
class Prediction:
    """Prediction of one object by a system.

    Attributes:
        images: ``[T, V, 3, S, S]`` in [0, 1], the counterpart of `GroundTruth.images`.
        alpha: ``[T, V, 1, S, S]``; None where a system gives none.
    """

    images: Tensor
    alpha: Tensor | None


@dataclass(frozen=True)
class ClipSource:
    """The objects of a protocol as rendered clips.

    Args:
        protocol: which objects, frames and cameras.
        home: folder of the tars.
        camera: the orbit they were rendered from.
        size: side S of the compared images.
        input_size: side R of the input images.
    """

    protocol: Protocol
    home: Path
    camera: CameraOptions
    size: int
    input_size: int

    def names(self) -> list[str]:
        """Objects, in order.

        Raises:
            UserError: the list is missing or empty.
        """
        if self.protocol.objects:
            return list(self.protocol.objects)
        groups = read_groups(self.protocol.list)
        return [name for group in groups for name in (group[:1] if self.protocol.clips == "first" else group)]

    def load(self, name: str) -> GroundTruth:
        """Read one object.

        Raises:
            UserError: the clip is broken or lacks what the protocol needs.
        """
        try:
            clip = Clip(self.home, name, "4d" if self.protocol.frame_rate == 8 else "4d_interp")
            return self._load(clip)
        except BrokenClip as error:
            raise UserError(
                f"protocol {self.protocol.name}: {error}; render the clip again, see docs/data.md"
            ) from error

    def _load(self, clip: Clip) -> GroundTruth:
        protocol, camera = self.protocol, self.camera
        order = protocol.frame_numbers()
        frames = sorted(set(order))
        if clip.num_frames <= frames[-1]:
            raise BrokenClip(clip.name, f"has {clip.num_frames} frames, the protocol needs {frames[-1] + 1}")
        ids, views = self._compared_views(clip)
        ids = [find_view(clip, protocol.input_azimuth, 0.0), *ids]
        images, alpha = clip.read(ids, frames, max(self.size, self.input_size))
        cameras = clip.cameras(ids, frames, size=self.size, radius=camera.cam_radius, fovy=camera.fovy)
        cameras = first_view_in_front(cameras, camera.cam_radius).to(torch.float32)
        true_images, true_alpha = (resize_area(x[:, 1:], (self.size, self.size)) for x in (images, alpha))
        at = torch.tensor([frames.index(frame) for frame in order])
        sides = self._side_views(clip, frames) if protocol.side_views == "first" else None
        return GroundTruth(
            name=clip.name,
            front=resize_area(images[:, 0], (self.input_size, self.input_size))[at],
            cameras=cameras[at, 1:],
            images=on_background(true_images, true_alpha, protocol.background)[at],
            alpha=true_alpha[at],
            views=views,
            frames=tuple(order),
            first_sides=None if sides is None else sides[0],
            oracle_sides=None if sides is None else sides[at],
        )

    def _compared_views(self, clip: Clip) -> tuple[list[int], tuple[str, ...]]:
        """Ids and names of the compared views."""
        protocol = self.protocol
        if protocol.azimuths == "random":
            ids = [view for view in clip.view_ids if view < FIXED_VIEW_OFFSET]
            if not ids:
                raise BrokenClip(clip.name, "has no random views")
            return ids, tuple(f"random_{view:02d}" for view in ids)
        ids = [find_view(clip, protocol.input_azimuth + a, protocol.elevation) for a in protocol.azimuths]
        return ids, tuple(f"{azimuth:g}" for azimuth in protocol.azimuths)

    def _side_views(self, clip: Clip, frames: Sequence[int]) -> Tensor:
        """True side views ``[T, 3, 3, R, R]`` of these frames."""
        ids = [find_view(clip, self.protocol.input_azimuth + azimuth, 0.0) for azimuth in SIDE_AZIMUTHS]
        return clip.read(ids, frames, self.input_size)[0]


def find_view(clip: Clip, azimuth: float, elevation: float) -> int:
    """The view of a clip at these degrees, within half a degree.

    Raises:
        BrokenClip: there is none.
    """
    angles = {view: clip.angles(view) for view in clip.view_ids}
    for view, (a, e) in angles.items():
        if abs((a - azimuth + 180) % 360 - 180) < SAME_AZIMUTH and abs(e - elevation) < SAME_AZIMUTH:
            return view
    level = sorted({round(a, 1) for a, e in angles.values() if abs(e) < SAME_AZIMUTH})
    raise BrokenClip(
        clip.name,
        f"has no view at azimuth {azimuth:g}, elevation {elevation:g}; on the horizon it has {level}",
    )


def on_background(images: Tensor, alpha: Tensor, background: Sequence[float]) -> Tensor:
    """Images on white ``[..., 3, H, W]`` with their alpha, composited on another colour."""
    if tuple(background) == (1.0, 1.0, 1.0):
        return images
    color = images.new_tensor(background)[:, None, None]
    return (images - (1 - alpha) * (1 - color)).clamp(0, 1)


def file_name(name: str) -> str:
    """An object's name as that of a file or folder: without folders and without .tar."""
    return name.removesuffix(".tar").replace("/", "-")
