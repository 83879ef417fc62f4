"""The clip reader: content is returned unchanged, and errors name what is wrong."""

import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from core.data.clips import BrokenClip, Clip
from tests.clip_factory import SIZE, npy, view_color, write_clip


def test_reader_lists_the_views_that_are_there(tmp_path: Path):
    write_clip(tmp_path, "a-b-0.tar", fixed=range(0, 16, 2), random=(3, 7, 8, 31), frames=5)
    clip = Clip(tmp_path, "a-b-0.tar")
    assert clip.view_ids == (3, 7, 8, 31, *range(32, 48, 2))
    assert clip.num_frames == 5
    assert clip.azimuth(36) == 90.0


@pytest.mark.parametrize("kinds", [("fixed_16_clip", "random_clip"), ("fixed_16_24fps", "random_24fps")])
def test_file_name_is_kind_and_line_without_slashes(tmp_path: Path, kinds: tuple[str, str]):
    fixed, random = write_clip(tmp_path, "pack/fish-swim/000.tar", kinds=kinds)
    assert (fixed.name, random.name) == (f"{kinds[0]}-pack-fish-swim-000.tar", f"{kinds[1]}-pack-fish-swim-000.tar")
    clip = Clip(tmp_path, "pack/fish-swim/000.tar", "4d_interp" if "24fps" in kinds[0] else "4d")
    assert clip.name == "pack/fish-swim/000.tar"


def test_frames_of_the_shorter_tar_count(tmp_path: Path):
    write_clip(tmp_path, "short-clip", frames=3)
    (tmp_path / "random_clip-short-clip").rename(tmp_path / "kept")
    write_clip(tmp_path, "short-clip", frames=8)
    (tmp_path / "kept").replace(tmp_path / "random_clip-short-clip")
    assert Clip(tmp_path, "short-clip").num_frames == 3


def test_every_image_is_where_its_view_and_frame_say(tmp_path: Path):
    write_clip(tmp_path, "c", frames=4)
    view_ids, frames = [44, 2, 32, 1], [2, 3, 1]
    images, masks = Clip(tmp_path, "c").read(view_ids, frames, SIZE)
    assert images.shape == (3, 4, 3, SIZE, SIZE)
    assert masks.shape == (3, 4, 1, SIZE, SIZE)
    for t, frame in enumerate(frames):
        for v, view_id in enumerate(view_ids):
            color = (255 * images[t, v, :, SIZE // 2, SIZE // 2]).tolist()
            assert color == pytest.approx(view_color(view_id, frame), abs=4)
    square = torch.zeros(SIZE, SIZE)
    square[SIZE // 4 : -SIZE // 4, SIZE // 4 : -SIZE // 4] = 1
    assert torch.equal(masks, square.expand_as(masks))
    # White is exact outside the silhouette although JPEG is not.
    assert (images[(1 - square).bool().expand_as(images)] == 1).all()


def test_smaller_images_are_area_averages(tmp_path: Path):
    write_clip(tmp_path, "c", frames=1)
    clip = Clip(tmp_path, "c")
    full, small = clip.read([32], [0], SIZE), clip.read([32], [0], SIZE // 4)
    for whole, part in zip(full, small, strict=True):
        averages = torch.nn.functional.avg_pool2d(whole[0], 4)
        torch.testing.assert_close(part[0], averages, atol=1 / 255, rtol=0)
    assert clip.read([32], [0], 2 * SIZE)[0].shape[-1] == 2 * SIZE


def test_cameras_stand_where_the_files_say(tmp_path: Path):
    write_clip(tmp_path, "c", frames=2)
    cameras = Clip(tmp_path, "c").cameras([36, 3], [0, 1], size=64, radius=2.0)
    assert cameras.shape == (2, 2)
    assert cameras.size == (64, 64)
    quarter = torch.tensor([2.0, 0.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(cameras.positions[1, 0], quarter, atol=1e-7, rtol=0)
    # View 3 of the random tar: rotation 111 degrees, elevation 8 degrees above the horizon.
    a, e = np.deg2rad(111.0), np.deg2rad(8.0)
    above = 2.0 * torch.tensor([np.cos(e) * np.sin(a), np.sin(e), np.cos(e) * np.cos(a)])
    torch.testing.assert_close(cameras.positions[0, 1], above, atol=1e-7, rtol=0)


def test_reading_leaves_no_file_open(tmp_path: Path):
    write_clip(tmp_path, "c")
    before = len(os.listdir("/dev/fd"))
    Clip(tmp_path, "c").read([32, 0], [0, 1], SIZE)
    assert len(os.listdir("/dev/fd")) == before


def test_a_replaced_tar_is_read_anew(tmp_path: Path):
    paths = write_clip(tmp_path, "c", frames=4)
    assert Clip(tmp_path, "c").num_frames == 4
    write_clip(tmp_path, "c", frames=2)
    for path in paths:
        os.utime(path, ns=(1, 1))
    assert Clip(tmp_path, "c").num_frames == 2


MEMBER_FAULTS = {
    "no image": ({"leave_out": ("002/img/001.jpg",)}, "view 002 has no image of frame 001"),
    "no mask": ({"leave_out": ("002/mask/001.png",)}, "view 002 has no mask of frame 001"),
    "no camera": ({"leave_out": ("002/camera/rotation.npy",)}, "view 002 has 0 values in camera/rotation.npy"),
    "short camera": ({"replace": {"002/camera/elevation.npy": npy(np.zeros(2))}}, "has 2 values .* for 4 frames"),
    "nan camera": ({"replace": {"002/camera/rotation.npy": npy(np.full(4, np.nan))}}, "not finite"),
    "pole": ({"replace": {"002/camera/elevation.npy": npy(np.full(4, 90.0))}}, "outside"),
    "pickle": ({"replace": {"002/camera/rotation.npy": npy(np.array([{}] * 4))}}, "allow_pickle"),
    "text": ({"replace": {"002/camera/rotation.npy": b"12 degrees"}}, "magic"),
    "no views": ({"fixed": (), "random": ()}, "no views"),
}


@pytest.mark.parametrize("fault", MEMBER_FAULTS)
def test_a_clip_with_a_wrong_member_is_named(tmp_path: Path, fault: str):
    settings, reason = MEMBER_FAULTS[fault]
    write_clip(tmp_path, "c", **settings)
    with pytest.raises(BrokenClip, match=reason) as caught:
        Clip(tmp_path, "c")
    assert caught.value.clip == "c"


IMAGE_FAULTS = {
    "not an image": {"replace": {"002/img/001.jpg": b"hello"}},
    "cut mask": {"replace": {"002/mask/001.png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"}},
    "empty": {"replace": {"002/img/001.jpg": b""}},
}


@pytest.mark.parametrize("fault", IMAGE_FAULTS)
def test_a_bad_image_is_named_and_the_others_are_read(tmp_path: Path, fault: str):
    write_clip(tmp_path, "c", **IMAGE_FAULTS[fault])
    clip = Clip(tmp_path, "c")
    clip.read([34], [0, 2], SIZE)
    with pytest.raises(BrokenClip, match="view 34, frame 1"):
        clip.read([34], [0, 1, 2], SIZE)


def test_image_and_mask_of_different_size_are_named(tmp_path: Path):
    write_clip(tmp_path, "big", size=2 * SIZE, frames=1)
    with tarfile.open(tmp_path / "fixed_16_clip-big") as tar:
        mask = tar.extractfile("./002/mask/000.png").read()
    write_clip(tmp_path, "c", frames=1, replace={"002/mask/000.png": mask})
    with pytest.raises(BrokenClip, match="one size"):
        Clip(tmp_path, "c").read([34], [0], SIZE)


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 0.9])
def test_a_truncated_tar_is_broken(tmp_path: Path, fraction: float):
    fixed, _ = write_clip(tmp_path, "c")
    content = fixed.read_bytes()
    fixed.write_bytes(content[: int(fraction * len(content))])
    with pytest.raises(BrokenClip, match="fixed_16_clip-c"):
        Clip(tmp_path, "c")


def test_a_missing_or_compressed_tar_is_broken(tmp_path: Path):
    with pytest.raises(BrokenClip, match="No such file"):
        Clip(tmp_path, "nowhere")
    fixed, _ = write_clip(tmp_path, "c")
    content = fixed.read_bytes()
    with tarfile.open(fixed, "w:gz") as tar:
        tar.add(__file__, arcname="x")
    with pytest.raises(BrokenClip):
        Clip(tmp_path, "c")
    fixed.write_bytes(content)
    assert Clip(tmp_path, "c").num_frames == 4


def test_broken_clip_travels_between_processes():
    error = pickle.loads(pickle.dumps(BrokenClip("name", "reason")))
    assert (error.clip, error.reason, str(error)) == ("name", "reason", "name: reason")
