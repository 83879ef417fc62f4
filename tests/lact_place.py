"""Tiny networks, cameras and recordings for the tests of LaCT."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from core.cameras import Cameras
from core.lact import LaCT
from core.options.lact import LactOptions

GOLDEN = json.loads((Path(__file__).parent / "data" / "golden_lact.json").read_text())["lact"]
TINY = LactOptions(patch_size=4, dim=32, layers=2, head_dim=16, fast_head_dim=16)


def ring(
    views: int, offset: float = 0.0, size: tuple[int, int] = (16, 16), dtype: torch.dtype = torch.float32
) -> Cameras:
    """The recording's cameras ``[1, views]``: z up, radius 2.7, view i at azimuth 40 i and elevation 10 + 5 i."""
    poses = []
    for i in range(views):
        a, e = math.radians(40 * i + offset), math.radians(10 + 5 * i)
        position = 2.7 * torch.tensor([math.cos(e) * math.cos(a), math.cos(e) * math.sin(a), math.sin(e)])
        forward = -position / position.norm()
        right = torch.linalg.cross(forward, torch.tensor([0.0, 0.0, 1.0]))
        right = right / right.norm()
        pose = torch.eye(4)
        pose[:3] = torch.stack([right, torch.linalg.cross(forward, right), forward, position], dim=1)
        poses.append(pose)
    height, width = size
    intrinsics = torch.tensor([[20.0, 0, width / 2], [0, 20.0, height / 2], [0, 0, 1]])
    return Cameras(torch.stack(poses)[None].to(dtype), intrinsics.expand(1, views, 3, 3).to(dtype), size)


def pictures(views: int, size: tuple[int, int] = (16, 16)) -> Tensor:
    """The recording's images ``[1, views, 3, height, width]``."""
    shape = (1, views, 3, *size)
    return (0.5 * torch.sin(0.11 * torch.arange(math.prod(shape), dtype=torch.float64)) + 0.5).float().reshape(shape)


def tiny_lact(**changes: object) -> LaCT:
    """A tiny network with fresh weights of a fixed seed."""
    torch.manual_seed(0)
    return LaCT(replace(TINY, **changes)).eval()
