"""Saved states of a run: progress counters, atomic saving, cleaning up."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from accelerate import Accelerator
from safetensors import SafetensorError

from core.errors import UserError, reason


@dataclass
class Progress:
    """Loop counters; together with the seed they determine the next samples.

    Attributes:
        step: optimiser steps done, skipped ones included.
        skipped: steps skipped because the loss was not finite.
        best: best validation PSNR so far, dB.
        total_steps: length of the run.
        step_samples: samples of one step, over all processes and accumulated batches.
        groups: samples of one epoch.
    """

    step: int = 0
    skipped: int = 0
    best: float = float("-inf")
    total_steps: int = 0
    step_samples: int = 0
    groups: int = 1

    @property
    def epoch(self) -> int:
        """Index of the pass over the groups in which the last step began."""
        return max(0, self.step - 1) * self.step_samples // self.groups

    def state_dict(self) -> dict[str, float]:
        """For `Accelerator.register_for_checkpointing`."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, float]) -> None:
        """For `Accelerator.load_state`.

        Raises:
            UserError: the saved run has another length, other steps or other data, so its counters do not fit.
        """
        for name, what in (("total_steps", "steps"), ("step_samples", "samples a step"), ("groups", "groups of clips")):
            before, now = state.get(name), getattr(self, name)
            if before != now:
                raise UserError(
                    f"the saved run has {before} {what}, this would be one of {now}; repeat its options (only the "
                    f"product processes x batch_size x gradient_accumulation_steps counts), or start a new "
                    f"--workspace from its model.safetensors"
                )
        self.__dict__.update({name: state[name] for name in asdict(self)})


def save_run(accelerator: Accelerator, workspace: Path, progress: Progress, keep: int) -> None:
    """Save everything for a bit-exact continuation in ``<workspace>/state/<step>``, atomically.

    Args:
        keep: number of newest states to keep, this one included.

    Raises:
        UserError: the disk is full or the folder cannot be written to; older states are kept.
    """
    final = workspace / "state" / f"{progress.step:08d}"
    temporary = final.with_name(f".{final.name}.part")
    try:
        if accelerator.is_main_process:
            clear_unfinished(workspace)
            temporary.mkdir(parents=True)
        accelerator.wait_for_everyone()
        accelerator.save_state(str(temporary))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            _sync(temporary)
            shutil.rmtree(final, ignore_errors=True)
            os.replace(temporary, final)
            for old in saved_states(workspace)[:-keep]:
                shutil.rmtree(old)
    except (OSError, SafetensorError, RuntimeError) as error:  # raised by the safetensors and torch writers
        shutil.rmtree(temporary, ignore_errors=True)
        raise UserError(
            f"cannot save the run to {final}: {getattr(error, 'strerror', None) or error}; "
            f"the states saved before are whole: free some space and start the same command again"
        ) from error


def load_run(accelerator: Accelerator, state: Path) -> None:
    """Load a saved state into all objects registered with the Accelerator.

    Raises:
        UserError: a file is missing or damaged, or the state belongs to another run (`Progress.load_state_dict`).
    """
    try:
        accelerator.load_state(str(state))
    except UserError:
        raise
    except Exception as error:  # errors of the readers of safetensors, torch files and pickles
        raise UserError(
            f"the saved state {state} cannot be read ({reason(error)}): remove it, and the run goes on from the one "
            f"before; or start a new --workspace from its weights"
        ) from error


def saved_states(workspace: Path) -> list[Path]:
    """Complete saved states, oldest first."""
    return sorted(path for path in (workspace / "state").glob("[0-9]*") if path.is_dir())


def clear_unfinished(workspace: Path) -> None:
    """Remove the temporary files that a killed run left: unfinished states and weights."""
    for folder in (workspace / "state").glob(".*.part"):
        shutil.rmtree(folder, ignore_errors=True)
    for file in workspace.glob(".*.part.safetensors"):
        file.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    """Flush the files to disk, so that a power cut does not leave a state of empty files."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
