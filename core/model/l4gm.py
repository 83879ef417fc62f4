"""L4GM, the published network: a grid of images with rays in, Gaussians for every time step out.

    grid [B,T,V,9,H,W] -> U-Net -> 1x1 convolution -> 14 channels a pixel [B,T,V,14,S,S] -> Gaussians [B,T,V S S]

It depends on no renderer and no loss.
"""

from __future__ import annotations

from einops import rearrange
from torch import Tensor, nn

from core.errors import UserError
from core.gaussians import RAW_CHANNELS, Gaussians, activate_published
from core.model.unet import UNet
from core.options import ModelOptions

GRID_CHANNELS = 9


class L4GM(nn.Module):
    """The reconstruction and the interpolation network; the same class, other weights.

    Args:
        options: sizes and widths. One instance serves every number of frames and views.

    Raises:
        UserError: the options are those of another architecture.
    """

    architecture = "l4gm"
    unet_class: type[UNet] = UNet

    def __init__(self, options: ModelOptions) -> None:
        super().__init__()
        if options.architecture != self.architecture:
            raise UserError(
                f"{type(self).__name__} is not the architecture {options.architecture!r} of these options; "
                f"core.architectures.build_model(options) makes the network that they ask for"
            )
        self.options = options
        channels = RAW_CHANNELS * options.gaussian_perpixel
        self.unet = self.unet_class(GRID_CHANNELS, channels, options)
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, grid: Tensor) -> Gaussians:
        """Predict Gaussians.

        Args:
            grid: ``[B,T,V,9,H,W]``: ImageNet-normalised RGB, then the Plücker rays (o x d, d) of every pixel.

        Returns:
            Gaussians with leading axes ``[B,T]``, ordered view, row, column, (Gaussian of the pixel).

        Raises:
            UserError: the grid has other channels, or sides that the network's strides do not divide.
        """
        return gaussians_of(self.raw_channels(grid))

    def raw_channels(self, grid: Tensor) -> Tensor:
        """The network's output before the activation: ``[B,T,V,14 k,S,S]``, k Gaussians a pixel."""
        if grid.ndim != 6 or grid.shape[3] != GRID_CHANNELS:
            raise UserError(f"the grid must be [B,T,V,{GRID_CHANNELS},H,W], got {tuple(grid.shape)}")
        self.check_sides(grid.shape[-2:])
        x = self.unet(grid.to(self.conv.weight.dtype))
        return self.conv(x.flatten(0, 2)).unflatten(0, x.shape[:3])

    def check_sides(self, size: tuple[int, int]) -> None:
        """Raise `UserError` where images of this height and width cannot be halved at every level."""
        stride = 2 ** (len(self.options.down_channels) - 1)
        if size[0] % stride or size[1] % stride:
            raise UserError(f"image sides must be multiples of {stride}, got {tuple(size)}")


def gaussians_of(raw: Tensor) -> Gaussians:
    """Activate raw channels ``[B,T,V,14 k,S,S]``."""
    return activate_published(rearrange(raw, "b t v (k c) h w -> b t (v h w k) c", c=RAW_CHANNELS))
