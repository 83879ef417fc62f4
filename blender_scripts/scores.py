"""Optical flow, coverage and contrast of clips, from their front views. No Blender."""

from __future__ import annotations

import io
import json
import tarfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from blender_scripts.clips import SCENE_FPS, clip_kinds, clip_path
from core.files import atomic_path

SCORES = "clip_scores.jsonl"
FRONT_VIEWS = (2, 14, 0, 4, 12)
"""Fixed views in front of the object by priority: azimuths 45, -45, 0, 90 and -90 degrees."""
MAX_VIEWS = 3
FLOW_FPS = 8


@dataclass(frozen=True)
class Score:
    """Measurements of a clip in its front views.

    Attributes:
        line: its line in the lists.
        fps: 8 or 24; meaningless for a clip of one frame.
        frames: number of frames.
        flow: mean optical flow of the object's pixels, image widths a second.
        coverage: fraction of the image that the object covers.
        contrast: mean distance of the object's colours from white, 0 to 1.
        border: fraction of the images in which the object touches the border.
        error: why the clip cannot be read, or empty.
    """

    line: str
    fps: int
    frames: int = 0
    flow: float = 0.0
    coverage: float = 0.0
    contrast: float = 0.0
    border: float = 0.0
    error: str = ""


def read_front(path: Path) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Up to three front views of a fixed tar: images ``[T, H, W, 3]`` and masks ``[T, H, W]``, uint8.

    Raises:
        ValueError: the tar has no fixed view.
        OSError, tarfile.TarError: it cannot be read.
    """
    with tarfile.open(path) as tar:
        members = {member.name: member for member in tar}

        def load(name: str) -> np.ndarray:
            return np.asarray(Image.open(io.BytesIO(tar.extractfile(members[name]).read())))

        found = {int(name.split("/")[1]) for name in members}
        views = {}
        for view in [view for view in (*FRONT_VIEWS, *sorted(found)) if view in found][:MAX_VIEWS]:
            count = sum(name.startswith(f"./{view:03d}/img/") for name in members)
            images = np.stack([load(f"./{view:03d}/img/{t:03d}.jpg") for t in range(count)])
            views[view] = images, np.stack([load(f"./{view:03d}/mask/{t:03d}.png") for t in range(count)])
    if not views:
        raise ValueError("has no fixed view")
    return views


def flow_magnitude(first: np.ndarray, second: np.ndarray, mask: np.ndarray) -> float:
    """Mean length in pixels of the dense flow (DIS) from one grey image to the next, over the mask."""
    import cv2

    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST).calc(first, second, None)
    return float(np.linalg.norm(flow, axis=-1)[mask].mean()) if mask.any() else 0.0


def score_clip(home: Path, line: str, fps: int) -> Score:
    """Measure one clip; ``error`` is set if it cannot be read."""
    try:
        views = read_front(clip_path(home, clip_kinds(fps)["fixed"], line))
    except (OSError, tarfile.TarError, ValueError, KeyError, UnidentifiedImageError) as error:
        return Score(line, fps, error=f"{type(error).__name__}: {error}")
    step = max(1, fps // FLOW_FPS)  # both rates are measured at the same one
    flows, coverage, contrast, border = [], [], [], []
    for images, masks in views.values():
        inside = masks > 127
        coverage.append(inside.mean((1, 2)))
        white = 1.0 - images.min(-1) / 255.0
        contrast += [white[t][inside[t]].mean() if inside[t].any() else 0.0 for t in range(len(images))]
        edge = inside[:, [0, -1]].any((1, 2)) | inside[:, :, [0, -1]].any((1, 2))
        border.append(edge.mean())
        grey = (images @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)[::step]
        both = (inside[::step][1:] | inside[::step][:-1]) if len(grey) > 1 else inside[:0]
        lengths = [flow_magnitude(a, b, m) for a, b, m in zip(grey[:-1], grey[1:], both, strict=True)]
        flows.append(np.mean(lengths) * FLOW_FPS / images.shape[2] if lengths else 0.0)
    values = [float(np.mean(v)) for v in (flows, np.concatenate(coverage), contrast, border)]
    return Score(line, fps, len(images), *(round(value, 5) for value in values))


def find_clips(home: Path) -> list[tuple[str, int]]:
    """Lines and frame rates of all clips of a data home that have both kinds of cameras."""
    found = []
    for fps in (FLOW_FPS, SCENE_FPS):
        kinds = clip_kinds(fps)
        for path in sorted(home.glob(f"{kinds['fixed']}-*.tar")):
            line = path.name.removeprefix(f"{kinds['fixed']}-")
            if clip_path(home, kinds["random"], line).exists():
                found.append((line, fps))
    return found


def score_all(home: Path, processes: int) -> list[Score]:
    """Scores of all clips; new ones are measured and cached in ``<home>/clip_scores.jsonl``."""
    path, known = home / SCORES, {}
    if path.exists():
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        known = {(row["line"], row["fps"], row.pop("time")): Score(**row) for row in rows}
    clips = find_clips(home)
    keys = [(*clip, clip_path(home, clip_kinds(clip[1])["fixed"], clip[0]).stat().st_mtime) for clip in clips]
    missing = [key[:2] for key in keys if key not in known]
    with ProcessPoolExecutor(processes) as pool:
        new = list(pool.map(score_clip, [home] * len(missing), *zip(*missing, strict=True))) if missing else []
    fresh = iter(new)
    scores = [known[key] if key in known else next(fresh) for key in keys]
    with atomic_path(path) as temporary:
        rows = [asdict(score) | {"time": key[2]} for score, key in zip(scores, keys, strict=True)]
        temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return scores
