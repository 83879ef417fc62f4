"""Camera input of MVDream and ImageDream."""

from __future__ import annotations

import torch
from torch import Tensor

from core.cameras import flip_opengl_opencv, orbit_cameras
from core.conventions import INPUT_AZIMUTHS

# The picture of ImageDream is seen from azimuth 90 of the model's frame: output 1. It comes first, the others follow.
VIEW_ORDER = (1, 2, 3, 0)


def camera_numbers(elevation: float = 0.0, *, turn: float = 0.0, extra_frames: int = 0) -> Tensor:
    """Camera-to-world matrices of the four views, flattened row by row.

    The model's world is Blender's: z up, where this project has (x, y, z) it has (x, -z, y). Cameras are OpenGL's, at
    radius 1, in the order of `INPUT_AZIMUTHS`.

    Args:
        elevation: degrees, positive above the horizon. (The published L4GM and LGM pass the negative of it.)
        turn: degrees of azimuth by which all four views are turned.
        extra_frames: rows of zeros at the end; ImageDream needs one, for the picture.

    Returns:
        ``[4 + extra_frames, 16]`` float32.
    """
    c2w = flip_opengl_opencv(orbit_cameras(torch.tensor(INPUT_AZIMUTHS) + turn, elevation, radius=1.0, size=(1, 1)).c2w)
    x, y, z, w = c2w.unbind(dim=-2)
    numbers = torch.stack([x, -z, y, w], dim=-2).flatten(-2)
    return torch.cat([numbers, numbers.new_zeros(extra_frames, 16)])
