"""The published network: attention, the asymmetric U-Net, L4GM; and the same network run fast."""

from core.model.fast import FastL4GM
from core.model.l4gm import GRID_CHANNELS, L4GM

__all__ = ["GRID_CHANNELS", "L4GM", "FastL4GM"]
