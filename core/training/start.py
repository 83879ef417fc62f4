"""Where a run starts: fresh, from a checkpoint, or from a saved state.

| in the workspace | ``--resume``                            | what happens                                      |
|------------------|-----------------------------------------|---------------------------------------------------|
| no state         | None, auto                              | fresh weights                                     |
| no state         | a checkpoint                            | its weights; step 0                               |
| no state         | the folder of a state                   | resumes from that state exactly, in this workspace |
| a state          | auto, or the ``--resume`` of that run   | resumes from the newest state                     |
| a state          | anything else                           | refused                                           |
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from core.errors import UserError
from core.files import read_json
from core.options import Options
from core.training.state import saved_states

AUTO = "auto"


@dataclass(frozen=True)
class Start:
    """What to start from.

    Attributes:
        message: the decision in one line.
        weights: checkpoint to load, or None.
        state: saved state to load, or None.
        origin: ``--resume`` of the run's first start; saved with the run.
        changed: options that differ from those of the saved run: name -> (before, now).
    """

    message: str
    weights: str | None = None
    state: Path | None = None
    origin: str | None = None
    changed: dict[str, tuple[object, object]] | None = None


def decide(options: Options) -> Start:
    """Apply the rules above.

    Raises:
        UserError: the workspace holds a run with another start or another network, or the given folder is not a saved
            state.
    """
    resume, workspace = options.run.resume, Path(options.run.workspace)
    states = saved_states(workspace)
    if states:
        return _resume_run(options, workspace, states[-1])
    if resume in (None, AUTO):
        return Start(f"start: fresh weights ({workspace} holds no saved state)")
    if Path(resume).is_dir():
        return _resume_elsewhere(options, Path(resume))
    return Start("start: the weights of " + resume, weights=resume, origin=resume)


def _resume_run(options: Options, workspace: Path, state: Path) -> Start:
    resume, before = options.run.resume, read_options(workspace)
    origin = before["run"]["resume"]
    if resume != AUTO and _path(resume) != _path(origin):
        raise UserError(
            f"the workspace {workspace} holds a run that started from {origin}, and --resume {resume} asks for another "
            f"start: choose another --workspace, or resume this run with --resume auto"
        )
    why = "--resume auto" if resume == AUTO else f"the run here started from {origin} too"
    message = f"resume: {state} ({why})"
    return Start(message, state=state, origin=origin, changed=_changes(before, options, workspace))


def _resume_elsewhere(options: Options, state: Path) -> Start:
    if state not in saved_states(state.parent.parent):
        raise UserError(f"--resume {state} is a folder but not a saved state; use a folder WORKSPACE/state/NUMBER")
    changed = _changes(read_options(state.parent.parent), options, state.parent.parent)
    return Start(f"resume: {state}, in a new workspace", state=state, origin=str(state), changed=changed)


def read_options(workspace: Path) -> dict[str, dict[str, object]]:
    """``options.json`` of a run, by section.

    Raises:
        UserError: it is missing or damaged.
    """
    path = workspace / "options.json"
    try:
        options = read_json(path)
    except UserError as error:
        raise UserError(
            f"{workspace} holds saved states but {path} cannot be read ({error}); choose another --workspace"
        ) from error
    options = {"run": options.get("train"), **options}  # version 0.1 had these options under train
    if not all(isinstance(options.get(section), dict) for section in ("model", "camera", "data", "train", "run")):
        raise UserError(f"{path} does not hold options of a run; choose another --workspace")
    return options


def options_as_json(options: Options) -> dict[str, dict[str, object]]:
    """Options as they are read back from JSON: lists instead of tuples."""
    return json.loads(json.dumps(asdict(options)))


def _changes(before: dict, options: Options, workspace: Path) -> dict[str, tuple[object, object]]:
    """Options other than paths that differ; raises UserError if the networks differ."""
    now = options_as_json(options)
    network = [name for name, value in now["model"].items() if before["model"].get(name) != value]
    network = [name for name in network if "size" not in name and name != "attention"]
    if network:
        raise UserError(
            f"the workspace {workspace} holds a run of another network ({', '.join(network)} differ); "
            f"choose another --workspace"
        )
    return {
        name: (before[section].get(name), value)
        for section in ("model", "camera", "data", "train", "run")
        for name, value in now[section].items()
        if name not in ("workspace", "resume", "device") and before[section].get(name) != value
    }


def _path(value: str | None) -> str | None:
    return value and os.path.abspath(value)
