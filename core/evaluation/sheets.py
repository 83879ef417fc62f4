"""Contact sheets: the truth, what every system shows, and where they differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from core.evaluation.metrics import Prediction, spread
from core.evaluation.truth import Truth
from core.images import contact_sheet, save_image

VIEWS, FRAMES = 2, 4  # of an object, evenly spread: the columns
MAX_SYSTEMS = 8
FULL_ERROR = 0.5  # mean over channels that is drawn in full red


@dataclass
class Sheet:
    """The picture of one object, at the ``compared`` frames; feed it with predictions, then `save` it."""

    truth: Truth
    compared: Sequence[int]
    captions: list[str] = field(default_factory=list)
    rows: list[list[Tensor]] = field(default_factory=list)

    def __post_init__(self) -> None:
        times = [self.compared[i] for i in spread(FRAMES, len(self.compared))]
        self.cells = [(t, v) for v in spread(VIEWS, len(self.truth.views)).tolist() for t in times]
        shown = ", ".join(dict.fromkeys(self.truth.views[v] for _, v in self.cells))
        self._add(f"truth of {self.truth.name}, cameras {shown}", self.truth.images)

    def add(self, system: str, prediction: Prediction) -> None:
        """Two rows for a system, its images and their errors, unless there are many systems already."""
        if len(self.rows) < 1 + 2 * MAX_SYSTEMS:
            self._add(system, prediction.images)
            self._add(f"{system}: error", error_image(prediction.images, self.truth.images))

    def save(self, path: Path, cell: int = 96) -> None:
        """Write the picture."""
        save_image(contact_sheet(self.rows, self.captions, cell), path)

    def _add(self, caption: str, images: Tensor) -> None:
        self.captions.append(caption)
        self.rows.append([images[t, v] for t, v in self.cells])


def error_image(images: Tensor, targets: Tensor) -> Tensor:
    """Absolute difference, mean over the channels, as red on white; both ``[..., 3, H, W]``."""
    error = ((images - targets).abs().mean(-3, keepdim=True) / FULL_ERROR).clamp(0, 1)
    return torch.cat([torch.ones_like(error), 1 - error, 1 - error], dim=-3)
