"""Losses and metrics of renders: named training terms, PSNR and SSIM.

Images are ``[..., 3, H, W]`` in [0, 1] with any leading axes, usually ``[B, T, V]``; alpha and masks
are ``[..., 1, H, W]``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from core.lpips import Lpips

SSIM_WINDOW, SSIM_SIGMA = 11, 1.5  # pixels
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2  # for a range of one


@dataclass(frozen=True)
class LossWeights:
    """Factor of each training term; a term with factor 0 is not computed."""

    rgb: float = 1.0
    alpha: float = 1.0
    lpips: float = 1.0


def training_loss(
    image: Tensor,
    alpha: Tensor,
    target: Tensor,
    mask: Tensor,
    weights: LossWeights = LossWeights(),
    perceptual: Lpips | None = None,
    lpips_views: Tensor | None = None,
) -> dict[str, Tensor]:
    """The published loss of LGM and L4GM by term: MSE of colour and of alpha, and LPIPS, each a mean over all images.

    Args:
        image: render on white ``[..., 3, H, W]``.
        alpha: its opacity ``[..., 1, H, W]``.
        target: true colours on white ``[..., 3, H, W]``.
        mask: true opacity ``[..., 1, H, W]``.
        weights: factor of each term.
        perceptual: from `core.lpips.load_lpips`; needed if ``weights.lpips`` is not 0.
        lpips_views: indices on the last leading axis (views); LPIPS, the costly term, uses these only. None: all.

    Returns:
        the terms with a factor, named as in `LossWeights` and unweighted, and their weighted sum ``total``; scalars.

    Raises:
        ValueError: LPIPS is weighted but not given.
    """
    if weights.lpips and perceptual is None:
        raise ValueError("weights.lpips is not 0: pass perceptual=load_lpips()")
    terms = {}
    if weights.rgb:
        terms["rgb"] = F.mse_loss(image, target)
    if weights.alpha:
        terms["alpha"] = F.mse_loss(alpha, mask)
    if weights.lpips:
        terms["lpips"] = perceptual(_chosen(image, lpips_views), _chosen(target, lpips_views)).mean()
    return {**terms, "total": sum(getattr(weights, name) * term for name, term in terms.items())}


def _chosen(images: Tensor, views: Tensor | None) -> Tensor:
    """The chosen views of ``[..., V, 3, H, W]`` as one batch ``[N, 3, H, W]``."""
    images = images if views is None else images.index_select(-4, views)
    return rearrange(images, "... c h w -> (...) c h w")


def psnr(images: Tensor, targets: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image in dB, ``[...]``; at most 100, the value of equal images.

    Report the mean over images. (Published: the PSNR of the batch's MSE, which is lower and depends on the batch.)
    """
    error = (images - targets).square().mean((-3, -2, -1))
    return -10 * error.clamp_min(1e-10).log10()


def ssim(images: Tensor, targets: Tensor) -> Tensor:
    """Structural similarity of each image, ``[...]``: Wang et al. 2004 with their window, per channel, then averaged.

    The Gaussian window has 11 x 11 pixels and sigma 1.5; only positions where it fits count, so nothing is padded.

    Raises:
        ValueError: an image is smaller than the window.
    """
    lead, (height, width) = images.shape[:-3], images.shape[-2:]
    if min(height, width) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs at least {SSIM_WINDOW} x {SSIM_WINDOW} pixels, got {height} x {width}")
    x, y = (batch.reshape(-1, height, width) for batch in (images, targets))
    down, across = _window(height, x), _window(width, x)

    def blur(batch: Tensor) -> Tensor:
        return down @ batch @ across.T

    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + SSIM_C1) / (mean_x**2 + mean_y**2 + SSIM_C1)
    structure = (2 * covariance + SSIM_C2) / (var_x + var_y + SSIM_C2)
    return (luminance * structure).mean((-2, -1)).reshape(*lead, -1).mean(-1)


def _window(size: int, like: Tensor) -> Tensor:
    """The Gaussian window of SSIM at every place where it fits, ``[size - 10, size]``; rows sum to one.

    On a CPU two products with this matrix are several times faster than convolutions with one channel.
    """
    pixels = torch.arange(size, dtype=like.dtype, device=like.device)
    offsets = pixels - pixels[: size - SSIM_WINDOW + 1, None] - SSIM_WINDOW // 2
    weights = (-offsets.square() / (2 * SSIM_SIGMA**2)).masked_fill(offsets.abs() > SSIM_WINDOW // 2, -torch.inf)
    return weights.softmax(dim=-1)
