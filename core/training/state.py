"""A run on disk: what it was, where it stands, and how it goes on."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from accelerate import Accelerator
from safetensors import SafetensorError

from core.errors import UserError

_KEEP = 2  # saved states; the older one survives a crash in the middle of a save


@dataclass
class Progress:
    """Loop counters; together with the seeds they say which batch comes next.

    Attributes:
        step: optimiser steps done.
        epoch: the running epoch.
        batch: batches of the running epoch done, on every process.
        skipped: steps left out because the loss was not finite.
        best: best validation PSNR so far, dB.
        total_steps: length of the run.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    skipped: int = 0
    best: float = float("-inf")
    total_steps: int = 0

    def state_dict(self) -> dict[str, float]:
        """For `Accelerator.register_for_checkpointing`."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, float]) -> None:
        """For `Accelerator.load_state`."""
        self.__dict__.update(state)


def save_run(accelerator: Accelerator, workspace: Path, progress: Progress) -> None:
    """Save everything that a bit-exact continuation needs in ``<workspace>/state/<step>``; whole or not at all.

    Raises:
        UserError: the disk is full or the folder cannot be written to; older states stay.
    """
    final = workspace / "state" / f"{progress.step:08d}"
    temporary = final.with_name(f".{final.name}.part")
    try:
        if accelerator.is_main_process:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
        accelerator.wait_for_everyone()
        accelerator.save_state(str(temporary))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            shutil.rmtree(final, ignore_errors=True)
            os.replace(temporary, final)
            for old in saved_states(workspace)[:-_KEEP]:
                shutil.rmtree(old)
    except (OSError, SafetensorError, RuntimeError) as error:  # what writers of safetensors and torch files raise
        shutil.rmtree(temporary, ignore_errors=True)
        raise UserError(
            f"cannot save the run to {final}: {getattr(error, 'strerror', None) or error}; "
            f"the states saved before are whole: free some space and start the same command again"
        ) from error


def saved_states(workspace: Path) -> list[Path]:
    """Complete saved states, oldest first."""
    return sorted(path for path in (workspace / "state").glob("[0-9]*") if path.is_dir())


class JsonLog:
    """One JSON object a line in ``<workspace>/log.jsonl``, for the main process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot make the workspace {path.parent}: {error.strerror}; choose another") from error

    def write(self, **values: object) -> None:
        """Append one record."""
        with self.path.open("a") as file:
            file.write(json.dumps(values) + "\n")
