"""Scenes on disk: the same cameras and pictures out of every format, and what is refused."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from core.cameras import Cameras
from core.conventions import FOVY, ORBIT_RADIUS
from core.errors import UserError
from core.images import load_image, on_white
from core.losses import psnr
from core.nvs import paths
from core.nvs.dataset import ViewDataset
from core.nvs.posed import LACT_RADIUS, PosedImages, cover
from core.nvs.scenes import open_scenes
from core.nvs.undistort import convert_folder, convert_scene
from tests.clip_factory import write_clip
from tests.nvs_place import cameras_around, draw_balls, edit, write_list, write_scene, write_transforms


def test_an_opencv_scene_is_read_as_it_was_written(tmp_path: Path) -> None:
    (scene,) = open_scenes(write_scene(tmp_path))
    posed, cameras = scene.load(range(6), (32, 32)), cameras_around(6, (32, 32))
    torch.testing.assert_close(posed.cameras.c2w, cameras.c2w)
    torch.testing.assert_close(posed.cameras.intrinsics, cameras.intrinsics)
    torch.testing.assert_close(posed.images, on_white(draw_balls(cameras)))
    torch.testing.assert_close(scene.poses([3]), cameras.c2w[3:4])


def test_a_list_names_scenes_relative_to_itself(tmp_path: Path) -> None:
    scenes = open_scenes(write_list(tmp_path, 3))
    assert [Path(scene.name).parent.name for scene in scenes] == ["scene0", "scene1", "scene2"]


@pytest.mark.parametrize("size", [(16, 16), (64, 64), (16, 24), (24, 16)])
def test_pictures_and_intrinsics_are_scaled_and_cropped_together(tmp_path: Path, size: tuple[int, int]) -> None:
    """The balls lie where the moved camera sees them: a drawing by that camera is the picture, but for its edges."""
    (scene,) = open_scenes(write_scene(tmp_path, size=(64, 64)))
    posed = scene.load([0, 1], size)
    assert posed.images.shape == (2, 3, *size)
    right = psnr(posed.images, on_white(draw_balls(posed.cameras)))
    assert right.min() > 17
    shifted = posed.cameras.intrinsics + torch.tensor([[0, 0, 3.0], [0, 0, 0], [0, 0, 0]])
    assert psnr(posed.images, on_white(draw_balls(replace(posed.cameras, intrinsics=shifted)))).max() < right.min()


def test_transforms_json_has_the_same_cameras(tmp_path: Path) -> None:
    (scene,) = open_scenes(write_transforms(tmp_path))
    cameras = cameras_around(5, (48, 64))
    posed = scene.load(range(5), (48, 64))
    torch.testing.assert_close(posed.cameras.c2w, cameras.c2w)
    torch.testing.assert_close(posed.cameras.intrinsics, cameras.intrinsics)


def test_transforms_json_with_a_field_of_view_only(tmp_path: Path) -> None:
    path = write_transforms(tmp_path, camera_angle_x=math.radians(50))
    table = json.loads(path.read_text())
    for name in ("fl_x", "fl_y", "cx", "cy"):
        del table[name]
    path.write_text(json.dumps(table))
    (scene,) = open_scenes(path)
    torch.testing.assert_close(scene.load([0], (48, 64)).cameras.intrinsics, cameras_around(1, (48, 64)).intrinsics)


def test_distortion_is_refused_and_removed(tmp_path: Path) -> None:
    """A picture that is bent by a lens model, sampled by that model's own formula, comes out straight."""
    import cv2

    path = write_transforms(tmp_path / "in", size=(96, 128), k1=-0.15, k2=0.02, p1=0.001, p2=-0.002)
    with pytest.raises(UserError, match=r"lens distortion; undistort it first: python -m core\.nvs\.undistort"):
        open_scenes(path)
    cameras, lens = cameras_around(5, (96, 128)), np.array([-0.15, 0.02, 0.001, -0.002])
    matrix = cameras.intrinsics[0].numpy() - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    grid = np.stack(np.meshgrid(np.arange(128.0), np.arange(96.0)), -1).reshape(-1, 1, 2)
    straight = cv2.undistortPoints(grid, matrix, lens, P=matrix).reshape(96, 128, 2).astype(np.float32)
    for i, pixels in enumerate(draw_balls(cameras)[..., :3]):
        bent = cv2.remap(pixels, straight[..., 0], straight[..., 1], cv2.INTER_LINEAR)
        Image.fromarray(bent).save(path.parent / f"images/frame_{i}.png")
    written = convert_scene(path, tmp_path / "out")
    (scene,) = open_scenes(written)
    posed = scene.load(range(5), (96, 128))
    assert posed.cameras.intrinsics[0, 0, 0] != pytest.approx(cameras.intrinsics[0, 0, 0].item(), rel=1e-3)
    turned = Cameras(cameras.c2w, posed.cameras.intrinsics, (96, 128))
    expected = torch.from_numpy(draw_balls(turned)[..., :3]).movedim(-1, 1) / 255
    assert psnr(posed.images, expected).mean() > 22
    bent = torch.stack([load_image(path.parent / f"images/frame_{i}.png") for i in range(5)])
    assert psnr(bent, expected).mean() < psnr(posed.images, expected).mean() - 3


def test_without_opencv_one_line_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UserError, match="undistortion needs OpenCV: pip install opencv-python-headless"):
        convert_scene(write_transforms(tmp_path / "in"), tmp_path / "out")


@pytest.mark.parametrize(
    ("shared", "message"),
    [
        ({"camera_model": "OPENCV_FISHEYE"}, "frame 0: its lens is a fisheye"),
        ({"frames": []}, "it has no frames"),
        ({"fl_x": 10**400}, "frame 0: int too large"),
        ({"fl_x": 0}, "frame 0: its lens or its focal length"),
        ({"k1": float("nan")}, "frame 0: its lens or its focal length"),
        ({"k4": 0.1}, "frame 0: its lens has k4"),
        ({"frames": [{"file_path": 4}]}, "in/4: there is no such file"),
        ({"frames": [{"file_path": "images/frame_0.png"}]}, "frame 0: 'transform_matrix' is missing"),
    ],
)
def test_scenes_that_cannot_be_converted_are_named(tmp_path: Path, shared: dict, message: str) -> None:
    path = write_transforms(tmp_path / "in")
    path.write_text(json.dumps({**json.loads(path.read_text()), **shared}))
    with pytest.raises(UserError, match=message):
        convert_scene(path, tmp_path / "out")


@pytest.mark.parametrize("height", [None, "48", [48]])
def test_a_folder_with_a_scene_of_no_size_is_refused(tmp_path: Path, height: object) -> None:
    write_transforms(tmp_path / "in", h=height)
    with pytest.raises(UserError, match="frame 0: "):
        convert_folder(tmp_path, tmp_path / "out")


def test_the_converted_world_is_the_published_one(tmp_path: Path) -> None:
    """Columns 1 and 2 negated, rows 0 and 1 swapped, row 2 negated; portraits are left out of the list."""
    write_transforms(tmp_path / "in/a")
    write_transforms(tmp_path / "in/b", size=(64, 48))
    listed = convert_folder(tmp_path / "in", tmp_path / "out")
    (scene,) = open_scenes(listed)
    assert listed.name == "dl3dv_sample_data_path.json" and "out/a" in scene.name
    pose = json.loads((tmp_path / "in/a/transforms.json").read_text())["frames"][2]["transform_matrix"]
    expected = np.array(pose)
    expected[:, 1:3] *= -1
    expected = expected[[1, 0, 2, 3]]
    expected[2] *= -1
    np.testing.assert_allclose(scene.poses([2])[0].numpy(), expected, atol=1e-9)


def test_clips_are_scenes_with_z_up(tmp_path: Path) -> None:
    write_clip(tmp_path, "p-fish-0", frames=5)
    (tmp_path / "list.txt").write_text("p-fish-0\n")
    (scene,) = open_scenes(tmp_path / "list.txt")
    posed = scene.load(range(len(scene)), (16, 16), moment=0.9)
    own = scene.clip.cameras(scene.clip.view_ids, [4], size=16)[0]
    assert own.shape == (len(scene),)
    torch.testing.assert_close(posed.cameras.positions.norm(dim=-1), torch.full((len(scene),), LACT_RADIUS).double())
    torch.testing.assert_close(posed.cameras.positions[:, 2], own.positions[:, 1] * LACT_RADIUS / ORBIT_RADIUS)
    up = -posed.cameras.c2w[:, 2, 1]  # the image's up direction has a part along z
    assert (up > 0).all() and FOVY == 49.1
    assert torch.equal(posed.images, scene.clip.read(scene.clip.view_ids, [4], 16)[0][0])


def test_a_sample_depends_on_seed_and_number_alone(tmp_path: Path) -> None:
    scenes = open_scenes(write_list(tmp_path, 2))
    data = ViewDataset(scenes, (16, 16), 4, "scene", seed=3)
    assert torch.equal(data[5].images, data[5].images)
    assert not torch.equal(data[5].images, data[7].images)
    assert not torch.equal(data[5].images, ViewDataset(scenes, (16, 16), 4, "scene", seed=4)[5].images)
    batch = PosedImages.stack([data[0], data[1]])
    assert batch.images.shape == (2, 4, 3, 16, 16) and batch.cameras.shape == (2, 4)
    assert batch.cameras.positions.abs().amax() == pytest.approx(1)


NAN, EYE = float("nan"), np.eye(4).tolist()
BAD_VIEWS = [
    ({"w2c": (np.eye(4) * np.array([NAN, 1, 1, 1])).tolist()}, "w2c holds NaN or infinity"),
    ({"w2c": np.diag([1.0, -1, 1, 1]).tolist()}, "the camera of view 1 is mirrored"),
    ({"w2c": np.diag([2.0, 2, 2, 1]).tolist()}, "the camera of view 1 has a rotation that is none"),
    ({"w2c": np.zeros((4, 4)).tolist()}, "cannot be inverted"),
    ({"w2c": [[1, 0], [0, 1]]}, r"shape \(2, 2\) and must be 4 x 4"),
    ({"fx": NAN}, "the camera of view 1 holds NaN"),
    ({"fx": -20.0}, "a focal length that is not positive"),
    ({"w": 64}, "32 x 32 pixels, and its camera in .* 64 x 32"),
    ({"file_path": "renderings/none.png"}, "cannot read image .*none.png: there is no such file"),
    ({"fx": None}, "view 1: "),
    ({"fx": 10**400}, "view 1: int too large"),
    ({"w": math.inf}, "view 1: w and h are inf"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_VIEWS)
def test_cameras_that_cannot_be_are_refused(tmp_path: Path, changes: dict, message: str) -> None:
    path = edit(write_scene(tmp_path), 1, **changes)
    with pytest.raises(UserError, match=message):
        open_scenes(path)[0].load([0, 1], (16, 16))


def test_equal_cameras_missing_entries_and_other_files_are_refused(tmp_path: Path) -> None:
    path = write_scene(tmp_path, views=3)
    for view in range(3):
        edit(path, view, w2c=EYE)
    with pytest.raises(UserError, match="all 3 cameras have the same pose"):
        open_scenes(path)
    entries = json.loads(path.read_text())
    del entries[2]["fy"]
    path.write_text(json.dumps(entries))
    with pytest.raises(UserError, match="view 2: 'fy' is missing"):
        open_scenes(path)
    for text, message in (
        ("{", "it is no JSON"),
        ("[]", "it is no opencv_cameras"),
        ("[1]", "it is no opencv_cameras"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            open_scenes(path)


def test_pictures_of_one_scene_may_differ_in_size(tmp_path: Path) -> None:
    """A picture at twice its camera's size is the same view."""
    path = write_scene(tmp_path, views=3)
    before = open_scenes(path)[0].load(range(3), (16, 16))
    file = tmp_path / "renderings/00000001_rgba.png"
    Image.open(file).resize((64, 64), Image.Resampling.NEAREST).save(file)
    after = open_scenes(path)[0].load(range(3), (16, 16))
    torch.testing.assert_close(before.cameras.intrinsics, after.cameras.intrinsics)
    assert psnr(before.images, after.images).min() > 20


def test_cover_leaves_a_picture_of_the_right_size_alone() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)
    image, intrinsics = cover(Image.fromarray(pixels), np.eye(3), (8, 12))
    assert torch.equal(image, torch.from_numpy(pixels).movedim(-1, 0).float() / 255)
    np.testing.assert_array_equal(intrinsics, np.eye(3))


@pytest.mark.parametrize("make", [lambda c: paths.turntable((24, 40)), paths.orbit, paths.interpolate])
def test_paths_are_of_rigid_cameras_that_see_the_object(make: object) -> None:
    inputs = cameras_around(4, (24, 40))
    path = make(inputs)
    rotation = path.c2w[:, :3, :3]
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).expand(len(rotation), 3, 3), atol=1e-5, rtol=0)
    assert (rotation.det() > 0).all() and path.size == (24, 40)
    assert (rotation[:, 2, 1] <= 0).all()  # upright: the image's y runs down


def test_the_turntable_is_the_published_one() -> None:
    path = paths.turntable((32, 64))
    radius = path.positions.norm(dim=-1)
    assert (
        len(radius) == 120
        and radius.min() == pytest.approx(1.7, abs=1e-2)
        and radius.max() == pytest.approx(3, abs=1e-2)
    )
    elevation = torch.rad2deg(torch.asin(path.positions[:, 2] / radius))
    assert elevation.min() == pytest.approx(15, abs=0.1) and elevation.max() == pytest.approx(45, abs=0.1)
    fov = 2 * math.degrees(math.atan(32 / path.intrinsics[0, 0, 0].item()))
    assert fov == pytest.approx(50, abs=1e-3) and path.intrinsics[0, 0, 2] == 32 and path.intrinsics[0, 1, 2] == 16


def test_the_path_between_inputs_passes_through_them() -> None:
    inputs = cameras_around(4, (8, 8))
    path = paths.interpolate(inputs)
    assert len(path.c2w) == 10
    torch.testing.assert_close(path.c2w[::3].double(), inputs.c2w, atol=1e-5, rtol=0)
