"""Pixels and image files. Inside: floats ``[..., 3, H, W]`` in [0, 1]. In files: uint8 ``[H, W, 3]``, rounded."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor

from core.errors import UserError, reason
from core.files import atomic_path, regular_file

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
"""Picture files that are read. Some other formats of Pillow start programs (EPS) or open further files."""
MAX_SIDE = 12_288
"""Pixels. Pictures are padded to squares: one of this side takes 1.8 GB as floats."""
CAPTION_HEIGHT = 16  # pixels


@lru_cache(maxsize=64)
def _area_weights(old: int, new: int) -> Tensor:
    """``[new, old]``: the share of each old pixel in each new pixel; every row sums to one."""
    edges = torch.arange(new + 1, dtype=torch.float64) * old / new
    pixels = torch.arange(old, dtype=torch.float64)
    overlap = torch.minimum(edges[1:, None], pixels + 1) - torch.maximum(edges[:-1, None], pixels)
    return overlap.clamp_min(0) * new / old


def resize_area(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize ``[..., H, W]`` to ``size`` (height, width) with an exact box filter, up or down, any ratio.

    A new pixel is the mean of the old image over the area it covers, so means are kept and nothing rings or
    aliases. Differentiable.
    """
    for axis, new in ((-2, size[0]), (-1, size[1])):
        old = images.shape[axis]
        if old != new:
            weights = _area_weights(old, new).to(images)
            images = weights @ images if axis == -2 else images @ weights.T
    return images


def letterbox(images: Tensor, size: int) -> Tensor:
    """Fit ``[..., 3, H, W]`` into a square of ``size`` pixels: centred on white, never stretched."""
    height, width = images.shape[-2:]
    top, left = max(width - height, 0) // 2, max(height - width, 0) // 2
    bottom, right = max(width - height, 0) - top, max(height - width, 0) - left
    return resize_area(F.pad(images, (left, right, top, bottom), value=1.0), (size, size))


def on_white(rgba: np.ndarray) -> Tensor:
    """uint8 RGBA ``[..., H, W, 4]`` (straight alpha) composited on white, as floats ``[..., 3, H, W]``."""
    planes = rearrange(torch.from_numpy(rgba), "... h w c -> ... c h w").contiguous()  # cheaper as uint8 than as floats
    color, alpha = planes.split([3, 1], dim=-3)
    if bool((alpha == 255).all()):
        return color.float() / 255
    return 1 - (alpha.float() / 255) * (1 - color.float() / 255)


def to_uint8(images: Tensor) -> np.ndarray:
    """Floats ``[..., 3, H, W]``, clamped to [0, 1], as uint8 ``[..., H, W, 3]``, rounded to nearest."""
    levels = (images.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)
    return rearrange(levels, "... c h w -> ... h w c").contiguous().cpu().numpy()


def load_image(path: str | Path) -> Tensor:
    """Read an image file as ``[3, H, W]`` in [0, 1]; alpha is composited on white. Raises as `open_image`."""
    return on_white(np.array(open_image(path).convert("RGBA")))


def open_image(path: str | Path) -> Image.Image:
    """Decode an image file: RGBA where it has transparency, otherwise RGB; 8 bits, EXIF rotation applied.

    Of an animation it is the first frame. 16-bit grey is scaled to 8 bits.

    Raises:
        UserError: the file is missing, truncated, of no format in `FORMATS`, without colours that can be shown, or
            has a side above `MAX_SIDE`.
    """
    path = regular_file(path, "image")
    Image.init()  # registers WebP and TIFF, which Pillow would do only where no formats are named
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=FORMATS) as image:
            check_size("image", path, *image.size)
            return _as_rgb(ImageOps.exif_transpose(image))
    except UserError:
        raise
    except Exception as error:  # damaged files make Pillow's readers raise some ten kinds of error
        raise UserError(f"cannot read image {path}: {reason(error)}; give a whole PNG, JPEG or WebP file") from error


def check_size(what: str, path: Path, width: int, height: int) -> None:
    """Raise `UserError` where a side is above `MAX_SIDE`."""
    if max(width, height) > MAX_SIDE:
        raise UserError(
            f"cannot read {what} {path}: it has {width} x {height} pixels, and a side may have {MAX_SIDE:,}; "
            f"scale it down"
        )


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image).astype(np.float32) / 257).round().astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"its pixels are numbers of mode {image.mode}, which have no known white")
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def save_image(image: Tensor, path: str | Path) -> None:
    """Write ``[3, H, W]`` in [0, 1] to an image file; the suffix of ``path`` chooses the format.

    Raises:
        UserError: the file cannot be written.
    """
    picture = Image.fromarray(to_uint8(image))
    with atomic_path(path) as temporary:
        picture.save(temporary)


def contact_sheet(rows: Sequence[Sequence[Tensor]], captions: Sequence[str] = (), cell: int = 128) -> Tensor:
    """Put images of any size into a grid on white, for looking at many results at once.

    Args:
        rows: images ``[3, H, W]`` in [0, 1], row by row; rows may differ in length.
        captions: one line of text above each row; none at all leaves the captions out.
        cell: side of a grid cell in pixels; images are letterboxed into it.

    Returns:
        ``[3, len(rows) * (cell + caption), columns * cell]``.

    Raises:
        ValueError: the number of captions is not the number of rows.
    """
    if captions and len(captions) != len(rows):
        raise ValueError(f"{len(captions)} captions for {len(rows)} rows")
    columns = max((len(row) for row in rows), default=0)
    strips = [_text_strip(text, columns * cell) for text in captions] if captions else [None] * len(rows)
    parts = []
    for strip, row in zip(strips, rows, strict=True):
        cells = [letterbox(image.detach().float().cpu(), cell) for image in row]
        blank = [torch.ones(3, cell, cell)] * (columns - len(row))
        parts += [strip] if strip is not None else []
        parts.append(torch.cat([*cells, *blank], dim=-1))
    return torch.cat(parts, dim=-2) if parts else torch.ones(3, 1, 1)


def _text_strip(text: str, width: int) -> Tensor:
    strip = Image.new("RGB", (width, CAPTION_HEIGHT), "white")
    ImageDraw.Draw(strip).text((3, 1), text, fill="black", font=ImageFont.load_default(11))
    return rearrange(torch.from_numpy(np.array(strip)), "h w c -> c h w").float() / 255
