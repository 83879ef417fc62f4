"""A whole clip in one small file, ``NAME.l4gm``: the Gaussians of every frame, quantised and deflated.

    8 bytes   "L4GMCLIP"
    uint32    version, 2; version 1 has no groups in time
    uint32    length of the header in bytes, then uint32 its CRC-32
    header    JSON: num_frames; frame_rate, exact, as text such as "45" or "30000/1001"; steps; up, "+y"; front, "+z"
    for each group of frames, up to 16, until num_frames have come:
        uint32    F, the number of frames, plus 2^31 where the group is in time
        uint32    length of the block in bytes, then uint32 its CRC-32
        uint32    F times: the number of Gaussians of a frame; N is their sum
        block     zlib stream of 28 N bytes

All integers are little-endian. An inflated block holds 14 columns of N numbers: x, y, z; the natural logarithms of the
three scales; red, green, blue; opacity; the quaternion w, x, y, z. A number k of 16 bits with sign stands for k times
the column's step; colours and opacity lie in [0, 1]. Of each column the differences from one Gaussian to the next
(modulo 2^16, in each frame the first from 0) are stored, zigzag-coded (0, -1, 1, -2, ... as 0, 1, 2, 3, ...): first the
N low bytes, then the N high bytes.

In a group in time, whose frames have the same number of Gaussians, every frame after the first holds the differences
from the frame before instead. It is written where that is smaller: where frame by frame the same Gaussians move.

Neighbours in a frame are neighbours in a picture, so differences are small. A column has several frames one after the
other, so zlib finds again what did not move. Groups do not refer to each other, and frames may differ in number. The
axes are the world's, y up. zlib because every browser inflates it.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import IO

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from core.errors import UserError, reason
from core.files import atomic_path, parse_rate, parse_table, regular_file
from core.gaussians import Gaussians

SUFFIX = ".l4gm"
MAGIC, VERSION, _READ = b"L4GMCLIP", 2, (1, 2)
COLUMNS = 14
# Of means, log scales, colours, opacity, quaternion. Finer ones make the file larger and no picture better.
STEPS = (*[1 / 2048] * 3, *[1 / 20] * 3, *[1 / 255] * 3, 1 / 255, *[1 / 127] * 4)
LIMIT = 2**15 - 1
MAX_GAUSSIANS, MAX_HEADER = 1 << 24, 1 << 20
_SMALLEST_SCALE = 1e-9
GROUP, _COMPRESSION = 16, 9
_IN_TIME = 1 << 31
_HEAD, _GROUP_HEAD = struct.Struct("<8sIII"), struct.Struct("<III")


@dataclass(frozen=True)
class _Group:
    """Frames that are packed together: how many Gaussians each has, the block, and whether it is in time."""

    counts: tuple[int, ...]
    block: bytes
    in_time: bool


class Clip(Sequence[Gaussians]):
    """A sequence whose frames are unpacked on demand; `load_clip` makes it.

    Attributes:
        path: the file.
        rate: frames per second, exact.
        steps: of the 14 columns.
    """

    def __init__(self, path: Path, rate: Fraction, steps: tuple[float, ...], groups: Sequence[_Group]) -> None:
        self.path, self.rate, self.steps, self._groups = path, rate, steps, groups
        self._places = [(number, k) for number, group in enumerate(groups) for k in range(len(group.counts))]
        self._unpacked: tuple[int, list[Gaussians]] = (-1, [])  # of the group that was asked for last

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Gaussians:
        """Frame number ``index``, without leading axes, float32, axes of the world.

        Raises:
            IndexError: there is no such frame.
            UserError: its block is damaged.
        """
        number, place = self._places[index]
        if self._unpacked[0] != number:
            group = self._groups[number]
            try:
                self._unpacked = (number, unpack_frames(group.block, group.counts, self.steps, group.in_time))
            except (zlib.error, ValueError) as error:
                raise _unreadable(self.path, f"the group of frame {index + 1} is damaged") from error
        return self._unpacked[1][place]


class ClipWriter:
    """Takes the frames of one clip in order; `write_clip` makes it."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path, self.file, self.num_frames = path, file, 0
        self.waiting: list[np.ndarray] = []  # of the group that is not written yet

    def add(self, gaussians: Gaussians) -> None:
        """Append one frame, without leading axes.

        Raises:
            UserError: a value is NaN or infinite or too large, or a scale is negative.
        """
        try:
            self.waiting.append(_levels(gaussians))
        except ValueError as error:
            raise UserError(f"cannot write {self.path}: in frame {self.num_frames + 1} {error}") from error
        self.num_frames += 1
        if len(self.waiting) == GROUP:
            self.flush()

    def flush(self) -> None:
        """Write the frames that wait."""
        if self.waiting:
            counts = [levels.shape[1] for levels in self.waiting]
            block, in_time = _deflated(self.waiting)
            self.file.write(_GROUP_HEAD.pack(len(counts) | in_time * _IN_TIME, len(block), zlib.crc32(block)))
            self.file.write(struct.pack(f"<{len(counts)}I", *counts) + block)
            self.waiting = []


@contextmanager
def write_clip(path: str | Path, rate: Fraction, num_frames: int) -> Iterator[ClipWriter]:
    """Write a clip frame by frame: ``with write_clip(path, rate, 70) as clip: clip.add(gaussians)``.

    The file appears, whole, when the block ends well. Up to 16 frames are held at a time.

    Args:
        path: file to write.
        rate: frames per second.
        num_frames: how many will come.

    Raises:
        UserError: the file cannot be written; a frame cannot be packed.
        ValueError: another number of frames came.
    """
    header = json.dumps(
        {"num_frames": num_frames, "frame_rate": str(rate), "up": "+y", "front": "+z", "steps": STEPS}
    ).encode()
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(_HEAD.pack(MAGIC, VERSION, len(header), zlib.crc32(header)) + header)
        writer = ClipWriter(Path(path), file)
        yield writer
        writer.flush()
        if writer.num_frames != num_frames:
            raise ValueError(f"{path}: {num_frames} frames were announced and {writer.num_frames} came")


def load_clip(path: str | Path) -> Clip:
    """Read a packed clip; its frames are unpacked when they are asked for.

    Raises:
        UserError: the file is missing, no packed clip, of a later version, truncated or damaged.
    """
    path = regular_file(path, "clip")
    try:
        data = memoryview(path.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read clip {path}: {reason(error)}; check the path") from error
    try:
        return _parsed(path, data)
    except (struct.error, ValueError, KeyError, TypeError, OverflowError) as error:
        raise _unreadable(path, "it is truncated or damaged") from error


def _parsed(path: Path, data: memoryview) -> Clip:
    """Raises `ValueError` and its like where something is missing or odd."""
    magic, version, length, checksum = _HEAD.unpack_from(data)
    if magic != MAGIC:
        raise _unreadable(path, "it is no packed clip")
    if version not in _READ:
        raise _unreadable(path, f"it has version {version}, and this program reads versions 1 and {VERSION}")
    header = bytes(data[_HEAD.size : _HEAD.size + length])
    if length > MAX_HEADER or zlib.crc32(header) != checksum:
        raise ValueError("header")
    table = parse_table(header.decode())
    steps, rate, num_frames = tuple(map(float, table["steps"])), parse_rate(table["frame_rate"]), table["num_frames"]
    if len(steps) != COLUMNS or not np.isfinite(steps).all() or type(num_frames) is not int or num_frames <= 0:
        raise ValueError("header")
    return Clip(path, rate, steps, list(_groups(data[_HEAD.size + length :], num_frames)))


def _groups(data: memoryview, num_frames: int) -> Iterator[_Group]:
    """The groups that follow the header; raises `ValueError` or `struct.error` where they are damaged."""
    place = 0
    while num_frames > 0:
        head, size, checksum = _GROUP_HEAD.unpack_from(data, place)
        frames, in_time = head & ~_IN_TIME, head >= _IN_TIME
        counts = struct.unpack_from(f"<{min(frames, num_frames)}I", data, place + _GROUP_HEAD.size)
        start = place + _GROUP_HEAD.size + 4 * frames
        block = bytes(data[start : start + size])
        if not 0 < frames <= num_frames or sum(counts) > MAX_GAUSSIANS or zlib.crc32(block) != checksum:
            raise ValueError("group")
        yield _Group(counts, block, in_time)
        num_frames -= frames
        place = start + size


def _levels(gaussians: Gaussians) -> np.ndarray:
    """One frame's numbers, int16 ``[14, N]``; raises `ValueError` where it cannot be packed."""
    gaussians = gaussians.detach().to("cpu").to(torch.float64)
    if not gaussians.is_finite() or bool((gaussians.scales < 0).any()):
        raise ValueError("the Gaussians hold NaN, infinite values or negative scales")
    levels = (_columns(gaussians) / torch.tensor(STEPS, dtype=torch.float64)).round()
    if bool((levels.abs() > LIMIT).any()):
        raise ValueError(f"a position lies more than {LIMIT * STEPS[0]:.0f} units from the centre, or a scale is huge")
    return levels.numpy().T.astype(np.int16)


def _deflated(frames: Sequence[np.ndarray]) -> tuple[bytes, bool]:
    """The block of a group of frames' levels, and whether it is in time."""
    inside = [np.diff(levels, axis=1, prepend=np.int16(0)) for levels in frames]
    blocks = [(_zipped(inside), False)]
    if len({levels.shape for levels in frames}) == 1:
        blocks.append((_zipped([inside[0], *(after - before for before, after in pairwise(frames))]), True))
    return min(blocks, key=lambda block: len(block[0]))


def _zipped(frames: Sequence[np.ndarray]) -> bytes:
    deltas = np.concatenate(frames, axis=1)
    zigzag = ((deltas << 1) ^ (deltas >> 15)).view(np.uint16)
    return zlib.compress(np.stack([zigzag & 255, zigzag >> 8], axis=1).astype(np.uint8).tobytes(), _COMPRESSION)


def unpack_frames(
    block: bytes, counts: Sequence[int], steps: Sequence[float] = STEPS, in_time: bool = False
) -> list[Gaussians]:
    """The frames of a group, which have these numbers of Gaussians.

    Raises:
        zlib.error, ValueError: the block is damaged.
    """
    size = 2 * COLUMNS * sum(counts)
    inflater = zlib.decompressobj()
    planes = inflater.decompress(block, size + 1)  # never more, whatever an untrusted block says
    if len(planes) != size or not inflater.eof or (in_time and len(set(counts)) > 1):
        raise ValueError(f"{len(planes)} bytes for {sum(counts)} Gaussians")
    low, high = np.frombuffer(planes, np.uint8).reshape(COLUMNS, 2, -1).astype(np.uint16).transpose(1, 0, 2)
    zigzag = low | (high << 8)
    parts = np.split((zigzag >> 1) ^ (0 - (zigzag & 1)), np.cumsum(counts)[:-1], axis=1)
    if in_time:
        first = np.add.accumulate(parts[0], axis=1, dtype=np.uint16)
        levels = list(np.add.accumulate([first, *parts[1:]], axis=0, dtype=np.uint16))
    else:
        levels = [np.add.accumulate(part, axis=1, dtype=np.uint16) for part in parts]
    return [_decoded(part.view(np.int16), steps) for part in levels]


def _decoded(levels: np.ndarray, steps: Sequence[float]) -> Gaussians:
    values = torch.from_numpy(levels.T.astype(np.float32)) * torch.tensor(steps)
    means, log_scales, colors, opacity, quats = values.split([3, 3, 3, 1, 4], dim=-1)
    gaussians = Gaussians(means, opacity.squeeze(-1), log_scales.exp(), F.normalize(quats, dim=-1), colors)
    if not gaussians.is_finite():
        raise ValueError("its steps are too large")
    return gaussians


def _columns(gaussians: Gaussians) -> Tensor:
    """``[N, 14]``, in the order of `STEPS`."""
    colors, opacities = gaussians.colors.clamp(0, 1), gaussians.opacities.clamp(0, 1)
    log_scales = gaussians.scales.clamp_min(_SMALLEST_SCALE).log()
    return torch.cat([gaussians.means, log_scales, colors, opacities[:, None], _one_sided(gaussians.quats)], dim=-1)


def _one_sided(quats: Tensor) -> Tensor:
    """Unit quaternions, of q and -q (the same rotation) the one with positive w."""
    quats = F.normalize(quats, dim=-1)
    return torch.where(quats[:, :1] < 0, -quats, quats)


def _unreadable(path: Path, why: str) -> UserError:
    return UserError(f"cannot read clip {path}: {why}; write it again with infer_4d.py or l4gm export")
