"""Small scenes on disk for the tests of novel views: coloured balls around the origin, drawn analytically."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from core.cameras import Cameras, flip_opengl_opencv
from core.checkpoint import save_weights
from core.lact import LaCT
from core.nvs.paths import look_at_origin
from core.options.lact import LactOptions

TINY_LACT = LactOptions(8, 8, 1, head_dim=8, fast_head_dim=8)

DL3DV_LIST = """hash,sensibility label,batch,duration
aa,Without any sensitivity information,2K,63.8
bb,Without any sensitivity information,1K,63.3
cc,Without any sensitivity information,problem,4.2
dd,Without any sensitivity information,1K,65.0
"""

BALLS = (
    ((0.0, 0.0, 0.0), 0.6, (0.8, 0.2, 0.2)),
    ((0.7, 0.3, 0.4), 0.3, (0.2, 0.7, 0.3)),
    ((-0.2, -0.8, -0.3), 0.35, (0.2, 0.3, 0.9)),
)


def cameras_around(views: int, size: tuple[int, int], seed: int = 0) -> Cameras:
    """Cameras ``[views]`` on a sphere of radius 2.7, z up, in float64."""
    draw = np.random.default_rng(seed)
    azimuth = torch.from_numpy(draw.uniform(0, 360, views))
    elevation = torch.from_numpy(draw.uniform(-10, 50, views))
    focal = size[1] / 2 / math.tan(math.radians(25))
    intrinsics = torch.tensor([[focal, 0, size[1] / 2], [0, focal, size[0] / 2], [0, 0, 1]], dtype=torch.float64)
    c2w = look_at_origin(azimuth, elevation, torch.full((views,), 2.7, dtype=torch.float64))
    return Cameras(c2w, intrinsics.expand(views, 3, 3), size)


def draw_balls(cameras: Cameras) -> np.ndarray:
    """uint8 RGBA ``[v, h, w, 4]``: the balls as flat discs, nearest first, transparent elsewhere."""
    origins, directions = (rays.numpy() for rays in cameras.rays())
    nearest = np.full(directions.shape[:-1], np.inf)
    image = np.zeros((*nearest.shape, 4))
    for centre, radius, color in BALLS:
        offset = origins - np.array(centre)
        b, c = (offset * directions).sum(-1), (offset**2).sum(-1) - radius**2
        hit = b * b - c
        depth = np.where(hit > 0, -b - np.sqrt(np.maximum(hit, 0)), np.inf)
        front = depth < nearest
        image[front] = (*color, 1)
        nearest = np.where(front, depth, nearest)
    return (image * 255).round().astype(np.uint8)


def write_scene(folder: Path, views: int = 6, size: tuple[int, int] = (32, 32), seed: int = 0) -> Path:
    """A scene in LaCT's format; returns its ``opencv_cameras.json``."""
    cameras = cameras_around(views, size, seed)
    (folder / "renderings").mkdir(parents=True, exist_ok=True)
    entries = []
    for i, pixels in enumerate(draw_balls(cameras)):
        name = f"renderings/{i:08d}_rgba.png"
        Image.fromarray(pixels).save(folder / name)
        (fx, _, cx), (_, fy, cy), _ = cameras.intrinsics[i].tolist()
        w2c = torch.linalg.inv(cameras.c2w[i]).tolist()
        numbers = {"w": size[1], "h": size[0], "fx": fx, "fy": fy, "cx": cx, "cy": cy}
        entries.append({**numbers, "w2c": w2c, "file_path": name})
    path = folder / "opencv_cameras.json"
    path.write_text(json.dumps(entries))
    return path


def write_transforms(folder: Path, views: int = 5, size: tuple[int, int] = (48, 64), **shared: object) -> Path:
    """A scene in the format of nerfstudio; returns its ``transforms.json``."""
    cameras = cameras_around(views, size)
    (folder / "images").mkdir(parents=True)
    frames = []
    for i, pixels in enumerate(draw_balls(cameras)):
        Image.fromarray(pixels).convert("RGB").save(folder / f"images/frame_{i}.png")
        pose = flip_opengl_opencv(cameras.c2w[i])
        frames.append({"file_path": f"images/frame_{i}.png", "transform_matrix": pose.tolist()})
    (fx, _, cx), (_, fy, cy), _ = cameras.intrinsics[0].tolist()
    table = {"w": size[1], "h": size[0], "fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy, **shared, "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(table))
    return folder / "transforms.json"


def write_list(folder: Path, scenes: int, **kwargs: object) -> Path:
    """Several scenes and the list of them, as published examples have it."""
    paths = [write_scene(folder / f"scene{i}", seed=i, **kwargs) for i in range(scenes)]
    path = folder / "sample_data_path.json"
    path.write_text(json.dumps([entry.relative_to(folder).as_posix() for entry in paths]))
    return path


def edit(path: Path, view: int, **changes: object) -> Path:
    """Change entries of one view of an ``opencv_cameras.json``."""
    entries = json.loads(path.read_text())
    entries[view].update(changes)
    path.write_text(json.dumps(entries))
    return path


def write_lact(path: Path, options: LactOptions = TINY_LACT) -> Path:
    """A tiny random checkpoint: ``.safetensors``, else as published, ``torch.save`` of the tensors under ``model``."""
    torch.manual_seed(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_weights(LaCT(options), path)
    else:
        torch.save({"model": LaCT(options).state_dict()}, path)
    return path
