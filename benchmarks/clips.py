"""Clips per second of `core.data` and of a plain reader that opens the tar for every image."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from PIL import Image
from torch import Tensor

from benchmarks.measure import MachineLimits, Row, compared, in_rounds
from core.data.clips import FIXED_VIEW_OFFSET, TAR_KINDS, Clip

RING, OTHERS = 16, 16  # views in the two tars of a clip


def write_clips(home: Path, count: int, size: int, frames: int) -> list[str]:
    """Clips in the published layout: a textured disk that moves, 16 fixed and 16 random views. Returns their names."""
    names = [f"bench-{number}-000.tar" for number in range(count)]
    generator = np.random.default_rng(0)
    coarse = Image.fromarray(generator.integers(0, 255, (16, 16, 3), np.uint8))
    texture = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))
    across, down = np.meshgrid(np.arange(size), np.arange(size))
    for name in names:
        for kind, views, ring in zip(TAR_KINDS["4d"], (RING, OTHERS), (True, False), strict=True):
            with tarfile.open(home / f"{kind}-{name}", "w") as tar:
                for view in range(views):
                    for frame in range(frames):
                        centre = size * (0.4 + 0.02 * frame)
                        inside = (across - centre) ** 2 + (down - size / 2) ** 2 < (size / 3) ** 2
                        picture = np.where(inside[..., None], np.roll(texture, 16 * view, axis=1), 255)
                        _add(tar, f"{view:03d}/img/{frame:03d}.jpg", _encoded(picture, "JPEG", quality=95))
                        _add(tar, f"{view:03d}/mask/{frame:03d}.png", _encoded(255 * inside, "PNG"))
                    for angle, value in (("rotation", 22.5 * view), ("elevation", 0.0 if ring else 10.0)):
                        values = io.BytesIO()
                        np.save(values, np.full((frames, 1), value))
                        _add(tar, f"{view:03d}/camera/{angle}.npy", values.getvalue())
    return names


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(f"./{name}")
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def _encoded(pixels: np.ndarray, file_format: str, **settings: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, file_format, **settings)
    return buffer.getvalue()


class PlainClip(Clip):
    """Reads as the published loader does: the tar opened again for each member, everything in float32 at full size."""

    def __init__(self, home: Path, name: str, mode: str = "4d") -> None:
        super().__init__(home, name, mode)
        self.tars = [home / f"{kind}-{name}" for kind in TAR_KINDS[mode]]

    def read(self, view_ids: Sequence[int], frames: Sequence[int], size: int) -> tuple[Tensor, Tensor]:
        """As `Clip.read`."""
        images, masks = [], []
        for frame in frames:
            for view_id in view_ids:
                picture, mask = (self._member(view_id, f"{kind}/{frame:03d}") for kind in ("img", "mask"))
                for angle in ("elevation", "rotation"):
                    np.load(io.BytesIO(self._content(view_id, f"camera/{angle}.npy")))
                mask = mask[..., :1]
                images.append(picture * mask + (1 - mask))
                masks.append(mask)
        axes = {"t": len(frames), "v": len(view_ids)}
        resized = []
        for parts in (images, masks):
            batch = rearrange(torch.from_numpy(np.stack(parts)), "n h w c -> n c h w")
            batch = F.interpolate(batch, (size, size), mode="bilinear", align_corners=False)
            resized.append(rearrange(batch, "(t v) c h w -> t v c h w", **axes))
        return resized[0], resized[1]

    def _member(self, view_id: int, name: str) -> np.ndarray:
        suffix = "jpg" if name.startswith("img") else "png"
        picture = Image.open(io.BytesIO(self._content(view_id, f"{name}.{suffix}")))
        return np.asarray(picture.convert("RGB"), np.float32) / 255

    def _content(self, view_id: int, name: str) -> bytes:
        fixed = view_id >= FIXED_VIEW_OFFSET
        with tarfile.open(self.tars[0 if fixed else 1]) as tar:
            return tar.extractfile(f"./{view_id - FIXED_VIEW_OFFSET * fixed:03d}/{name}").read()


def clips(rounds: int, tiny: bool, device: torch.device) -> dict[str, list[Row]]:
    """Samples as `nano` and as `big` reads them out of clips of 512 pixels."""
    with TemporaryDirectory() as folder:
        home = Path(folder)
        names = write_clips(home, count=2, size=64 if tiny else 512, frames=2 if tiny else 8)
        copy = MachineLimits.measured(torch.device("cpu"), side=256 if tiny else 2048).copy
        rows = []
        for preset, num_frames, num_views, size in (("nano", 4, 6, 128), ("big", 8, 8, 512)):
            frames = range(2 if tiny else num_frames)
            view_ids = [FIXED_VIEW_OFFSET + 4 * k for k in range(4)] + list(range(num_views - 4))

            def read(
                clip: type[Clip], frames: range = frames, view_ids: list[int] = view_ids, size: int = size
            ) -> None:
                for name in names:
                    clip(home, name).read(view_ids, frames, 32 if tiny else size)

            seconds = in_rounds(
                {"ours": lambda read=read: read(Clip), "reference": lambda read=read: read(PlainClip)},
                max(1, rounds // 3),
                torch.device("cpu"),
            )
            seconds = {name: value / len(names) for name, value in seconds.items()}
            # Minimum traffic: the float32 pixels of the sample are written once.
            lower_bound = len(frames) * num_views * 4 * 4 * size**2 / copy
            row = compared(f"a sample of {preset}", seconds["ours"], seconds["reference"], 4.0, lower_bound)
            rows.append(row | {"clips / s": 1 / seconds["ours"]})
    return {"clip reading": rows}
