"""Gaussian splatting on CUDA with the fork of diff-gaussian-rasterization that returns depth and alpha too.

An optional adapter for comparisons with LGM, which was trained with it. It draws one image a call and has a
non-commercial licence; gsplat is the renderer for CUDA.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from core.cameras import Cameras
from core.errors import UserError
from core.gaussians import Gaussians
from core.rendering.base import Batch, RasterizeMode, RenderOutput, check_planes
from core.rendering.gsplat_backend import DEVICE, background_only, cuda_batch, require_cuda

_FORK = "the fork of diff-gaussian-rasterization with depth and alpha (ashawkey/diff-gaussian-rasterization)"


class DiffGaussianRenderer:
    """CUDA renderer; see `core.rendering.base.Renderer` for the call.

    Deviations from that contract, due to the fork:

    * The principal point must be the image's centre.
    * No gradients for cameras and background; inputs that ask for them are refused.
    * The fork has no far plane, and its near plane is fixed at 0.2. Gaussians outside [near, far] get opacity 0 here,
      so what is drawn lies in [max(near, 0.2), far].
    * A Gaussian's alpha ends at 0.99 instead of 0.999 and its footprint at three standard deviations.

    Computed in float32, also under autocast; a quaternion of norm below 1e-12 counts as the identity.

    Raises:
        UserError: no CUDA device, the package is not installed, or the anti-aliased mode, which the fork lacks.
    """

    name = "diff-gaussian"
    on_gpu = True

    def __init__(self, near: float, far: float, rasterize_mode: RasterizeMode = "classic") -> None:
        check_planes(near, far)
        if rasterize_mode != "classic":
            raise UserError(
                "the diff-gaussian renderer has no anti-aliased mode: choose --renderer gsplat or numba, or "
                "--rasterize_mode classic, which blurs nano's results by half a pixel more"
            )
        self.planes, self.rasterize_mode = (near, far), rasterize_mode
        require_cuda(self.name)
        try:
            from diff_gaussian_rasterization import GaussianRasterizationSettings, GaussianRasterizer
        except ImportError as error:
            raise UserError(
                f"the diff-gaussian renderer needs a package that cannot be imported ({error}): "
                f"install {_FORK}, or choose --renderer gsplat or numba"
            ) from error
        self._settings, self._rasterizer = GaussianRasterizationSettings, GaussianRasterizer

    def __call__(self, gaussians: Gaussians, cameras: Cameras, background: Tensor | None = None) -> RenderOutput:
        """Render on the GPU, one image after another; see `core.rendering.base.Renderer`.

        Raises:
            UserError: the installed package is not the fork.
        """
        fixed = [cameras.c2w, cameras.intrinsics, *([] if background is None else [background])]
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in fixed):
            raise ValueError(
                "diff-gaussian has no gradients for cameras and background: detach them, or use the gsplat renderer"
            )
        batch = cuda_batch(self.name, gaussians, cameras, background)
        if batch.gaussians.opacities.numel() == 0 or batch.background.numel() == 0:
            return background_only(batch)
        with torch.autocast(DEVICE, enabled=False):  # bfloat16 would shift the cameras by 1e-3
            images = [self._draw(batch.gaussians[group], camera) for group, camera in self._cameras(batch)]
        image, alpha, depth = (torch.stack(part) for part in zip(*images, strict=True))
        return batch.output(image, alpha, depth)

    def _cameras(self, batch: Batch) -> Iterator[tuple[int, tuple]]:
        """For every image its set and the fork's settings, whose matrices act on row vectors."""
        height, width = batch.cameras.size
        near, far = self.planes
        w2c, views = batch.cameras.w2c.flatten(0, 1), batch.cameras.shape[1]
        intrinsics = batch.cameras.intrinsics.flatten(0, 1)
        for i, k in enumerate(intrinsics.tolist()):
            if max(abs(k[0][2] - width / 2), abs(k[1][2] - height / 2)) > 1e-3:
                raise ValueError(
                    f"diff-gaussian draws centred cameras only: the principal point must be "
                    f"{(width / 2, height / 2)}, got {(k[0][2], k[1][2])}"
                )
            tan_x, tan_y = 0.5 * width / k[0][0], 0.5 * height / k[1][1]
            # Clip space from view space: x and y over depth in [-1, 1], depth over [near, far] in [0, 1].
            projection = w2c.new_zeros(4, 4)
            projection[0, 0], projection[1, 1], projection[2, 3] = 1 / tan_x, 1 / tan_y, 1.0
            projection[2, 2], projection[3, 2] = far / (far - near), -far * near / (far - near)
            view = w2c[i].T.contiguous()
            yield (
                i // views,
                self._settings(
                    image_height=height,
                    image_width=width,
                    tanfovx=tan_x,
                    tanfovy=tan_y,
                    bg=batch.background.flatten(0, 1)[i],
                    scale_modifier=1.0,
                    viewmatrix=view,
                    projmatrix=view @ projection,
                    sh_degree=0,
                    campos=batch.cameras.positions.flatten(0, 1)[i].contiguous(),
                    prefiltered=False,
                    debug=False,
                ),
            )

    def _draw(self, gaussians: Gaussians, settings: tuple) -> tuple[Tensor, Tensor, Tensor]:
        """One image ``[3, H, W]``, its alpha and its accumulated depth ``[1, H, W]``."""
        depth = gaussians.means.detach() @ settings.viewmatrix[:3, 2] + settings.viewmatrix[3, 2]
        inside = (depth >= self.planes[0]) & (depth <= self.planes[1])
        drawn = self._rasterizer(raster_settings=settings)(
            means3D=gaussians.means,
            means2D=torch.zeros_like(gaussians.means, requires_grad=True),  # takes the gradient that 3DGS densifies by
            opacities=torch.where(inside, gaussians.opacities, 0.0)[:, None],
            shs=None,
            colors_precomp=gaussians.colors,
            scales=gaussians.scales,
            rotations=gaussians.quats,
            cov3D_precomp=None,
        )
        if len(drawn) != 4:
            raise UserError(
                f"the installed diff_gaussian_rasterization returns {len(drawn)} values instead of "
                f"(color, radii, depth, alpha): install {_FORK}"
            )
        image, _, depth, alpha = drawn
        return image, alpha, depth
