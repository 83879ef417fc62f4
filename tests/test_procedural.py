"""Procedural objects: the same from the same seed, sound meshes, periodic motion; Blender sees what is computed."""

import io
import json
import struct
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from scipy.ndimage import distance_transform_edt

from blender_scripts import make_procedural, rig
from blender_scripts.procedural import mesh as shapes
from blender_scripts.procedural.blobs import Capsule, skin_weights, surface
from blender_scripts.procedural.families import FAMILIES, make_model
from blender_scripts.procedural.glb import write_glb
from blender_scripts.procedural.mesh import Mesh
from blender_scripts.procedural.model import Model, multiply, to_matrix
from blender_scripts.procedural.textures import SIZE, draw_image, noise
from core.cameras import orbit_cameras
from core.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
RENDER_PYTHON = ROOT / ".venv-render/bin/python"


def volume(mesh: Mesh) -> float:
    """By the divergence theorem; positive where the faces look outwards, right only where the mesh is closed."""
    a, b, c = mesh.points[mesh.faces].transpose(1, 0, 2)
    return float(np.einsum("fi,fi->", a, np.cross(b, c)) / 6.0)


SOLIDS = {
    "ellipsoid": (lambda: shapes.ellipsoid((1, 2, 3), 48), 8.0 * np.pi),
    "cylinder": (lambda: shapes.cylinder(1.0, 2.0, 64), 2.0 * np.pi),
    "cone": (lambda: shapes.cylinder(1.0, 3.0, 64, top=0.0), np.pi),
    "torus": (lambda: shapes.torus(1.0, 0.3, 64, 32), 2.0 * np.pi**2 * 0.09),
    "tube": (lambda: shapes.tube([(0, 0, 0), (0, 0.5, 0), (0, 1, 0)], 0.2, 48), np.pi * 0.04),
    "box": (lambda: shapes.box((1, 2, 3)), 6.0),
    "mirrored": (lambda: shapes.box((1, 2, 3)).moved(scale=(-1, 1, 1)), 6.0),
    "turned": (lambda: shapes.box((1, 2, 3)).moved((1, 1, 1), shapes.rotation((1, 2, 3), 77.0)), 6.0),
    "blob": (
        lambda: surface([Capsule((0, 0, 0), (0, 1, 0), 0.3, 0.3)], 60, 0.05),
        np.pi * 0.09 + 4.0 / 3.0 * np.pi * 0.027,
    ),
}


@pytest.mark.parametrize("name", SOLIDS)
def test_solids_are_closed_look_outwards_and_have_their_volume(name: str) -> None:
    make, expected = SOLIDS[name]
    mesh = make()
    assert volume(mesh) == pytest.approx(expected, rel=0.02)
    assert volume(mesh.moved((5, -3, 2))) == pytest.approx(volume(mesh), rel=1e-6)  # closed: no matter from where


def test_normals_are_smooth_below_the_crease_and_flat_above() -> None:
    ball = shapes.ellipsoid((1, 1, 1), 32)
    corners = ball.points[ball.faces]
    assert np.einsum("fci,fci->fc", ball.normals(60.0), corners).min() > 0.99
    box = shapes.box((1, 1, 1))
    flat = np.abs(box.normals(40.0)).max(-1)
    np.testing.assert_allclose(flat, 1.0, atol=1e-6)


def test_quaternions_compose_as_their_matrices() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 1, 4))
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    np.testing.assert_allclose(to_matrix(multiply(a, b)[0]), to_matrix(a[0]) @ to_matrix(b[0]), atol=1e-12)


def test_skin_follows_the_nearest_joint() -> None:
    capsules = [Capsule((0, 0, 0), (1, 0, 0), 0.1, 0.1, 3), Capsule((1, 0, 0), (2, 0, 0), 0.1, 0.1, 5)]
    joints, weights = skin_weights(capsules, np.array([[0.0, 0.1, 0.0], [1.0, 0.1, 0.0], [2.0, 0.1, 0.0]]), 0.05)
    np.testing.assert_allclose(weights.sum(1), 1.0)
    by_joint = [(weights * (joints == joint)).sum(1) for joint in (3, 5)]
    np.testing.assert_allclose(by_joint[0], [1.0, 0.5, 0.0], atol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_makes_valid_moving_different_objects(family: str) -> None:
    sizes = set()
    for seed in range(3):
        _, model = make_model(seed, family)
        frames = [np.concatenate(model.points(frame)) for frame in (0, 5, 11, 24 * model.seconds)]
        assert all(np.isfinite(points).all() for points in frames)
        np.testing.assert_array_equal(frames[0], frames[-1])  # ends in the pose where it begins
        size = np.ptp(frames[0], axis=0).max()
        assert max(np.abs(points - frames[0]).max() for points in frames) > 0.01 * size
        assert len(frames[0]) < 30_000
        sizes.add(round(float(size), 6))
        for part in model.parts:
            assert part.mesh.faces.max() < len(part.mesh.points)
            if part.skin:
                np.testing.assert_allclose(part.skin[1].sum(1), 1.0, atol=1e-9)
                used = np.sort(np.where(part.skin[1] > 0, part.skin[0], -1 - np.arange(4)), axis=1)
                assert (np.diff(used, axis=1) > 0).all()  # no joint twice
    assert len(sizes) == 3


def test_images_tile_and_the_levels_of_noise_take_equal_shares() -> None:
    rng = np.random.default_rng(0)
    values = noise(rng, 4)
    inner = np.abs(np.diff(values, axis=0)).max()
    assert np.abs(values[0] - values[-1]).max() <= 1.5 * inner
    assert np.histogram(values, 4, (0, 1))[0] == pytest.approx(SIZE * SIZE / 4, rel=0.01)
    images = np.stack([draw_image(rng, rng.uniform(size=(5, 3))) for _ in range(30)])
    assert images.shape == (30, SIZE, SIZE, 3) and images.dtype == np.uint8
    assert len({image.tobytes() for image in images}) == 30
    assert (images.reshape(30, -1).std(1) < 2).mean() < 0.2  # few of them are a plain colour


def read_glb(path: Path) -> dict:
    data = path.read_bytes()
    magic, version, length, size = struct.unpack_from("<4sIII", data)
    assert (magic, version, length) == (b"glTF", 2, len(data))
    return json.loads(data[20 : 20 + size])


def test_the_same_seed_is_the_same_file_and_what_it_holds(tmp_path: Path) -> None:
    paths = make_procedural.make(tmp_path / "a", 0, 8, None, False)
    again = make_procedural.make(tmp_path / "b", 0, 8, None, False)
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in again]
    assert len({path.name for path in paths}) == 8
    documents = [read_glb(path) for path in paths]
    assert all(document["animations"][0]["channels"] for document in documents)
    assert any("skins" in document for document in documents) and any("images" in document for document in documents)
    (still,) = make_procedural.make(tmp_path / "still.glb", 0, 1, "animal", True)
    assert "animations" not in read_glb(still)
    with pytest.raises(UserError, match="give a folder"):
        make_procedural.make(tmp_path / "many.glb", 0, 2, None, False)


# Against Blender


def silhouette(points: list[np.ndarray], model: Model, view: rig.View, size: int, fine: int = 8) -> np.ndarray:
    """Coverage ``[size, size]``: every triangle drawn. Points: model space, normalised."""
    camera = orbit_cameras(view.azimuth, view.elevation, size=(size, size), dtype=torch.float64)
    canvas = Image.new("L", (size * fine, size * fine))
    draw = ImageDraw.Draw(canvas)
    for part, world in zip(model.parts, points, strict=True):
        pixels = camera.project(torch.from_numpy(world))[0].numpy() * fine - 0.5
        for triangle in pixels[part.mesh.faces]:
            draw.polygon([tuple(corner) for corner in triangle], fill=1)
    return np.asarray(canvas, np.float64).reshape(size, fine, size, fine).mean((1, 3))


def worst_distance(ours: np.ndarray, mask: np.ndarray) -> float:
    """How many pixels the inside of one (over half covered) lies at most outside the other (covered at all)."""
    far = [distance_transform_edt(outer <= 0.02)[inner > 0.5] for inner, outer in ((ours, mask), (mask, ours))]
    return float(max(distances.max(initial=0.0) for distances in far))


@pytest.mark.slow
@pytest.mark.skipif(not RENDER_PYTHON.exists(), reason="needs Blender: make render-env")
def test_blender_sees_ten_objects_where_they_are_computed_to_be(tmp_path: Path) -> None:
    """Joints, skins, morphs, import, normalisation and cameras, all at once: silhouettes to a pixel."""
    size, frames, chosen = 96, (0, 6, 12, 18), list(FAMILIES)[:6] + "tree vessel assembly machine".split()
    models = {family: make_model(11, family)[1] for family in chosen}
    for family, model in models.items():
        write_glb(tmp_path / f"models/{family}.glb", model)
    script = [sys.executable, ROOT / "blender_scripts/render_dataset.py", "--obj", tmp_path / "models"]
    script += ["--out_dir", tmp_path / "out", "--max_clips", "1", "--downsample", "6", "--view_step", "4"]
    script += [*"--random_views 2 --filter_width 1 --samples 16 --device cpu --resolution".split(), size]
    subprocess.run(list(map(str, script)), check=True, capture_output=True)
    worst = {}
    for family, model in models.items():
        second = np.concatenate([np.concatenate(model.points(frame)) for frame in range(24)])
        low, high = second.min(0), second.max(0)
        line, distances = f"models-{family}-000-00.tar", []
        for kind, views in (("fixed_16", rig.fixed_views(16, 4)), ("random", rig.random_views(2, 0, line))):
            with tarfile.open(tmp_path / f"out/{kind}_clip-{line}") as tar:
                for view in views:
                    for index, frame in enumerate(frames):
                        data = tar.extractfile(f"./{view.number:03d}/mask/{index:03d}.png").read()
                        mask = np.asarray(Image.open(io.BytesIO(data))) / 255.0
                        points = [(p - 0.5 * (low + high)) / (high - low).max() for p in model.points(frame)]
                        distances.append(worst_distance(silhouette(points, model, view, size), mask))
        worst[family] = max(distances)
    print(worst)
    assert max(worst.values()) <= 1.0, worst
