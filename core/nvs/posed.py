"""Posed images: pictures with their cameras, brought to one size and, for scenes, to a common frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from PIL import Image
from torch import Tensor

from core.cameras import Cameras, cross
from core.errors import UserError
from core.images import on_white
from core.options.lact import Frame

_RIGID = 1e-2  # largest error of R R^T = 1 in files, which hold few digits


@dataclass(frozen=True)
class PosedImages:
    """Views of one scene or, with one more leading axis, of a batch of scenes.

    Attributes:
        images: ``[..., v, 3, height, width]`` in [0, 1], on white.
        cameras: leading axes ``[..., v]``.
    """

    images: Tensor
    cameras: Cameras

    def __getitem__(self, index: object) -> PosedImages:
        """Index the leading axes."""
        return PosedImages(self.images[index], self.cameras[index])

    def to(self, device: torch.device | str) -> PosedImages:
        """The same on another device."""
        return PosedImages(self.images.to(device), self.cameras.to(device))

    def pin_memory(self) -> PosedImages:
        """The same in page-locked memory, for ``DataLoader(pin_memory=True)``."""
        cameras = replace(
            self.cameras, c2w=self.cameras.c2w.pin_memory(), intrinsics=self.cameras.intrinsics.pin_memory()
        )
        return PosedImages(self.images.pin_memory(), cameras)

    @staticmethod
    def stack(scenes: Sequence[PosedImages]) -> PosedImages:
        """Scenes of equal sizes as a batch, for ``DataLoader(collate_fn=...)``."""
        c2w, intrinsics = ([getattr(scene.cameras, name) for scene in scenes] for name in ("c2w", "intrinsics"))
        cameras = Cameras(torch.stack(c2w), torch.stack(intrinsics), scenes[0].cameras.size)
        return PosedImages(torch.stack([scene.images for scene in scenes]), cameras)


def cover(picture: Image.Image, intrinsics: np.ndarray, size: tuple[int, int]) -> tuple[Tensor, np.ndarray]:
    """Scale a picture until it covers ``size``, crop the centre, and move the intrinsics with it.

    Args:
        picture: RGB or RGBA, which is composited on white after scaling, as published.
        intrinsics: ``[3, 3]`` in its pixels.
        size: height and width.

    Returns:
        the image ``[3, height, width]`` in [0, 1], and its intrinsics.
    """
    height, width = size
    scale = max(width / picture.width, height / picture.height)
    scaled = (max(width, round(picture.width * scale)), max(height, round(picture.height * scale)))
    left, top = (scaled[0] - width) // 2, (scaled[1] - height) // 2
    if scaled != picture.size:
        factors = np.array([[scaled[0] / picture.width], [scaled[1] / picture.height], [1.0]])
        intrinsics, picture = intrinsics * factors, picture.resize(scaled, Image.Resampling.LANCZOS)
    picture = picture.crop((left, top, left + width, top + height))
    offset = np.array([[0, 0, left], [0, 0, top], [0, 0, 0]], np.float64)
    return on_white(np.array(picture.convert("RGBA"))), intrinsics - offset


def check_cameras(cameras: Cameras, where: str) -> None:
    """Check cameras out of a file.

    Raises:
        UserError: a pose or the intrinsics are not finite, a rotation is none or mirrors, a focal length is not
            positive, or all cameras are the same.
    """
    rotation = cameras.c2w[..., :3, :3].double()
    identity = torch.eye(3, dtype=torch.float64)
    focal = cameras.intrinsics[..., [0, 1], [0, 1]]
    finite = cameras.c2w.isfinite().flatten(-2).all(-1) & cameras.intrinsics.isfinite().flatten(-2).all(-1)
    turned = ((rotation @ rotation.mT - identity).abs().amax((-2, -1)) < _RIGID) & finite
    problems = {
        "holds NaN or infinity; leave views without a known camera out": ~finite,
        "has a rotation that is none, its axes are not of length 1 or not at right angles": ~turned,
        "is mirrored, its axes are left-handed; OpenCV cameras look along +z with y down": rotation.det() < 0,
        "has a focal length that is not positive": (focal <= 0).any(-1),
    }
    for problem, views in problems.items():
        if bool(views.any()):
            raise UserError(f"{where}: the camera of view {int(views.nonzero()[0, 0])} {problem}")
    if len(cameras.c2w) > 1 and bool((cameras.c2w == cameras.c2w[:1]).all()):
        raise UserError(f"{where}: all {len(cameras.c2w)} cameras have the same pose; give the pose of each view")


def normalize_poses(c2w: Tensor) -> Tensor:
    """Cameras ``[v, 4, 4]`` in the frame of their mean, translations divided by the largest absolute coordinate.

    The frame as published: mean centre; z along the mean viewing direction, x = mean y cross z, y = z cross x.
    """
    z = F.normalize(c2w[:, :3, 2].mean(0), dim=0)
    x = F.normalize(cross(c2w[:, :3, 1].mean(0), z), dim=0)
    frame = torch.eye(4, dtype=c2w.dtype)
    frame[:3] = torch.stack([x, cross(z, x), z, c2w[:, :3, 3].mean(0)], dim=1)
    moved = torch.linalg.inv(frame) @ c2w
    size = moved[:, :3, 3].abs().max()
    moved[:, :3, 3] /= size.clamp_min(torch.finfo(c2w.dtype).tiny)
    return moved


def in_frame(c2w: Tensor, frame: Frame) -> Tensor:
    """Cameras ``[v, 4, 4]`` in a frame; z is up for ``first``."""
    if frame == "world":
        return c2w
    if frame == "scene":
        return normalize_poses(c2w)
    cosine, sine = F.normalize(c2w[0, :2, 3], dim=0)
    turn = torch.eye(4, dtype=c2w.dtype)
    if cosine.abs() + sine.abs() > 0:  # else the camera stands on the axis
        turn[:2, :2] = torch.stack([torch.stack([cosine, sine]), torch.stack([-sine, cosine])])
    return turn @ c2w


def mirrored(posed: PosedImages) -> PosedImages:
    """The same views of the object mirrored at x = 0; flipped images keep the cameras right-handed."""
    cameras = posed.cameras
    flip = torch.diag(torch.tensor([-1, 1, 1, 1], dtype=cameras.c2w.dtype))
    intrinsics = cameras.intrinsics.clone()
    intrinsics[..., 0, 2] = cameras.size[1] - intrinsics[..., 0, 2]
    return PosedImages(posed.images.flip(-1), replace(cameras, c2w=flip @ cameras.c2w @ flip, intrinsics=intrinsics))


def z_up(c2w: Tensor, radius: float) -> Tensor:
    """Cameras around an object in this project's world (y up, orbit radius 1.5) as LaCT has them: z up, radius 2.7.

    Args:
        c2w: ``[..., 4, 4]``.
        radius: of the orbit they come from.
    """
    turn = torch.tensor([[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]], dtype=c2w.dtype)
    turned = turn @ c2w
    turned[..., :3, 3] *= LACT_RADIUS / radius
    return turned


LACT_RADIUS = 2.7
"""Distance of the cameras of LaCT's example objects from the origin."""


def interleave(images: Tensor) -> Tensor:
    """Batch and views as one axis, for losses: ``[b, v, c, h, w]`` to ``[b v, c, h, w]``."""
    return rearrange(images, "b v c h w -> (b v) c h w")
