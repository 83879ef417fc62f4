"""Gaussian splatting on CUDA with gsplat 1.5.3: all frames and views in one ``rasterization`` call, differentiable.

``require_cuda``, ``cuda_batch`` and ``background_only`` serve every CUDA backend.
"""

from __future__ import annotations

from dataclasses import fields, replace

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from core.cameras import Cameras
from core.errors import UserError
from core.gaussians import Gaussians
from core.rendering.base import LOW_PASS, Batch, RasterizeMode, RenderOutput, check_planes, flatten_inputs

DEVICE = "cuda"  # device of these backends; tests run them on the CPU with replaced kernels
_INSTEAD = "or choose the CPU renderer with --renderer numba"


class GsplatRenderer:
    """CUDA renderer; see `core.rendering.base.Renderer` for the call.

    In addition to that contract: computed in float32, also under autocast; a quaternion of norm below 1e-12 counts as
    the identity (and gets no gradient); skew in the intrinsics is not used. Gradients are gsplat's own. It has none for
    the intrinsics, so intrinsics that ask for one are refused.

    Raises:
        UserError: no CUDA device, gsplat is not installed, or it cannot compile its kernels.
    """

    name = "gsplat"
    on_gpu = True

    def __init__(self, near: float, far: float, rasterize_mode: RasterizeMode = "classic") -> None:
        check_planes(near, far)
        self.planes, self.rasterize_mode = (near, far), rasterize_mode
        require_cuda(self.name)
        try:
            from gsplat import rasterization
        except ImportError as error:
            raise UserError(
                f"the gsplat renderer needs a package that cannot be imported ({error}): "
                f"pip install gsplat==1.5.3 packaging, {_INSTEAD}"
            ) from error
        try:  # The first import compiles for minutes: do it now, not in the first step.
            from gsplat.cuda._backend import _C as kernels
        except (ImportError, OSError, RuntimeError, TypeError, ValueError) as error:
            raise UserError(_no_kernels(_cause(error))) from error
        if kernels is None:
            raise UserError(_no_kernels("it found no CUDA toolkit"))
        self._rasterization = rasterization

    def __call__(self, gaussians: Gaussians, cameras: Cameras, background: Tensor | None = None) -> RenderOutput:
        """Render on the GPU; see `core.rendering.base.Renderer`."""
        if torch.is_grad_enabled() and cameras.intrinsics.requires_grad:
            raise ValueError("gsplat has no gradient for the intrinsics: detach them, or use the numba renderer")
        batch = cuda_batch(self.name, gaussians, cameras, background)
        g, (height, width) = batch.gaussians, batch.cameras.size
        if g.opacities.numel() == 0 or batch.background.numel() == 0:
            return background_only(batch)
        with torch.autocast(DEVICE, enabled=False):  # bfloat16 would shift the cameras by 1e-3
            pixels, alpha, _ = self._rasterization(
                means=g.means,
                quats=g.quats,
                scales=g.scales,
                opacities=g.opacities,
                colors=g.colors,
                viewmats=batch.cameras.w2c,
                Ks=batch.cameras.intrinsics,
                width=width,
                height=height,
                near_plane=self.planes[0],
                far_plane=self.planes[1],
                packed=False,
                rasterize_mode=self.rasterize_mode,
                eps2d=LOW_PASS[self.rasterize_mode],
                backgrounds=batch.background,  # gsplat itself adds a 0 for the depth channel
                render_mode="RGB+D",  # D is the accumulated depth, ED would be the mean
            )
        image, depth = rearrange(pixels, "g v h w c -> (g v) c h w").split([3, 1], dim=1)
        return batch.output(image, rearrange(alpha, "g v h w 1 -> (g v) 1 h w"), depth)


def _no_kernels(why: str) -> str:
    return (
        f"gsplat could not compile its CUDA kernels ({why}): it needs nvcc of CUDA {torch.version.cuda} "
        f"and a host compiler, {_INSTEAD}"
    )


def _cause(error: Exception) -> str:
    """The cause of a failed build in one line: the compiler's first error if the text contains its output."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    errors = [line for line in lines if "error:" in line.lower()]
    line = (errors or lines or ["no message"])[0]
    return f"{type(error).__name__}: {line[:300]}"


def require_cuda(name: str) -> None:
    """Raise UserError where torch sees no CUDA device."""
    if not torch.cuda.is_available():
        raise UserError(f"the {name} renderer needs a CUDA device and torch sees none: use such a machine, {_INSTEAD}")


def cuda_batch(name: str, gaussians: Gaussians, cameras: Cameras, background: Tensor | None) -> Batch:
    """Flatten the inputs of a render call for a CUDA backend: float32, contiguous, with unit quaternions.

    Raises:
        ValueError: tensors on another device, NaN or infinity in them, or shapes that do not fit.
    """
    batch = flatten_inputs(gaussians, cameras, background)
    tensors = {field.name: getattr(batch.gaussians, field.name) for field in fields(Gaussians)}
    tensors |= {"c2w": batch.cameras.c2w, "intrinsics": batch.cameras.intrinsics}
    for key, tensor in tensors.items():
        if tensor.device.type != DEVICE or tensor.device != gaussians.means.device:
            raise ValueError(
                f"the {name} renderer works on the tensors of one {DEVICE} device, "
                f"got means on {gaussians.means.device} and {key} on {tensor.device}"
            )
    # One transfer: the CPU waits for the GPU once, not seven times.
    finite = torch.stack([torch.isfinite(tensor).all() for tensor in tensors.values()]).tolist()
    if not all(finite):
        broken = ", ".join(key for key, fine in zip(tensors, finite, strict=True) if not fine)
        raise ValueError(f"NaN or infinity in {broken}")
    tensors = {key: tensor.float().contiguous() for key, tensor in tensors.items()}
    cameras = Cameras(tensors.pop("c2w"), tensors.pop("intrinsics"), cameras.size)
    quats = tensors["quats"]
    zero = quats.detach().norm(dim=-1, keepdim=True) < 1e-12
    tensors["quats"] = F.normalize(torch.where(zero, quats.new_tensor([1.0, 0, 0, 0]), quats), dim=-1)
    return replace(batch, gaussians=Gaussians(**tensors), cameras=cameras, background=batch.background.float())


def background_only(batch: Batch) -> RenderOutput:
    """Output of a batch without Gaussians or images, connected to its inputs with zero gradients."""
    height, width = batch.cameras.size
    inputs = [getattr(batch.gaussians, field.name) for field in fields(Gaussians)]
    zero = sum(tensor.sum() for tensor in (*inputs, batch.cameras.c2w)) * 0.0
    plane = zero.expand(*batch.background.shape[:2], 1, height, width)
    return batch.output(batch.background[..., None, None] + plane, plane, plane)
