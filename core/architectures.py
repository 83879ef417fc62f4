"""Build the network that the options describe."""

from __future__ import annotations

from core.lact.temporal import replace_temporal_attention
from core.model import FastL4GM
from core.nano.model import NanoL4GM
from core.options import ModelOptions


def build_model(options: ModelOptions) -> FastL4GM:
    """A network with fresh weights, on the current default device: `FastL4GM`, or `NanoL4GM` for ``nano``."""
    model = NanoL4GM(options) if options.architecture == "nano" else FastL4GM(options)
    if options.temporal == "lact":
        replace_temporal_attention(model)
    return model
