"""A code of the front view's change since the first frame, told to every view at every decoder level.

Side views of later frames are those of the first frame: their pixels say nothing about motion. Attention can bring it
from the front view, and training hardly finds that: scores start near uniform, and the levels that attend are coarse,
while the last levels paint static objects without them. The code is a direct way: no scores, all levels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import repeat
from torch import Tensor, nn

_SIZE = 32  # pixels a side of the fronts that are compared, at every image size
_WIDTHS = (16, 32, 32)
_PLACES = _SIZE // 2 ** len(_WIDTHS)


class MotionCode(nn.Module):
    """From pairs of front images, now and in the first frame, to a scale and a shift of every channel of a level.

    It starts without effect, and the code of the first frame is zero: a network that was trained without it, on single
    frames, keeps what it knows.

    Args:
        width: numbers of the code.
        widths: channels of the decoder levels.
    """

    def __init__(self, width: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        layers, last = [], 6
        for channels in _WIDTHS:
            layers += [nn.Conv2d(last, channels, 3, stride=2, padding=1), nn.SiLU()]
            last = channels
        # Flat, not a mean: where something moves is what the code is about.
        layers += [nn.Flatten(), nn.Linear(last * _PLACES**2, width), nn.SiLU()]
        self.encode = nn.Sequential(*layers)
        for layer in self.encode:  # the default shrinks images layer by layer to codes of some thousandths
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        self.decode = nn.ModuleList(nn.Linear(width, 2 * channels, bias=False) for channels in widths)
        for layer in self.decode:
            nn.init.zeros_(layer.weight)

    def forward(self, images: Tensor, index: Tensor) -> Tensor:
        """Codes ``[B T V,W]``, equal for the views of a frame, of images ``[N,3,H,W]`` at ``index`` ``[B,T,V]``; view 0
        is the front."""
        small = F.interpolate(images, size=(_SIZE, _SIZE), mode="area").to(self.encode[0].weight.dtype)
        now, first = (small[place.flatten()] for place in (index[:, :, 0], index[:, :1, 0].expand_as(index[:, :, 0])))
        code = self.encode(torch.cat([now, first], dim=1)) - self.encode(torch.cat([first, first], dim=1))
        return repeat(code, "n w -> (n v) w", v=index.shape[2])

    def apply_to(self, i: int, x: Tensor, code: Tensor) -> Tensor:
        """Features ``[N,C,h,w]`` of decoder level ``i``, scaled and shifted by the codes ``[N,W]``."""
        scale, shift = self.decode[i](code)[..., None, None].chunk(2, dim=1)
        return x * (1 + scale) + shift
