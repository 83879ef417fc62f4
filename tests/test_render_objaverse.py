"""The parts of the renderer that need no Blender: cameras, names, frames, tars, lists, the command line."""

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from blender_scripts import clips, render_objaverse, rig
from core.cameras import flip_opengl_opencv, orbit_cameras
from core.data.clips import Clip
from core.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
RENDER_PYTHON = ROOT / ".venv-render/bin/python"
VIEWS = [rig.View(0, 0.0), rig.View(4, 90.0), rig.View(1, 211.0, 27.5), rig.View(2, 359.9, -4.9)]


# Cameras


@pytest.mark.parametrize("view", VIEWS, ids=str)
def test_cameras_of_the_rig_are_the_orbit_cameras_of_the_model(view: rig.View) -> None:
    ours = orbit_cameras(view.azimuth, view.elevation, dtype=torch.float64)
    np.testing.assert_allclose(rig.world_to_camera(view), ours.w2c[:3], atol=1e-12)
    np.testing.assert_allclose(rig.camera_to_world(view), flip_opengl_opencv(ours.c2w), atol=1e-12)


@pytest.mark.parametrize("view", VIEWS, ids=str)
def test_blender_sees_the_imported_world_as_the_rig_sees_the_world(view: rig.View) -> None:
    """The importer turns (x, y, z) into (x, -z, y); a point must have the same coordinates in either camera."""
    points = np.random.default_rng(0).normal(size=(10, 3))
    imported = np.stack([points[:, 0], -points[:, 2], points[:, 1]], axis=1)
    pose = rig.blender_camera(view)
    opengl = (imported - pose[:3, 3]) @ pose[:3, :3]
    rt = rig.world_to_camera(view)
    np.testing.assert_allclose(opengl * (1, -1, -1), points @ rt[:, :3].T + rt[:, 3], atol=1e-12)


def test_the_front_camera_stands_where_blender_has_the_front() -> None:
    np.testing.assert_allclose(rig.blender_camera(rig.View(0, 0.0))[:3, 3], (0.0, -1.5, 0.0), atol=1e-12)
    assert rig.blender_camera(rig.View(0, 0.0, 20.0))[2, 3] > 0  # a positive elevation looks down from above


def test_a_subset_of_the_ring_keeps_its_numbers() -> None:
    ring = rig.fixed_views(16)
    assert [view.azimuth for view in ring] == [22.5 * i for i in range(16)]
    assert rig.fixed_views(16, 4) == [ring[0], ring[4], ring[8], ring[12]]


def test_random_cameras_depend_on_seed_and_clip_alone() -> None:
    views = rig.random_views(200, 3, "a.tar")
    assert views[:4] == rig.random_views(4, 3, "a.tar")
    assert views[:4] != rig.random_views(4, 4, "a.tar")
    assert views[:4] != rig.random_views(4, 3, "b.tar")
    azimuth, elevation = np.array([(view.azimuth, view.elevation) for view in views]).T
    assert 0 <= azimuth.min() < 20 < 340 < azimuth.max() < 360
    assert -5 <= elevation.min() < -2 < 27 < elevation.max() < 30


# Names and frames


def test_names_have_the_object_as_second_token() -> None:
    line = clips.clip_line("my-pack", "T-Rex", 3, 12)
    assert line == "my_pack-T_Rex-003-12.tar"
    assert line.split("-")[1] == "T_Rex"
    assert clips.clip_path(Path("/data"), "random_clip", "a/b-c.tar") == Path("/data/random_clip-a-b-c.tar")
    assert clips.clip_kinds(24) == {"random": "random_24fps", "fixed": "fixed_16_24fps"}
    assert clips.clip_kinds(8) == {"random": "random_clip", "fixed": "fixed_16_clip"}


@pytest.mark.parametrize(
    ("length", "starts"), [(1, [0]), (5, [0]), (24, [0]), (35, [0]), (36, [0, 24]), (61, [0, 24, 48])]
)
def test_clips_start_every_second_and_leave_out_short_tails(length: int, starts: list[int]) -> None:
    assert clips.clip_starts(length) == starts


def test_frames_of_a_clip() -> None:
    assert clips.clip_frames(0, 100, 3, None, cyclic=False) == [0, 3, 6, 9, 12, 15, 18, 21]
    assert clips.clip_frames(24, 100, 3, 2, cyclic=False) == [24, 27]
    assert clips.clip_frames(0, 11, 3, None, cyclic=False) == [0, 3, 6, 9, 10, 10, 10, 10]
    assert clips.clip_frames(0, 11, 3, None, cyclic=True) == [0, 3, 6, 9, 2, 5, 8, 1]  # pose 10 is pose 0
    assert clips.clip_frames(0, 1, 3, None, cyclic=True) == [0] * 8


@pytest.mark.parametrize("count", [0, 1, 2, 5, 8, 22])
def test_spreading_keeps_all_and_covers_early(count: int) -> None:
    order = clips.spread(list(range(count)))
    assert sorted(order) == list(range(count))
    if count >= 8:
        assert np.diff(sorted(order[:4])).max() <= np.ceil(count / 2)


def test_first_clips_of_all_animations_come_before_second_ones_and_prefixes_nest() -> None:
    lengths = {0: 100, 2: 20, 3: 61}
    pairs = clips.choose_clips(lengths, None)
    assert sorted(pairs[:3]) == [(0, 0), (2, 0), (3, 0)]
    assert [clip for _, clip in pairs] == sorted(clip for _, clip in pairs)
    assert len(pairs) == len(set(pairs)) == 4 + 1 + 3
    assert all(clips.choose_clips(lengths, limit) == pairs[:limit] for limit in range(9))


# Files


def rgba(size: int = 8, frames: int = 2) -> list[np.ndarray]:
    pixels = np.random.default_rng(0).integers(0, 256, (frames, size, size, 4), dtype=np.uint8)
    pixels[:, : size // 2, :, 3] = 0
    return list(pixels)


def encoded(frames: int = 2) -> list[tuple[bytes, bytes]]:
    return [clips.encode(picture) for picture in rgba(frames=frames)]


def test_compositing_on_white() -> None:
    picture = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 51]]], np.uint8)
    colour, alpha = clips.composite_on_white(picture)
    assert colour.tolist() == [[[10, 20, 30], [255, 255, 255], [204, 204, 204]]]
    assert alpha.tolist() == [[255, 0, 51]]


def test_a_clip_has_the_published_layout(tmp_path: Path) -> None:
    view, frames = rig.View(7, 157.5, 12.0), rgba()
    clips.write_clip(tmp_path / "x.tar", {view: encoded()})
    with tarfile.open(tmp_path / "x.tar") as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar}
    images = {f"./007/{kind}/{t:03d}.{end}" for t in (0, 1) for kind, end in (("img", "jpg"), ("mask", "png"))}
    arrays = {name: np.load(io.BytesIO(data)) for name, data in members.items() if name.endswith("npy")}
    assert set(members) == images | {f"./007/camera/{name}.npy" for name in ("elevation", "rotation", "rt_matrix")}
    assert {name.split("/")[-1]: array.shape for name, array in arrays.items()} == {
        "elevation.npy": (2,),
        "rotation.npy": (2,),
        "rt_matrix.npy": (2, 3, 4),
    }
    assert all(array.dtype == np.float32 for array in arrays.values())
    assert arrays["./007/camera/elevation.npy"].tolist() == [12.0, 12.0]
    assert arrays["./007/camera/rotation.npy"].tolist() == [157.5, 157.5]
    np.testing.assert_array_equal(Image.open(io.BytesIO(members["./007/mask/001.png"])), frames[1][..., 3])
    picture = np.asarray(Image.open(io.BytesIO(members["./007/img/000.jpg"])))
    assert picture[:4].min() > 225  # transparent: white, but for what JPEG spills over from the noise below


def test_the_training_reader_reads_what_the_renderer_writes(tmp_path: Path) -> None:
    fixed, random = rig.fixed_views(16, 8), rig.random_views(1, 0, "p-o-000-00.tar")
    for kind, views in (("fixed_16_clip", fixed), ("random_clip", random)):
        clips.write_clip(clips.clip_path(tmp_path, kind, "p-o-000-00.tar"), {view: encoded() for view in views})
    clip = Clip(tmp_path, "p-o-000-00.tar")
    assert (clip.view_ids, clip.num_frames) == ((0, 32, 40), 2)
    cameras = clip.cameras(clip.view_ids, [0, 1], size=8)
    expected = np.stack([rig.world_to_camera(view) for view in [*random, *fixed]])
    np.testing.assert_allclose(cameras.w2c[1, :, :3], expected, atol=1e-6)


def test_the_same_clip_gives_the_same_bytes_and_a_failed_one_leaves_nothing(tmp_path: Path) -> None:
    for name in ("a", "b"):
        clips.write_clip(tmp_path / name, {rig.View(0, 0.0): encoded()})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with pytest.raises(ValueError, match="unpack"):
        clips.write_clip(tmp_path / "c", {rig.View(0, 0.0): [*encoded(), (b"", b"", b"")]})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        clips.write_clip(tmp_path / "file" / "d", {rig.View(0, 0.0): encoded()})


def test_lists_hold_the_clips_that_have_both_kinds(tmp_path: Path) -> None:
    def write(kind: str, line: str, frames: int) -> None:
        clips.write_clip(clips.clip_path(tmp_path, kind, line), {rig.View(0, 0.0): encoded(frames)})

    for line, frames in (("p-b-000-00.tar", 2), ("p-a-000-00.tar", 2), ("p-still-000-00.tar", 1)):
        write("fixed_16_clip", line, frames)
        write("random_clip", line, frames)
    write("fixed_16_clip", "p-half-000-00.tar", 2)
    write("fixed_16_24fps", "p-a-000-00.tar", 2)
    write("random_24fps", "p-a-000-00.tar", 2)
    assert clips.write_datalists(tmp_path) == {
        "datalist_8fps.txt": 2,
        "datalist_static.txt": 1,
        "datalist_24fps.txt": 1,
    }
    assert (tmp_path / "datalist_8fps.txt").read_text() == "p-a-000-00.tar\np-b-000-00.tar\n"


# Command line


def test_flags_behind_the_dashes_and_their_defaults() -> None:
    args = render_objaverse.parse(["-b", "-P", "x.py", "--", "--object_path", "a.glb", "--output_dir", "o"])
    assert (args.obj, args.out_dir, args.mode, args.resolution, args.samples) == (["a.glb"], Path("o"), "both", 512, 16)
    assert (args.views, args.random_views) == (16, 32)
    args = render_objaverse.parse(
        ["--obj", "a", "--out_dir", "o", "--mode", "random", "--num_views", "5", "--engine", "cpu"]
    )
    assert (args.random_views, args.device) == (5, "cpu")


def test_something_to_render_is_required(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        render_objaverse.parse(["--out_dir", "o"])
    assert "give GLB files" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong",
    [
        "--lights none",
        "--fixed_animation_length 0",
        "--views 0",
        "--resolution -1",
        "--downsample 25",
        "--downsample 3 2",
        "--animation first",
        "--shard 2/2",
        "--shard x",
        "--scale 0",
    ],
)
def test_wrong_values_are_refused(wrong: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as exit_:
        render_objaverse.parse(["--obj", "a", "--out_dir", "o", *wrong.split()])
    assert exit_.value.code == 2
    assert wrong.split()[0] in capsys.readouterr().err


def test_a_missing_file_is_one_line_and_status_2(tmp_path: Path) -> None:
    script = [sys.executable, ROOT / "blender_scripts/render_objaverse.py", "--obj", "none.glb", "--out_dir", tmp_path]
    done = subprocess.run(script, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "none.glb: no such file" in done.stderr


def test_without_blender_the_way_to_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.glb").touch()
    script = [sys.executable, ROOT / "blender_scripts/render_objaverse.py", "--obj", tmp_path, "--out_dir", tmp_path]
    done = subprocess.run(script, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "make render-env" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not RENDER_PYTHON.exists(), reason="needs Blender: make render-env")
def test_broken_files_become_rows_and_the_rest_is_rendered(tmp_path: Path) -> None:
    source = tmp_path / "pack"
    subprocess.run(
        [sys.executable, ROOT / "blender_scripts/make_procedural.py", "--family", "toy", "--out", source / "toy.glb"],
        check=True,
    )
    data = (source / "toy.glb").read_bytes()
    (source / "cut.glb").write_bytes(data[: len(data) // 2])
    (source / "empty.glb").touch()
    (source / "nothing.gltf").write_text(json.dumps({"asset": {"version": "2.0"}}))
    script = [
        RENDER_PYTHON,
        ROOT / "blender_scripts/render_objaverse.py",
        "--obj",
        source,
        "--out_dir",
        tmp_path / "out",
    ]
    small = {
        "resolution": 32,
        "samples": 1,
        "views": 1,
        "random_views": 1,
        "fixed_animation_length": 2,
        "device": "cpu",
    }
    options = [token for name, value in small.items() for token in (f"--{name}", str(value))]
    for status in ("rendered", "exists"):
        done = subprocess.run([*script, *options], capture_output=True, text=True)
        assert done.returncode == 2
        assert "Traceback" not in done.stdout + done.stderr
        failed = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
        assert {Path(row["file"]).name: row["status"] for row in failed} == dict.fromkeys(
            ("cut.glb", "empty.glb", "nothing.gltf"), "failed"
        )
        assert all(row["reason"].count("\n") == 0 and row["file"] in row["reason"] for row in failed)
        assert json.loads(done.stdout.splitlines()[0])["status"] == status
    assert (tmp_path / "out/datalist_8fps.txt").read_text() == "pack-toy-000-00.tar\n"
