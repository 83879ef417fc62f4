"""A whole clip as ``.4dgs`` or as animated USD (ParticleField3DGaussianSplat), both by the package fourdgs.

Each frame's Gaussians exist from its time to the next frame's and stand still meanwhile.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from core.errors import UserError, reason
from core.export.sequences import GaussianSequence
from core.files import atomic_path
from core.gaussians import Gaussians

SUFFIXES = {"4dgs": ".4dgs", "usd": ".usdc"}
_PACKAGES = {"4dgs": ("fourdgs",), "usd": ("fourdgs", "pxr")}
_AXES = "y-up-right-handed"


def check_packages(kind: str) -> None:
    """Raise `UserError` where a format's packages are not installed."""
    if not all(map(importlib.util.find_spec, _PACKAGES[kind])):
        raise UserError(
            f"the format {kind} is written by packages that are not installed: pip install -e '.[export]' "
            "-c constraints.txt"
        )


def write(sequence: GaussianSequence, kind: str, path: Path) -> None:
    """Write all frames, which are held in memory at once, into one file.

    Raises:
        UserError: a package is missing or refuses, the file cannot be written.
    """
    check_packages(kind)
    import fourdgs

    count, rate = len(sequence), float(sequence.rate)
    # Quotients, as fourdgs computes the times of its samples: products would differ in the last bit.
    frames = [_arrays(sequence[index], index / rate, (index + 1) / rate) for index in range(count)]
    scene = fourdgs.GaussianSet(**{name: np.concatenate([frame[name] for frame in frames]) for name in frames[0]})
    with atomic_path(path) as temporary:
        try:
            if kind == "4dgs":
                fourdgs.write(str(temporary), scene, count / rate)
            else:
                # Samples at the frames' times only: one more at the end would show nothing.
                timing = {"animated": True, "fps": rate, "duration_sec": (count - 1) / rate}
                cutoff = fourdgs.WriteOptions().cutoff
                fourdgs.to_usd(str(temporary), scene, 0.0, cutoff=cutoff, coordinate_system=_AXES, **timing)
        except fourdgs.FourdgsError as error:
            raise UserError(f"cannot write {path}: fourdgs says: {reason(error)}") from error


def _arrays(gaussians: Gaussians, start: float, end: float) -> Mapping[str, np.ndarray]:
    """The fields of a `fourdgs.GaussianSet` for Gaussians that exist for a while; quaternions are x, y, z, w there."""
    count = gaussians.num
    quats = F.normalize(gaussians.quats, dim=-1).roll(-1, dims=-1)
    colors = torch.cat([gaussians.colors.clamp(0, 1), gaussians.opacities[:, None]], dim=-1)
    return {
        "positions": gaussians.means.numpy(),
        "scales": gaussians.scales.numpy(),
        "rotations": quats.numpy(),
        "colors": colors.numpy(),
        "motions": np.zeros((count, 3), np.float32),
        "mu_t": np.full(count, start, np.float32),
        "sigma_t": np.full(count, np.inf, np.float32),
        "win_lo": np.full(count, start, np.float64),
        "win_hi": np.full(count, end, np.float64),
    }
