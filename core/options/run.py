"""Options that every script shares."""

from __future__ import annotations

import re
from dataclasses import dataclass

from core.errors import UserError
from core.options.checks import within

_DEVICE = re.compile(r"auto|cpu|(cuda)(:\d{1,2})?")


@dataclass(frozen=True)
class RunOptions:
    """Where a program reads, writes and computes."""

    workspace: str = "./workspace"
    """Folder for everything that is written."""
    resume: str | None = None
    """Checkpoint of the reconstruction model. Training: start (None: fresh weights), a saved state, or auto."""
    seed: int = 0
    """Seed of everything random."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N. auto: the first GPU, otherwise the CPU."""

    def __post_init__(self) -> None:
        within(self, 0, 2**31 - 1, "seed")
        if not _DEVICE.fullmatch(self.device):
            raise UserError(f"--device is {self.device!r}; choose auto, cpu, cuda or cuda:N, N being a GPU's number")
