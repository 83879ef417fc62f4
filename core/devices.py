"""The device on which a program runs."""

from __future__ import annotations

import torch

from core.errors import UserError


def choose_device(name: str = "auto") -> torch.device:
    """The device that ``--device`` names; ``auto``: the first CUDA device if there is one, otherwise the CPU.

    Raises:
        UserError: torch does not find that device.
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    index = int(name.partition(":")[2] or 0)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if index >= count:
        raise UserError(f"--device {name}: torch sees {count} GPUs (the first is number 0); use --device auto or cpu")
    return torch.device(index)
