"""FVD: how far the videos of a system lie, as a set, from the true ones, in the features of a video network.

The network is a TorchScript file that the user gives, usually I3D trained on Kinetics. Unterthiner et al. 2018
(arXiv 1812.01717) define the distance over many videos. Papers on single objects often report it of one video at a
time, where no covariance exists and what remains is the squared distance of two features: that is `single` here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from core.errors import UserError
from core.images import resize_area

SIDE = 224  # pixels


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Squared Fréchet distance of Gaussians fitted to two sets of features ``[N, D]``, N at least 2.

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) with means m and covariances S (divisor N - 1). The trace of the root is
    the sum of the roots of the eigenvalues of S1^(1/2) S2 S1^(1/2), which is symmetric.

    Raises:
        ValueError: fewer than two features on a side, for which there is no covariance.
    """
    if min(len(first), len(second)) < 2:
        raise ValueError(f"a covariance needs two features at least, got {len(first)} and {len(second)}")
    first, second = (np.asarray(values, np.float64) for values in (first, second))
    covariances = [np.atleast_2d(np.cov(values, rowvar=False)) for values in (first, second)]
    values, vectors = np.linalg.eigh(covariances[0])
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    product = np.linalg.eigvalsh(root @ covariances[1] @ root).clip(min=0)
    apart = np.square(first.mean(0) - second.mean(0)).sum()
    return float(apart + sum(map(np.trace, covariances)) - 2 * np.sqrt(product).sum())


class VideoNetwork:
    """A TorchScript video network: videos in, one feature each out.

    It is called with ``[B, 3, T, 224, 224]`` in [-1, 1]. Where its forward has them (the I3D file common among video
    papers does), ``rescale`` and ``resize`` are off and ``return_features`` is on.

    Raises:
        UserError: the file is missing or no TorchScript.
    """

    def __init__(self, path: str | Path, device: torch.device) -> None:
        self.path, self.device = Path(path), device
        try:
            self.network = torch.jit.load(str(path), map_location=device).eval()
        except (RuntimeError, ValueError, OSError) as error:
            raise UserError(
                f"cannot read --i3d {path}: {str(error).splitlines()[0]}; give a TorchScript file"
            ) from error
        known = {argument.name for argument in self.network.forward.schema.arguments}
        wanted = {"rescale": False, "resize": False, "return_features": True}
        self.settings = {name: value for name, value in wanted.items() if name in known}

    @torch.no_grad()
    def __call__(self, images: Tensor) -> np.ndarray:
        """Features ``[V, D]`` of V videos ``[T, V, 3, S, S]`` in [0, 1].

        Raises:
            UserError: the network cannot take videos of this length.
        """
        videos = rearrange(2 * resize_area(images, (SIDE, SIDE)) - 1, "t v c h w -> v c t h w").to(self.device)
        try:
            features = [self.network(video[None], **self.settings) for video in videos]
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise UserError(f"--i3d {self.path} fails on videos of {len(images)} frames: {reason}") from error
        return torch.cat(features).flatten(1).double().cpu().numpy()


class FrechetScores:
    """Collects the features of all videos of a protocol."""

    def __init__(self, network: VideoNetwork) -> None:
        self.network = network
        self.true: list[np.ndarray] = []
        self.own: dict[str, list[np.ndarray]] = {}

    def add_truth(self, images: Tensor) -> None:
        """True videos ``[T, V, 3, S, S]`` of the next object."""
        self.true.append(self.network(images))

    def add(self, system: str, images: Tensor) -> None:
        """A system's videos of the same object."""
        self.own.setdefault(system, []).append(self.network(images))

    def of(self, system: str) -> dict[str, float]:
        """``fvd`` over the set (of two videos or more), ``fvd_single`` and the number of ``videos``."""
        true, own = np.concatenate(self.true), np.concatenate(self.own[system])
        found = {"fvd_single": float(np.square(true - own).sum(1).mean()), "videos": len(own)}
        return {"fvd": frechet_distance(true, own), **found} if len(own) > 1 else found
