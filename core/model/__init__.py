"""The published network: attention, the asymmetric U-Net, L4GM."""

from core.model.l4gm import GRID_CHANNELS, L4GM

__all__ = ["GRID_CHANNELS", "L4GM"]
