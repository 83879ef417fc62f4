"""Pinhole cameras on a batch grid: poses, intrinsics, orbits and Plücker rays.

World: y up, right-handed. Cameras inside the code follow OpenCV: x right, y down, z forward (into the scene).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from einops import rearrange
from torch import Tensor

from core.conventions import FOVY, INPUT_AZIMUTHS, ORBIT_RADIUS

# OpenGL cameras (x right, y up, z backward) and OpenCV cameras differ in the sign of the second and third axis.
_FLIP_YZ = (1.0, -1.0, -1.0, 1.0)


@dataclass(frozen=True)
class Cameras:
    """A batch of pinhole cameras that share one image size.

    Attributes:
        c2w: camera-to-world matrices ``[..., 4, 4]`` of OpenCV cameras, world units.
        intrinsics: ``[..., 3, 3]`` in pixels; pixel centres lie at +0.5, so a centred principal point is size / 2.
        size: image ``(height, width)`` in pixels.

    Raises:
        ValueError: the matrices have other trailing shapes or their leading axes differ.
    """

    c2w: Tensor
    intrinsics: Tensor
    size: tuple[int, int]

    def __post_init__(self) -> None:
        if self.c2w.shape[-2:] != (4, 4) or self.intrinsics.shape[-2:] != (3, 3):
            raise ValueError(
                f"c2w must be [..., 4, 4] and intrinsics [..., 3, 3], "
                f"got {tuple(self.c2w.shape)} and {tuple(self.intrinsics.shape)}"
            )
        if self.c2w.shape[:-2] != self.intrinsics.shape[:-2]:
            raise ValueError(
                f"c2w and intrinsics have different leading axes: "
                f"{tuple(self.c2w.shape[:-2])} and {tuple(self.intrinsics.shape[:-2])}"
            )

    @property
    def shape(self) -> torch.Size:
        """The leading axes, usually ``[B, T, V]``."""
        return self.c2w.shape[:-2]

    @property
    def w2c(self) -> Tensor:
        """World-to-camera matrices ``[..., 4, 4]``: the rigid inverse of ``c2w``."""
        rotation = self.c2w[..., :3, :3].mT
        translation = -rotation @ self.c2w[..., :3, 3:]
        return torch.cat([torch.cat([rotation, translation], dim=-1), self.c2w[..., 3:, :]], dim=-2)

    @property
    def positions(self) -> Tensor:
        """Camera centres ``[..., 3]`` in the world."""
        return self.c2w[..., :3, 3]

    def __getitem__(self, index: object) -> Cameras:
        """Index the leading axes; the matrix axes stay whole."""
        index = index if isinstance(index, tuple) else (index,)
        whole = (slice(None), slice(None))
        tail = whole if Ellipsis in index else (..., *whole)
        return replace(self, c2w=self.c2w[(*index, *tail)], intrinsics=self.intrinsics[(*index, *tail)])

    def expand(self, *shape: int) -> Cameras:
        """Repeat the leading axes to ``shape`` without copying."""
        return replace(self, c2w=self.c2w.expand(*shape, 4, 4), intrinsics=self.intrinsics.expand(*shape, 3, 3))

    def reshape(self, *shape: int) -> Cameras:
        """The same cameras with other leading axes."""
        return replace(self, c2w=self.c2w.reshape(*shape, 4, 4), intrinsics=self.intrinsics.reshape(*shape, 3, 3))

    def to(self, target: torch.device | torch.dtype | str, non_blocking: bool = False) -> Cameras:
        """Move to a device or cast to a floating-point type."""
        c2w, intrinsics = (tensor.to(target, non_blocking=non_blocking) for tensor in (self.c2w, self.intrinsics))
        return replace(self, c2w=c2w, intrinsics=intrinsics)

    def pin_memory(self) -> Cameras:
        """The same in page-locked memory, for ``DataLoader(pin_memory=True)``."""
        return replace(self, c2w=self.c2w.pin_memory(), intrinsics=self.intrinsics.pin_memory())

    def resized(self, size: tuple[int, int]) -> Cameras:
        """The same views at another image ``(height, width)``; intrinsics scale with the pixels."""
        scale = self.intrinsics.new_tensor([size[1] / self.size[1], size[0] / self.size[0], 1.0])
        return replace(self, intrinsics=self.intrinsics * scale[:, None], size=size)

    def rays(self) -> tuple[Tensor, Tensor]:
        """World-space rays through all pixel centres.

        Returns:
            origins and unit directions, both ``[..., H, W, 3]``.
        """
        height, width = self.size
        kwargs = {"dtype": self.c2w.dtype, "device": self.c2w.device}
        x = torch.arange(width, **kwargs) + 0.5
        y = torch.arange(height, **kwargs) + 0.5
        k = self.intrinsics[..., None, None, :, :]
        x = ((x[None, :] - k[..., 0, 2]) / k[..., 0, 0]).expand(*self.shape, height, width)
        y = ((y[:, None] - k[..., 1, 2]) / k[..., 1, 1]).expand(*self.shape, height, width)
        # Axis by axis: a matrix product would be rounded under autocast.
        right, down, forward = self.c2w[..., None, None, :3, :3].unbind(-1)
        directions = torch.nn.functional.normalize(x[..., None] * right + y[..., None] * down + forward, dim=-1)
        return self.positions[..., None, None, :].expand_as(directions), directions

    def rays_through(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """World-space rays through image positions ``[..., N, 2]`` (x, y), as returned by `project`.

        Returns:
            origins and unit directions, both ``[..., N, 3]``.
        """
        k = self.intrinsics[..., None, :, :]
        x, y = (pixels[..., 0] - k[..., 0, 2]) / k[..., 0, 0], (pixels[..., 1] - k[..., 1, 2]) / k[..., 1, 1]
        right, down, forward = self.c2w[..., None, :3, :3].unbind(-1)
        directions = torch.nn.functional.normalize(x[..., None] * right + y[..., None] * down + forward, dim=-1)
        return self.positions[..., None, :].expand_as(directions), directions

    def pluecker(self) -> Tensor:
        """Plücker coordinates of the pixel rays, ``[..., 6, H, W]``: moment ``o x d``, then unit direction ``d``."""
        origins, directions = self.rays()
        coordinates = torch.cat([cross(origins, directions), directions], dim=-1)
        return rearrange(coordinates, "... h w c -> ... c h w")

    def to_homogeneous(self) -> tuple[Tensor, Tensor]:
        """A matrix ``[..., 3, 3]`` and an offset ``[..., 3]`` that turn world points into homogeneous pixels."""
        w2c = self.w2c
        return self.intrinsics @ w2c[..., :3, :3], (self.intrinsics @ w2c[..., :3, 3:])[..., 0]

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Project world points ``[..., N, 3]`` with every camera.

        Returns:
            pixel coordinates ``[..., N, 2]`` (x, y; the first pixel's centre is (0.5, 0.5)) and depths ``[..., N]``
            along the viewing axis. Points at depth 0 give infinite coordinates.
        """
        matrix, offset = self.to_homogeneous()
        # Axis by axis: matrix products are slow where a side has three columns.
        x, y, z = points.unbind(-1)
        rows = ((matrix[..., row, :, None], offset[..., row, None]) for row in range(3))
        right, down, depth = (m[..., 0, :] * x + m[..., 1, :] * y + m[..., 2, :] * z + shift for m, shift in rows)
        return torch.stack([right / depth, down / depth], dim=-1), depth


def pinhole_intrinsics(
    fovy: float, size: tuple[int, int], *, device: torch.device | None = None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Square-pixel intrinsics ``[3, 3]`` with a centred principal point: f = (height / 2) / tan(fovy / 2).

    Args:
        fovy: vertical field of view in degrees.
        size: image (height, width) in pixels.
    """
    height, width = size
    focal = 0.5 * height / math.tan(0.5 * math.radians(fovy))
    rows = [[focal, 0.0, 0.5 * width], [0.0, focal, 0.5 * height], [0.0, 0.0, 1.0]]
    return torch.tensor(rows, device=device, dtype=dtype)


def orbit_cameras(
    azimuth: Tensor | float,
    elevation: Tensor | float = 0.0,
    *,
    radius: Tensor | float = ORBIT_RADIUS,
    fovy: float = FOVY,
    size: tuple[int, int] = (256, 256),
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> Cameras:
    """Cameras on a sphere around the origin, looking at it, with the world's y axis up in the image.

    The camera centre is ``radius * (cos e sin a, sin e, cos e cos a)``. A *positive* elevation is above the horizon;
    the published L4GM and LGM convention has it below, so their elevations change sign on the way in.

    Args:
        azimuth, elevation: degrees; numbers or tensors that broadcast to the leading axes of the result.
            The elevation must stay off the poles (|elevation| < 90).
        radius: world units, broadcast likewise.
        fovy: vertical field of view in degrees.
        size: image (height, width) in pixels.

    Returns:
        Cameras whose leading axes are the broadcast shape of azimuth, elevation and radius.
    """
    kwargs = {"device": device, "dtype": dtype}
    azimuth, elevation, radius = torch.broadcast_tensors(
        *(torch.as_tensor(value, **kwargs) for value in (azimuth, elevation, radius))
    )
    if bool((elevation.abs() >= 90).any()):
        raise ValueError("orbit elevation must lie strictly between -90 and 90 degrees: 'up' is undefined at the poles")
    a, e = torch.deg2rad(azimuth), torch.deg2rad(elevation)
    sin_a, cos_a, sin_e, cos_e = a.sin(), a.cos(), e.sin(), e.cos()
    zero = torch.zeros_like(a)
    right = torch.stack([cos_a, zero, -sin_a], dim=-1)
    backward = torch.stack([cos_e * sin_a, sin_e, cos_e * cos_a], dim=-1)
    down = -cross(backward, right)
    rotation = torch.stack([right, down, -backward], dim=-1)
    c2w = torch.eye(4, **kwargs).repeat(*a.shape, 1, 1)
    c2w[..., :3, :3] = rotation
    c2w[..., :3, 3] = radius[..., None] * backward
    intrinsics = pinhole_intrinsics(fovy, size, **kwargs).expand(*a.shape, 3, 3)
    return Cameras(c2w, intrinsics, size)


def input_cameras(
    elevation: float = 0.0, *, size: int = 256, radius: float = ORBIT_RADIUS, fovy: float = FOVY
) -> Cameras:
    """The four input cameras of inference, leading axes ``[4]``: azimuth 0, 90, 180, 270 degrees.

    Args:
        elevation: degrees, positive above the horizon.
        size: side of the square images in pixels.
        radius: orbit radius in world units.
        fovy: vertical field of view in degrees.
    """
    return orbit_cameras(torch.tensor(INPUT_AZIMUTHS), elevation, radius=radius, fovy=fovy, size=(size, size))


def concatenate(cameras: Sequence[Cameras], dim: int = 0) -> Cameras:
    """Cameras of one image size, joined along a leading axis (counted from the left)."""
    poses, intrinsics = [one.c2w for one in cameras], [one.intrinsics for one in cameras]
    return Cameras(torch.cat(poses, dim), torch.cat(intrinsics, dim), cameras[0].size)


def cross(a: Tensor, b: Tensor) -> Tensor:
    """Cross product on the last axis; several times faster than torch's if that axis is not contiguous."""
    (ax, ay, az), (bx, by, bz) = a.unbind(-1), b.unbind(-1)
    return torch.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], dim=-1)


def flip_opengl_opencv(c2w: Tensor) -> Tensor:
    """Convert camera-to-world matrices ``[..., 4, 4]`` between OpenGL and OpenCV cameras, either way."""
    return c2w * c2w.new_tensor(_FLIP_YZ)
