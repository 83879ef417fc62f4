"""Pixels and image files: resizing keeps what it must keep, files give back what was written."""

import os
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from core.errors import UserError
from core.files import atomic_path
from core.images import contact_sheet, letterbox, load_image, on_white, resize_area, save_image, to_uint8

SIZES = [(7, 5), (16, 16), (3, 40), (31, 64)]


@pytest.mark.parametrize("size", SIZES)
def test_resizing_keeps_means_and_constants(size: tuple[int, int]) -> None:
    image = torch.rand(2, 3, 12, 17, dtype=torch.float64)
    assert torch.allclose(resize_area(image, size).mean((-2, -1)), image.mean((-2, -1)))
    assert torch.allclose(resize_area(torch.full((3, 12, 17), 0.3), size), torch.tensor(0.3))


@pytest.mark.parametrize("size", SIZES)
def test_each_new_pixel_is_the_mean_of_the_area_it_covers(size: tuple[int, int]) -> None:
    # The slow way: repeat pixels until the new grid falls on whole ones, then average blocks.
    image = torch.rand(3, 12, 17, dtype=torch.float64)
    fine = image.repeat_interleave(size[0], dim=-2).repeat_interleave(size[1], dim=-1)
    blocks = fine.reshape(3, size[0], 12, size[1], 17)
    assert torch.allclose(resize_area(image, size), blocks.mean((2, 4)))


def test_resizing_to_the_same_size_changes_nothing() -> None:
    image = torch.rand(3, 9, 11)
    assert torch.equal(resize_area(image, (9, 11)), image)


@pytest.mark.parametrize("size", [(40, 20), (20, 40), (21, 40), (33, 33)])
def test_letterbox_centres_and_does_not_stretch(size: tuple[int, int]) -> None:
    # A black disc must stay as wide as it is high, and stay in the middle, up to a pixel.
    y, x = torch.meshgrid(*(torch.arange(side) + 0.5 - side / 2 for side in size), indexing="ij")
    image = (torch.hypot(x, y) > 8).float().expand(3, -1, -1)
    square = letterbox(image, 120)
    assert square.shape == (3, 120, 120)
    scale = 120 / max(size)
    dark = 1 - square[0]
    for axis in (0, 1):
        profile = dark.sum(axis)
        position = torch.arange(120) + 0.5
        centre = (profile * position).sum() / profile.sum()
        assert abs(centre - 60) <= 0.5 * scale + 1e-3
        assert abs((profile > 0.5).sum() - 16 * scale) <= 1.5 * scale
    assert square[:, 0, 0].eq(1).all()


def test_files_are_rounded_and_not_truncated(tmp_path: Path) -> None:
    levels = torch.arange(256).reshape(1, 16, 16).expand(3, -1, -1) / 255
    save_image(levels + 0.4 / 255, tmp_path / "a.png")
    assert torch.equal(load_image(tmp_path / "a.png"), levels)
    save_image(levels - 0.4 / 255, tmp_path / "a.png")
    assert torch.equal(load_image(tmp_path / "a.png"), levels)
    assert to_uint8(torch.tensor([-0.2, 1.2, 0.5]).reshape(3, 1, 1)).tolist() == [[[0, 255, 128]]]


def test_alpha_is_composited_on_white(tmp_path: Path) -> None:
    rgba = np.random.default_rng(0).integers(0, 256, (6, 5, 4), dtype=np.uint8)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    color, alpha = rgba[..., :3] / 255, rgba[..., 3:] / 255
    expected = torch.from_numpy(color * alpha + 1 - alpha).movedim(-1, 0).float()
    assert torch.allclose(load_image(tmp_path / "a.png"), expected, atol=1e-6)
    assert on_white(np.zeros((2, 2, 4), np.uint8)).eq(1).all()


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to see it upright
    Image.new("RGB", (8, 4)).save(tmp_path / "a.jpg", exif=exif)
    assert load_image(tmp_path / "a.jpg").shape == (3, 8, 4)


@pytest.mark.parametrize("content", [None, b"", b"not an image", "truncated"])
def test_a_bad_image_file_is_one_clear_error(tmp_path: Path, content: bytes | str | None) -> None:
    path = tmp_path / "bad.png"
    if content == "truncated":
        save_image(torch.rand(3, 40, 40), path)
        path.write_bytes(path.read_bytes()[:1000])
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"bad\.png.*; "):
        load_image(path)


def test_contact_sheet_has_a_cell_for_each_image_in_row_order() -> None:
    red, blue = (torch.tensor(color)[:, None, None].expand(3, 10, 10) for color in ((1.0, 0, 0), (0, 0, 1.0)))
    sheet = contact_sheet([[red, blue, red], [blue]], ["first", "second"], cell=32)
    strip = sheet.shape[1] // 2 - 32
    assert strip > 0
    assert sheet.shape == (3, 2 * (32 + strip), 96)
    assert [sheet[:, strip + 16, x].tolist() for x in (16, 48, 80)] == [[1, 0, 0], [0, 0, 1], [1, 0, 0]]
    assert sheet[:, -16, 16].tolist() == [0, 0, 1]
    assert sheet[:, -16, 48:].eq(1).all()
    assert sheet[:, :strip].min() < 0.5  # the caption is there
    assert contact_sheet([[red]], cell=32).shape == (3, 32, 32)
    with pytest.raises(ValueError, match="1 captions for 2 rows"):
        contact_sheet([[red], [blue]], ["one"])


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write_half(error: BaseException) -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(KeyboardInterrupt):
        write_half(KeyboardInterrupt())
    with pytest.raises(UserError, match=r"a\.txt: No space left on device"):
        write_half(OSError(28, "No space left on device"))
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "old"
    with pytest.raises(UserError, match="cannot write"):
        save_image(torch.zeros(3, 2, 2), path / "b.png")  # its folder is a file


def test_writing_makes_missing_folders(tmp_path: Path) -> None:
    save_image(torch.zeros(3, 2, 2), tmp_path / "new" / "deep" / "a.png")
    assert load_image(tmp_path / "new" / "deep" / "a.png").shape == (3, 2, 2)


ODD_PICTURES = {
    "palette": (lambda: Image.new("P", (8, 8), 0), "p.png", 0.0),
    "palette with transparency": (lambda: Image.new("RGBA", (8, 8), (0, 0, 0, 0)).quantize(), "pt.png", 1.0),
    "one bit": (lambda: Image.new("1", (8, 8), 1), "b.png", 1.0),
    "grey and alpha": (lambda: Image.new("LA", (8, 8), (0, 0)), "la.png", 1.0),
    "16 bits": (lambda: Image.fromarray(np.full((8, 8), 32896, np.uint16)), "i.png", 128 / 255),
    "16 bits in TIFF": (lambda: Image.fromarray(np.full((8, 8), 65535, np.uint16)), "i.tif", 1.0),
    "four inks": (lambda: Image.new("CMYK", (8, 8), (0, 0, 0, 255)), "c.jpg", 0.0),
    "luma and chroma": (lambda: Image.new("YCbCr", (8, 8), (255, 128, 128)), "y.jpg", 1.0),
}


@pytest.mark.parametrize(("make", "name", "level"), ODD_PICTURES.values(), ids=ODD_PICTURES)
def test_odd_modes_are_shown_as_a_viewer_shows_them(tmp_path: Path, make: Callable, name: str, level: float) -> None:
    make().save(tmp_path / name)
    assert load_image(tmp_path / name).sub(level).abs().max() < 0.01


def test_of_an_animation_the_first_frame_counts(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), (value, 0, 0)) for value in (255, 0, 0)]
    for suffix in ("gif", "webp", "png"):
        frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
        assert load_image(tmp_path / f"a.{suffix}")[0].min() > 0.97


def _bomb(path: Path) -> None:
    """A PNG of a few bytes whose header announces 40,000 x 40,000 pixels."""
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", 40_000, 40_000, 8, 6, 0, 0, 0),
        b"IDAT": zlib.compress(b""),
        b"IEND": b"",
    }
    parts = [struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks.items()]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


ODD_FILES = {
    "long": (
        lambda path: Image.new("L", (2, 65_535)).save(path, "PNG"),
        "2 x 65535 pixels, .* may have 12,288",
    ),
    "bomb": (_bomb, "pixels"),
    "floats": (lambda path: Image.new("F", (4, 4)).save(path, "TIFF"), "mode F"),
    "32 bits": (lambda path: Image.new("I", (4, 4)).save(path, "TIFF"), "mode I"),
    "postscript": (lambda path: Image.new("RGB", (4, 4)).save(path, "EPS"), "identify"),
    "folder": (lambda path: path.mkdir(), "a folder"),
    "pipe": (os.mkfifo, "a named pipe"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "a device"),
    "loop": (lambda path: path.symlink_to(path), "symbolic link"),
    "text": (lambda path: path.write_text("a,b\n1,2\n"), "identify"),
}


@pytest.mark.parametrize(("make", "words"), ODD_FILES.values(), ids=ODD_FILES)
def test_an_odd_file_is_one_clear_error(tmp_path: Path, make: Callable, words: str) -> None:
    make(tmp_path / "odd.png")
    with pytest.raises(UserError, match=words) as error:
        load_image(tmp_path / "odd.png")
    assert "odd.png: " in str(error.value) and "; " in str(error.value)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "tif", "bmp"])
def test_damaged_images_load_or_are_refused(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(
        tmp_path / f"a.{suffix}"
    )
    whole, path = (tmp_path / f"a.{suffix}").read_bytes(), tmp_path / f"b.{suffix}"
    refused = 0
    for seed in range(60):
        rng = random.Random(seed)
        data = bytearray(whole)
        for _ in range(rng.choice([1, 4, 16])):
            data[rng.randrange(min(len(data), 200))] = rng.randrange(256)
        path.write_bytes(data[: rng.randrange(len(data))] if seed % 3 == 0 else data)
        try:
            image = load_image(path)
        except UserError as error:
            refused += "\n" not in str(error)
        else:
            assert image.shape[0] == 3 and 0 <= image.min() and image.max() <= 1
    assert refused >= 15
