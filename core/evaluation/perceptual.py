"""Learned metrics that need the user's weights: CLIP similarity and FVD.

CLIP similarity is the cosine of the image embeddings of a prediction and the ground truth.

FVD is the Fréchet distance between the sets of predicted and true videos in the features of a video network, a
TorchScript file, usually I3D trained on Kinetics (Unterthiner et al. 2018, arXiv 1812.01717). Papers on single objects
often report "FVD" of one video at a time; no covariance exists there and the squared distance of two features remains:
here ``fvd_single``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from core.errors import UserError
from core.images import resize_area

# Statistics of CLIP's training images, with which every published CLIP normalises.
_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_CLIP_BATCH = 16  # images
_VIDEO_SIZE = 224  # pixels


class ClipImages:
    """CLIP's image tower.

    Args:
        folder: a CLIP model as Hugging Face stores it: config.json and model.safetensors.
        device: where it runs.

    Raises:
        UserError: transformers is not installed, or the folder holds no CLIP model.
    """

    def __init__(self, folder: str | Path, device: torch.device) -> None:
        if not (Path(folder) / "config.json").is_file():
            raise UserError(f"--clip_weights {folder} has no config.json; give the folder of a CLIP model")
        try:
            from transformers import CLIPVisionModelWithProjection
        except ImportError as error:
            raise UserError("CLIP similarity needs transformers: pip install -e '.[eval]'") from error
        try:
            model = CLIPVisionModelWithProjection.from_pretrained(str(folder), local_files_only=True)
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(f"--clip_weights {folder} cannot be read: {str(error).splitlines()[0]}") from error
        self.model, self.device = model.to(device).eval(), device
        self.size = model.config.image_size

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        """Unit embeddings ``[N, D]`` of images ``[N, 3, H, W]`` in [0, 1]."""
        shift, scale = (torch.tensor(values, device=self.device)[:, None, None] for values in (_CLIP_MEAN, _CLIP_STD))
        if images.shape[-1] < self.size:  # the area filter is used for reduction only
            images = F.interpolate(images, (self.size, self.size), mode="bicubic", align_corners=False).clamp(0, 1)
        images = (resize_area(images.to(self.device), (self.size, self.size)) - shift) / scale
        found = [self.model(pixel_values=part).image_embeds for part in images.split(_CLIP_BATCH)]
        return F.normalize(torch.cat(found), dim=-1)

    def similarity(self, images: Tensor, targets: Tensor) -> Tensor:
        """Cosines ``[T, V]`` of ``[T, V, 3, S, S]`` and the true images."""
        flat = (rearrange(batch, "t v c h w -> (t v) c h w") for batch in (images, targets))
        own, other = map(self.embed, flat)
        return (own * other).sum(-1).reshape(images.shape[:2]).cpu()


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Squared Fréchet distance of Gaussians fitted to two sets of features ``[N, D]``, N at least 2.

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) with means m and covariances S (divisor N - 1). The trace of the root is
    the sum of the roots of the eigenvalues of S1^(1/2) S2 S1^(1/2), which is symmetric.

    Raises:
        ValueError: fewer than two features on a side, for which there is no covariance.
    """
    if min(len(first), len(second)) < 2:
        raise ValueError(f"a covariance needs at least two features, got {len(first)} and {len(second)}")
    first, second = (np.asarray(values, np.float64) for values in (first, second))
    covariances = [np.atleast_2d(np.cov(values, rowvar=False)) for values in (first, second)]
    values, vectors = np.linalg.eigh(covariances[0])
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    product = np.linalg.eigvalsh(root @ covariances[1] @ root).clip(min=0)
    distance = np.square(first.mean(0) - second.mean(0)).sum()
    return float(distance + sum(map(np.trace, covariances)) - 2 * np.sqrt(product).sum())


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
        settings = {"rescale": False, "resize": False, "return_features": True}
        self.settings = {name: value for name, value in settings.items() if name in known}

    @torch.no_grad()
    def __call__(self, images: Tensor) -> np.ndarray:
        """Features ``[V, D]`` of V videos ``[T, V, 3, S, S]`` in [0, 1].

        Raises:
            UserError: the network cannot take videos of this length.
        """
        videos = rearrange(2 * resize_area(images, (_VIDEO_SIZE, _VIDEO_SIZE)) - 1, "t v c h w -> v c t h w").to(
            self.device
        )
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
        self.predicted: dict[str, list[np.ndarray]] = {}

    def add_ground_truth(self, images: Tensor) -> None:
        """True videos ``[T, V, 3, S, S]`` of the next object."""
        self.true.append(self.network(images))

    def add(self, system: str, images: Tensor) -> None:
        """A system's videos of the same object."""
        self.predicted.setdefault(system, []).append(self.network(images))

    def of(self, system: str) -> dict[str, float]:
        """``fvd`` over the set (of two videos or more), ``fvd_single`` and the number of ``videos``."""
        true, predicted = np.concatenate(self.true), np.concatenate(self.predicted[system])
        found = {"fvd_single": float(np.square(true - predicted).sum(1).mean()), "videos": len(predicted)}
        return {"fvd": frechet_distance(true, predicted), **found} if len(predicted) > 1 else found
