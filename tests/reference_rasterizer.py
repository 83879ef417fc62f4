"""Dense reference rasteriser for the tests: plain torch in float64, every pixel against every Gaussian.

Slow and obvious. It follows gsplat's rasterisation, classic or anti-aliased; gradients come from autograd.
"""

from __future__ import annotations

import torch
from torch import Tensor

from core.cameras import Cameras
from core.gaussians import Gaussians
from core.rendering import FAR, NEAR, RenderOutput

BLUR = {"classic": 0.3, "antialiased": 0.1}  # pixels^2


def rotation_matrices(quats: Tensor) -> Tensor:
    """``[..., 4]`` quaternions (w, x, y, z) of any norm to ``[..., 3, 3]``; a zero quaternion is the identity."""
    zero = quats.norm(dim=-1, keepdim=True) < 1e-12
    quats = torch.where(zero, quats.new_tensor([1.0, 0, 0, 0]), quats)
    w, x, y, z = (quats / quats.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def project(gaussians: Gaussians, camera: Cameras, blur: float = BLUR["classic"]) -> tuple[Tensor, Tensor, Tensor]:
    """N Gaussians and one camera: image means ``[N, 2]``, blurred image covariances ``[N, 2, 2]``, depths ``[N]``."""
    w2c = torch.linalg.inv(camera.c2w)
    rotation, translation = w2c[:3, :3], w2c[:3, 3]
    k, (height, width) = camera.intrinsics, camera.size
    x, y, z = (gaussians.means @ rotation.T + translation).unbind(-1)
    root = rotation_matrices(gaussians.quats) * gaussians.scales[..., None, :]
    covariance = rotation @ root @ root.mT @ rotation.T
    slopes = []
    for slope, focal, center, pixels in ((x / z, k[0, 0], k[0, 2], width), (y / z, k[1, 1], k[1, 2], height)):
        low, high = -(center + 0.15 * pixels) / focal, (pixels - center + 0.15 * pixels) / focal
        slopes.append(torch.minimum(torch.maximum(slope, low), high))
    zero = torch.zeros_like(z)
    jacobian = torch.stack(
        [
            torch.stack([k[0, 0] / z, zero, -k[0, 0] * slopes[0] / z], dim=-1),
            torch.stack([zero, k[1, 1] / z, -k[1, 1] * slopes[1] / z], dim=-1),
        ],
        dim=-2,
    )
    image_covariance = jacobian @ covariance @ jacobian.mT + blur * torch.eye(2, dtype=z.dtype)
    means = torch.stack([k[0, 0] * x / z + k[0, 2], k[1, 1] * y / z + k[1, 2]], dim=-1)
    return means, image_covariance, z


def compensation(covariances: Tensor, blur: float) -> Tensor:
    """Factors ``[N]`` that keep the integrals of Gaussians with these blurred covariances ``[N, 2, 2]``."""
    sharp = covariances - blur * torch.eye(2, dtype=covariances.dtype)
    return (torch.linalg.det(sharp).clamp_min(1e-30) / torch.linalg.det(covariances)).sqrt()


def render_one(
    gaussians: Gaussians, camera: Cameras, background: Tensor, near: float, far: float, rasterize_mode: str = "classic"
) -> tuple[Tensor, Tensor, Tensor]:
    """N Gaussians, one camera: image ``[3, H, W]``, alpha ``[1, H, W]``, depth ``[1, H, W]``."""
    height, width = camera.size
    with torch.no_grad():
        _, _, z = project(gaussians, camera)
        seen = (z >= near) & (z <= far) & (gaussians.opacities >= 1 / 255)
        order = torch.argsort(torch.where(seen, z, torch.inf), stable=True)[: int(seen.sum())]
    gaussians = gaussians.select(order)
    means, covariances, z = project(gaussians, camera, BLUR[rasterize_mode])
    opacities = gaussians.opacities
    if rasterize_mode == "antialiased":
        opacities = opacities * compensation(covariances, BLUR[rasterize_mode])
    ys = torch.arange(height, dtype=z.dtype) + 0.5
    xs = torch.arange(width, dtype=z.dtype) + 0.5
    pixels = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), dim=-1).reshape(-1, 1, 2)
    offset = pixels - means  # [P, N, 2]
    exponent = -0.5 * torch.einsum("pni,nij,pnj->pn", offset, torch.linalg.inv(covariances), offset)
    alpha = (opacities * exponent.exp()).clamp(max=0.999)
    alpha = torch.where(alpha >= 1 / 255, alpha, torch.zeros_like(alpha))
    passed = torch.cumprod(1 - alpha, dim=-1)  # transmittance behind each Gaussian
    drawn = passed > 1e-4  # monotone: once it fails the pixel is finished
    alpha = torch.where(drawn, alpha, torch.zeros_like(alpha))
    through = torch.cat([torch.ones_like(pixels[..., 0]), torch.cumprod(1 - alpha, dim=-1)], dim=-1)
    weights = through[:, :-1] * alpha
    image = weights @ gaussians.colors + through[:, -1:] * background
    return (
        image.T.reshape(3, height, width),
        (1 - through[:, -1]).reshape(1, height, width),
        (weights @ z).reshape(1, height, width),
    )


def render_reference(
    gaussians: Gaussians,
    cameras: Cameras,
    background: Tensor,
    near: float = NEAR,
    far: float = FAR,
    rasterize_mode: str = "classic",
) -> RenderOutput:
    """Leading axes ``[B, T]`` and ``[B, T, V]``, everything in float64."""
    gaussians, cameras = gaussians.to(torch.float64), cameras.to(torch.float64)
    lead = cameras.shape
    background = background.to(torch.float64).expand(*lead, 3)
    outputs = [
        render_one(gaussians[b, t], cameras[b, t, v], background[b, t, v], near, far, rasterize_mode)
        for b in range(lead[0])
        for t in range(lead[1])
        for v in range(lead[2])
    ]
    return RenderOutput(*(torch.stack(part).reshape(*lead, *part[0].shape) for part in zip(*outputs, strict=True)))
