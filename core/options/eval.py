"""Options of the evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from core.options.checks import within

Baseline = Literal["frozen", "framewise", "hull", "mean", "blend", "hold", "kept", "handed", "true_sides", "seen"]


@dataclass(frozen=True)
class EvalOptions:
    """What is measured, and what it is compared with. Protocols lie in data_test/protocols."""

    protocols: tuple[str, ...] = ()
    """Protocol files (.toml)."""
    compare: tuple[str, ...] = ()
    """Further checkpoints beside --resume, each [NAME=][PRESET:]RECON[+INTERP]."""
    predictions: tuple[str, ...] = ()
    """Images of other systems, each [NAME=]FOLDER with OBJECT/VIEW/FRAME.png inside."""
    baselines: tuple[Baseline, ...] = get_args(Baseline)
    """Compared as well, where they belong to the protocol's task."""
    max_objects: int = 0
    """Only the first objects of a protocol; 0: all."""
    lpips_images: int = 16
    """Images of each object, evenly spread, that LPIPS looks at; 0: all."""
    clip_weights: str = ""
    """Folder of a CLIP model (Hugging Face layout), for CLIP similarity."""
    i3d: str = ""
    """TorchScript file of a video network, usually I3D, for FVD."""
    save_predictions: bool = False
    """Write every predicted image, as --predictions reads them."""
    page: str = ""
    """Markdown page, usually docs/results.md, whose tables are renewed."""
    sheets: int = 12
    """Contact sheets of a protocol at most, one an object."""

    def __post_init__(self) -> None:
        within(self, 0, 10**6, "max_objects", "lpips_images", "sheets")
