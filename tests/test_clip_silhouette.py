"""Our cameras see a rendered clip as Blender saw it: the toy's boxes, projected, cover its masks to a pixel.

The clip in ``tests/data`` was made by (``make render-env`` first; seed 0 is the default)

    .venv/bin/python blender_scripts/make_procedural.py --out procedural/toy.glb --family toy
    .venv-render/bin/python blender_scripts/render_objaverse.py --obj procedural/toy.glb --out_dir tests/data \\
        --resolution 64 --filter_width 1 --view_step 4 --random_views 2 --fixed_animation_length 3 --device cpu
"""

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from scipy.ndimage import binary_dilation
from scipy.spatial import ConvexHull

from blender_scripts.procedural.toy import make_toy
from core.cameras import Cameras, orbit_cameras

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "tests/data"
LINE = "procedural-toy-000-00.tar"
RENDER_PYTHON = ROOT / ".venv-render/bin/python"
RENDER_FLAGS = "--resolution 64 --filter_width 1 --view_step 4 --random_views 2 --fixed_animation_length 3 --device cpu"
SIZE, FRAMES, FINE = 64, (0, 3, 6), 8
CENTROID = 0.15  # pixels


def normalised_corners() -> np.ndarray:
    """Corners ``[T, P, 8, 3]`` of the rendered frames; the box over the whole second is centred, its longest side 1."""
    toy = make_toy(0)
    second = np.stack([np.stack(toy.points(frame)) for frame in range(24)])
    low, high = second.min((0, 1, 2)), second.max((0, 1, 2))
    return (second[list(FRAMES)] - 0.5 * (low + high)) / (high - low).max()


def silhouette(camera: Cameras, boxes: np.ndarray) -> np.ndarray:
    """Coverage ``[SIZE, SIZE]`` in [0, 1]: every box is convex, so its picture is the hull of its projected corners."""
    canvas = Image.new("L", (SIZE * FINE, SIZE * FINE))
    points, _ = camera.project(torch.from_numpy(boxes.reshape(-1, 3)))
    for box in points.numpy().reshape(-1, 8, 2):
        outline = box[ConvexHull(box).vertices] * FINE - 0.5
        ImageDraw.Draw(canvas).polygon([tuple(point) for point in outline], fill=1)
    return np.asarray(canvas, np.float64).reshape(SIZE, FINE, SIZE, FINE).mean((1, 3))


def read_clip(folder: Path, kind: str) -> list[tuple[float, float, np.ndarray]]:
    """(azimuth, elevation, masks [T, SIZE, SIZE] in [0, 1]) of every view."""
    with tarfile.open(folder / f"{kind}-{LINE}") as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar}
    views = []
    for view in sorted({name.split("/")[1] for name in files}):
        azimuth, elevation = (
            float(np.load(io.BytesIO(files[f"./{view}/camera/{name}.npy"]))[0]) for name in ("rotation", "elevation")
        )
        masks = [np.asarray(Image.open(io.BytesIO(files[f"./{view}/mask/{t:03d}.png"]))) for t in range(len(FRAMES))]
        views.append((azimuth, elevation, np.stack(masks) / 255.0))
    return views


def outside_by_more_than_a_pixel(inner: np.ndarray, outer: np.ndarray) -> int:
    """Pixels of ``inner`` that are no neighbour of ``outer``."""
    return int((inner & ~binary_dilation(outer, np.ones((3, 3), bool))).sum())


def disagreement(folder: Path, kind: str, sign: float = 1.0, turn: float = 0.0) -> tuple[int, float]:
    """How many pixels disagree by more than one pixel, and the largest distance of two centroids in pixels."""
    boxes, far, shift = normalised_corners(), 0, 0.0
    rows, columns = np.mgrid[:SIZE, :SIZE]
    for azimuth, elevation, masks in read_clip(folder, kind):
        camera = orbit_cameras(sign * azimuth + turn, sign * elevation, size=(SIZE, SIZE), dtype=torch.float64)
        for pose, mask in zip(boxes, masks, strict=True):
            ours = silhouette(camera, pose)
            far += outside_by_more_than_a_pixel(mask > 0.5, ours > 0) + outside_by_more_than_a_pixel(
                ours > 0.5, mask > 0
            )
            centres = [np.array([(grid * w).sum() for grid in (rows, columns)]) / w.sum() for w in (ours, mask)]
            shift = max(shift, float(np.abs(centres[0] - centres[1]).max()))
    return far, shift


@pytest.mark.parametrize("kind", ["fixed_16_clip", "random_clip"])
def test_silhouettes_agree_to_a_pixel(kind: str) -> None:
    far, shift = disagreement(DATA, kind)
    assert far == 0
    assert shift < CENTROID  # on average the edges agree far better than to a pixel


@pytest.mark.parametrize("wrong", [{"sign": -1.0}, {"turn": 180.0}, {"turn": 5.0}], ids=str)
def test_a_wrong_camera_convention_is_seen(wrong: dict[str, float]) -> None:
    far, shift = disagreement(DATA, "random_clip", **wrong)
    assert far > 0
    assert shift > 2 * CENTROID


@pytest.mark.slow
@pytest.mark.skipif(not RENDER_PYTHON.exists(), reason="needs Blender: make render-env")
def test_blender_still_renders_the_same_silhouettes(tmp_path: Path) -> None:
    glb = tmp_path / "procedural/toy.glb"
    subprocess.run(
        [sys.executable, ROOT / "blender_scripts/make_procedural.py", "--family", "toy", "--out", glb], check=True
    )
    script = [RENDER_PYTHON, ROOT / "blender_scripts/render_objaverse.py", "--obj", glb, "--out_dir", tmp_path]
    subprocess.run([*script, *RENDER_FLAGS.split()], check=True)
    for kind in ("fixed_16_clip", "random_clip"):
        far, shift = disagreement(tmp_path, kind)
        assert (far, shift < CENTROID) == (0, True)
        for (*angles, masks), (*kept_angles, kept) in zip(
            read_clip(tmp_path, kind), read_clip(DATA, kind), strict=True
        ):
            assert angles == kept_angles
            assert np.abs(masks - kept).mean() < 0.002
