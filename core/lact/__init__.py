"""LaCT: new views from any number of posed images, which each layer writes into fast weights (arXiv 2505.23884)."""

from core.lact.fast_weights import FastWeights
from core.lact.model import LaCT, SceneState

__all__ = ["FastWeights", "LaCT", "SceneState"]
