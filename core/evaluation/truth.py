"""One object of a protocol: what systems see, from where they are looked at, and the true images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from core.cameras import Cameras
from core.data.clips import FIXED_VIEW_OFFSET, BrokenClip, Clip
from core.data.lists import read_groups
from core.data.views import SAME_AZIMUTH, first_view_in_front
from core.errors import UserError
from core.evaluation.protocol import Protocol
from core.images import resize_area
from core.options import CameraOptions

SIDES = (90.0, 180.0, 270.0)


@dataclass(frozen=True)
class Truth:
    """One object.

    Attributes:
        name: its line in the list or its folder.
        front: what the video shows, ``[T, 3, R, R]`` in [0, 1] on white.
        sides: true views of frame 0 at 90, 180, 270 degrees ``[3, 3, R, R]``; None if no system may see them.
        true_sides: those of every frame ``[T, 3, 3, R, R]``, for a bound; None where they are not at hand.
        cameras: ``[T, V]``, in the world in which azimuth 0 is the front video's camera.
        images: ``[T, V, 3, S, S]`` on the protocol's background.
        alpha: ``[T, V, 1, S, S]``; None where the images have none.
        views: names of the V cameras.
        frames: numbers of the T frames in the object; they may repeat.
    """

    name: str
    front: Tensor
    sides: Tensor | None
    cameras: Cameras
    images: Tensor
    alpha: Tensor | None
    views: tuple[str, ...]
    frames: tuple[int, ...]
    true_sides: Tensor | None = None

    def first_frame(self, size: int) -> Tensor:
        """Frame 0 of the front video ``[3, size, size]``."""
        return resize_area(self.front[0], (size, size))


@dataclass(frozen=True)
class ClipTruths:
    """The objects of a protocol as rendered clips.

    Args:
        protocol: which, and how.
        home: folder of the tars.
        camera: the orbit they were rendered from.
        size: side S of the compared images.
        input_size: side R of what systems see.
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

    def load(self, name: str) -> Truth:
        """Read one object.

        Raises:
            UserError: the clip is broken or has not what the protocol asks for.
        """
        try:
            return self._load(name)
        except BrokenClip as error:
            raise UserError(
                f"protocol {self.protocol.name}: {error}; render the clip again, see docs/data.md"
            ) from error

    def _load(self, name: str) -> Truth:
        protocol = self.protocol
        clip = Clip(self.home, name, "4d" if protocol.frame_rate == 8 else "4d_interp")
        order = protocol.frame_numbers()
        frames = sorted(set(order))
        if clip.num_frames <= frames[-1]:
            raise BrokenClip(name, f"has {clip.num_frames} frames, the protocol asks for {frames[-1] + 1}")
        front = find_view(clip, protocol.input_azimuth, 0.0)
        if protocol.azimuths == "random":
            ids = [view for view in clip.view_ids if view < FIXED_VIEW_OFFSET]
            views = tuple(f"random_{view:02d}" for view in ids)
        else:
            ids = [find_view(clip, protocol.input_azimuth + a, protocol.elevation) for a in protocol.azimuths]
            views = tuple(f"{azimuth:g}" for azimuth in protocol.azimuths)
        if not ids:
            raise BrokenClip(name, "has no random views")
        size = max(self.size, self.input_size)
        images, alpha = clip.read([front, *ids], frames, size)
        camera = self.camera
        cameras = clip.cameras([front, *ids], frames, size=self.size, radius=camera.cam_radius, fovy=camera.fovy)
        cameras = first_view_in_front(cameras, camera.cam_radius).to(torch.float32)
        true_images, true_alpha = (resize_area(x[:, 1:], (self.size, self.size)) for x in (images, alpha))
        at = torch.tensor([frames.index(frame) for frame in order])
        true_sides = self._sides(clip, frames) if protocol.side_views == "given" else None
        return Truth(
            name=name,
            front=resize_area(images[:, 0], (self.input_size, self.input_size))[at],
            sides=None if true_sides is None else true_sides[0],
            cameras=cameras[at, 1:],
            images=on_background(true_images, true_alpha, protocol.background)[at],
            alpha=true_alpha[at],
            views=views,
            frames=tuple(order),
            true_sides=None if true_sides is None else true_sides[at],
        )

    def _sides(self, clip: Clip, frames: Sequence[int]) -> Tensor:
        ids = [find_view(clip, self.protocol.input_azimuth + azimuth, 0.0) for azimuth in SIDES]
        return clip.read(ids, frames, self.input_size)[0]


def find_view(clip: Clip, azimuth: float, elevation: float) -> int:
    """The view of a clip at these degrees, within half a degree.

    Raises:
        BrokenClip: there is none.
    """
    there = {view: clip.angles(view) for view in clip.view_ids}
    for view, (a, e) in there.items():
        if abs((a - azimuth + 180) % 360 - 180) < SAME_AZIMUTH and abs(e - elevation) < SAME_AZIMUTH:
            return view
    ring = sorted({round(a, 1) for a, e in there.values() if abs(e) < SAME_AZIMUTH})
    raise BrokenClip(
        clip.name,
        f"has no view at azimuth {azimuth:g}, elevation {elevation:g}; on the horizon it has {ring}",
    )


def on_background(images: Tensor, alpha: Tensor, background: Sequence[float]) -> Tensor:
    """Images on white ``[..., 3, H, W]`` with their alpha, laid on another colour."""
    if tuple(background) == (1.0, 1.0, 1.0):
        return images
    color = images.new_tensor(background)[:, None, None]
    return (images - (1 - alpha) * (1 - color)).clamp(0, 1)


def file_name(name: str) -> str:
    """An object's name as that of a file or folder: without folders and without .tar."""
    return name.removesuffix(".tar").replace("/", "-")


def motion(truth: Truth) -> float:
    """PSNR in dB of the true first frame shown at all later times, from the mean squared error over frames and views.

    The less, the more the object moves; 100 for one that stands still. It bounds what a frozen prediction can reach.
    """
    if len(truth.images) < 2:
        return 100.0
    error = (truth.images[1:] - truth.images[:1]).square().mean()
    return float(-10 * error.clamp_min(1e-10).log10())
