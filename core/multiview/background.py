"""Pictures of one object on a plain background, normalised for the networks: on white, centred, of one size."""

from __future__ import annotations

import torch
from torch import Tensor

from core.errors import UserError
from core.images import resize_area

BORDER = 0.2  # border ratio around the object; published
_TOLERANCE = 0.1  # distance to the background colour, largest over channels
_PLAIN = 0.6  # minimum share of the picture's edge that is background
_WHITE = 0.9  # pixels darker than this in their darkest channel are foreground


def is_white(picture: Tensor) -> bool:
    """Whether a frame ``[3, H, W]`` shows its object on white; transparency has been composited."""
    return float((_edge(picture).amin(dim=0) > _WHITE).float().mean()) >= _PLAIN


def is_plain(picture: Tensor) -> bool:
    """Whether most of the edge of ``[3, H, W]`` has one colour."""
    edge = _edge(picture)
    return float(_like(edge, edge.median(dim=1).values).float().mean()) >= _PLAIN


def foreground(picture: Tensor, what: str, *, may_be_empty: bool = False) -> Tensor:
    """Mask ``[H, W]`` of the pixels outside the plain background that touches the edge.

    Args:
        picture: ``[3, H, W]`` in [0, 1].
        what: its name in errors.
        may_be_empty: a picture without an object is no error.

    Raises:
        UserError: the background is not of one colour, or there is no object.
    """
    if not is_plain(picture):
        raise UserError(
            f"{what} is not on a plain ground: cut the object out first (for instance with rembg) and save it as a "
            f".png with alpha, or on white"
        )
    ground = _edge(picture).median(dim=1).values
    mask = ~_connected_to_edge(_like(picture, ground))
    if not may_be_empty and not bool(mask.any()):
        raise UserError(f"{what} is empty: there is nothing on its ground")
    return mask


def centered(picture: Tensor, mask: Tensor) -> Tensor:
    """The object cut out and centred on a white square, whose side is the picture's longer side.

    Its longer side becomes 80 % of the square's. (Published: LGM's ``recenter`` with its border ratio 0.2; here the
    last row and column of the object are not lost.)

    Args:
        picture: ``[3, H, W]`` in [0, 1].
        mask: ``[H, W]`` bool, the object.
    """
    side = max(picture.shape[-2:])
    rows, columns = mask.any(dim=1).nonzero()[:, 0], mask.any(dim=0).nonzero()[:, 0]
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    cut = torch.where(mask, picture, 1.0)[:, top:bottom, left:right]
    factor = int(side * (1 - BORDER)) / max(cut.shape[-2:])
    height, width = (max(1, round(length * factor)) for length in cut.shape[-2:])
    canvas = torch.ones(3, side, side)
    y, x = (side - height) // 2, (side - width) // 2
    canvas[:, y : y + height, x : x + width] = resize_area(cut, (height, width))
    return canvas


def _connected_to_edge(region: Tensor) -> Tensor:
    """The pixels of a region ``[H, W]`` that are connected to the edge of the picture, by sides and not by corners.

    Whole runs of rows and of columns are filled at once, by turns, until no more pixels are reached.
    """
    reached = torch.zeros_like(region)
    for edge in (0, -1):
        reached[edge], reached[:, edge] = region[edge], region[:, edge]
    rows, columns = _runs(region), _runs(region.T)
    count = -1
    while count != (count := int(reached.sum())):
        reached = _filled(reached, rows) & region
        reached = _filled(reached.T, columns).T & region
    return reached


def _runs(region: Tensor) -> Tensor:
    """Which run of its row each pixel of a region ``[H, W]`` is in, counted from 1 over all rows."""
    starts = region.clone()
    starts[:, 1:] &= ~region[:, :-1]
    return starts.flatten().cumsum(0, dtype=torch.int32).view(region.shape)


def _filled(reached: Tensor, runs: Tensor) -> Tensor:
    """Where a run is of which a pixel was reached; a run goes on until the next one starts."""
    hit = torch.zeros(int(runs[-1, -1]) + 1, dtype=torch.bool)
    hit[runs[reached]] = True
    return hit[runs]


def _edge(picture: Tensor) -> Tensor:
    """The pixels ``[3, 2 (H + W)]`` along the four sides."""
    return torch.cat([picture[:, 0], picture[:, -1], picture[:, :, 0], picture[:, :, -1]], dim=1)


def _like(pixels: Tensor, color: Tensor) -> Tensor:
    return (pixels - color.reshape(3, *[1] * (pixels.ndim - 1))).abs().amax(dim=0) < _TOLERANCE
