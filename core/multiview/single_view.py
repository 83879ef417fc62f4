"""Four views from one picture, by a reconstruction model that was trained with view dropout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from core.gaussians import Gaussians
from core.images import resize_area
from core.rotations import mirrored, scaled

_FOREGROUND = 0.05  # minimum distance from white of an object pixel


@dataclass(frozen=True)
class Variant:
    """A transform of the input picture; the reconstruction is transformed back. Each variant gives another guess.

    Attributes:
        mirror: left and right exchanged.
        zoom: the object's size in the picture.
    """

    mirror: bool = False
    zoom: float = 1.0

    def __str__(self) -> str:
        zoom = "as it is" if self.zoom == 1 else f"size {self.zoom:g}"
        return f"mirrored, {zoom}" if self.mirror else zoom


VARIANTS = tuple(Variant(mirror, zoom) for zoom in (1.0, 0.85, 1.15, 0.7, 1.3) for mirror in (False, True))


def variants_of(frame: Tensor, count: int) -> list[Variant]:
    """The first ``count`` variants in which the object stays within the picture ``[3, S, S]``; there may be fewer."""
    ink = ((1 - frame).amax(dim=0) > _FOREGROUND).nonzero()
    half = (frame.shape[-1] - 1) / 2
    reach = float((ink - half).abs().max()) / half if len(ink) else 1.0
    return [variant for variant in VARIANTS if variant.zoom <= 1 or variant.zoom * reach <= 1][:count]


def views_from_frame(
    frame: Tensor,
    reconstruct: Callable[[Tensor], Gaussians],
    render: Callable[[Gaussians], Tensor],
    variant: Variant = Variant(),
) -> Tensor:
    """Reconstruct from the front view alone and render the result from other azimuths.

    The side views are those of the source ``none`` (`core.data.side_views`), as under view dropout in training.

    Args:
        frame: view 0, ``[3, S, S]`` in [0, 1].
        reconstruct: one frame ``[1, 3, S, S]`` without side views to Gaussians, leading axes ``[1]``.
        render: these Gaussians to images ``[1, V, 3, R, R]``, the first at azimuth 0.
        variant: how the picture is shown to the model.

    Returns:
        ``[V, 3, R, R]``: the frame itself in place of the first render, then the other renders.
    """
    shown = _zoomed(frame.flip(-1) if variant.mirror else frame, variant.zoom)
    gaussians = scaled(reconstruct(shown[None]), 1 / variant.zoom)
    renders = render(mirrored(gaussians) if variant.mirror else gaussians)[0]
    front = resize_area(frame, (renders.shape[-2], renders.shape[-1]))
    return torch.cat([front[None].to(renders), renders[1:]])


def _zoomed(frame: Tensor, zoom: float) -> Tensor:
    """The picture scaled about its centre, padded with white."""
    if zoom == 1:
        return frame
    side = frame.shape[-1]
    inner = round(side * zoom)
    resized = resize_area(frame, (inner, inner))
    before = (side - inner) // 2
    after = side - inner - before
    return F.pad(resized, (before, after, before, after), value=1.0)
