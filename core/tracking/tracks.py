"""A tracked object: the same Gaussians, number by number, at every frame of a video and at any time between.

File ``NAME_tracks.npz``: the fields of `Gaussians` as float32 arrays, ``means`` and ``quats`` with a leading time axis
``[T, N, ...]``; a field without it (``[N, ...]``) is constant. ``frame_rate`` is in frames a second: frame t is at
t / frame_rate seconds. World axes, see `core`; quaternions (w, x, y, z).
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, fields
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from core.errors import UserError, reason
from core.files import atomic_path, regular_file
from core.gaussians import Gaussians

_LARGEST = 1 << 32  # bytes that the arrays of a file may have


@dataclass(frozen=True)
class Tracks:
    """One canonical set and its trajectories.

    Attributes:
        gaussians: at the frames, leading axes ``[T]``; Gaussian n is the same at all of them.
        rate: frames a second.
    """

    gaussians: Gaussians
    rate: float

    @property
    def num_frames(self) -> int:
        """T."""
        return self.gaussians.shape[0]

    def at(self, time: Fraction | float) -> Gaussians:
        """The object at a time in frames, from 0 to T - 1; no leading axes.

        Between frames, centres and rotations follow the cubic spline through four frames (Catmull and Rom 1974), the
        rest is linear. Times outside are held to the ends.
        """
        time = min(max(time, 0), self.num_frames - 1)
        start = min(int(time), max(self.num_frames - 2, 0))
        part = float(time - start)
        g = self.gaussians
        if part == 0 or self.num_frames == 1:
            return g[start]
        around = torch.tensor([min(max(start + k, 0), self.num_frames - 1) for k in (-1, 0, 1, 2)])
        weights = _spline(part).to(g.means)
        quats = _one_sided(F.normalize(g.quats[around], dim=-1))
        opacities, scales, colors = (
            torch.lerp(x[start], x[start + 1], part) for x in (g.opacities, g.scales, g.colors)
        )
        return Gaussians(
            torch.einsum("k,knc->nc", weights, g.means[around]),
            opacities,
            scales,
            F.normalize(torch.einsum("k,knc->nc", weights, quats), dim=-1),
            colors,
        )


def _spline(part: float) -> Tensor:
    """Weights ``[4]`` of the frames -1, 0, 1, 2 at ``part`` between 0 and 1."""
    x, x2, x3 = part, part**2, part**3
    return torch.tensor([-x + 2 * x2 - x3, 2 - 5 * x2 + 3 * x3, x + 4 * x2 - 3 * x3, x3 - x2]) / 2


def _one_sided(quats: Tensor) -> Tensor:
    """Quaternions ``[K, N, 4]`` with signs for which they lie on the side of the second: q and -q are one rotation."""
    return torch.where((quats * quats[1]).sum(-1, keepdim=True) < 0, -quats, quats)


def save_tracks(tracks: Tracks, path: str | Path) -> None:
    """Write the file, whole or not at all."""
    arrays = {"frame_rate": np.float64(tracks.rate)}
    for field in fields(Gaussians):
        values = getattr(tracks.gaussians, field.name).float().cpu()
        constant = field.name not in ("means", "quats") and bool((values == values[:1]).all())
        arrays[field.name] = (values[0] if constant else values).numpy()
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def load_tracks(path: str | Path) -> Tracks:
    """Read the file; nothing in it is run.

    Raises:
        UserError: it is missing, damaged, or no file of tracks.
    """
    path = regular_file(path, "tracks")
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > _LARGEST:
                raise ValueError("its arrays are too large")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: torch.from_numpy(np.array(file[name], np.float32)) for name in _names()}
            rate = float(file["frame_rate"])
        count = len(arrays["means"])
        widths = {"opacities": 1}
        moving = {name: x if x.ndim == 3 - (name in widths) else x[None].expand(count, *x.shape)
                  for name, x in arrays.items()}  # fmt: skip
        gaussians = Gaussians(**moving)
    except Exception as error:  # of damaged files zipfile, zlib and numpy make some ten kinds of error
        raise UserError(f"cannot read tracks {path}: {reason(error)}; write them again with refine_4d.py") from error
    if not (rate > 0 and len(gaussians.shape) == 1 and gaussians.is_finite()):
        raise UserError(f"cannot read tracks {path}: they hold no finite sequence; write them again with refine_4d.py")
    return Tracks(gaussians, rate)


def _names() -> tuple[str, ...]:
    return tuple(field.name for field in fields(Gaussians))
