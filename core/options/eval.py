"""Options of the evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from core.options.checks import at_least

Baseline = Literal["frozen", "framewise", "hull", "mean", "blend", "hold"]


@dataclass(frozen=True)
class EvalOptions:
    """What is measured, and what it is compared with. Protocols lie in data_test/protocols."""

    protocols: tuple[str, ...] = ()
    """Protocol files (.toml), evaluated one after the other."""
    compare: tuple[str, ...] = ()
    """Further checkpoints beside --resume, each [NAME=][PRESET:]RECON[+INTERP]."""
    predictions: tuple[str, ...] = ()
    """Images of other systems, each [NAME=]FOLDER with OBJECT/VIEW/FRAME.png inside."""
    baselines: tuple[Baseline, ...] = ("frozen", "framewise", "hull", "mean", "blend", "hold")
    """Compared as well, where they belong to the protocol's task."""
    max_objects: int = 0
    """Only the first objects of a protocol, for a quick look; 0: all."""
    lpips_images: int = 16
    """Images of each object, evenly spread, that LPIPS looks at: it is costly on a CPU. 0: all of them."""

    def __post_init__(self) -> None:
        at_least(self, 0, "max_objects", "lpips_images")
