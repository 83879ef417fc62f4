"""Where a run starts: fresh, from a checkpoint, or from a saved state. The rules, and the one printed decision.

| in the workspace | ``--resume``                                | what happens                               |
|------------------|---------------------------------------------|--------------------------------------------|
| no state         | None, auto                                  | fresh weights                              |
| no state         | a checkpoint                                | its weights; step 0                        |
| no state         | the folder of a state                       | goes on from it, exactly, in this workspace |
| a state          | auto, or what the run itself started from   | goes on from the newest state              |
| a state          | anything else                               | refused                                    |
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
    """The decision.

    Attributes:
        said: it, in one line.
        weights: checkpoint to load, or None.
        state: saved state to load, or None.
        origin: what the run started from in the first place, for the next time.
        changed: options that differ from those of the state's run: name -> (before, now).
    """

    said: str
    weights: str | None = None
    state: Path | None = None
    origin: str | None = None
    changed: dict[str, tuple[object, object]] | None = None


def decide(options: Options) -> Start:
    """Apply the rules above.

    Raises:
        UserError: the workspace holds a run that started from something else or has another network, or the named
            state is none.
    """
    asked, workspace = options.train.resume, Path(options.train.workspace)
    states = saved_states(workspace)
    if states:
        return _go_on(options, workspace, states[-1])
    if asked in (None, AUTO):
        return Start(f"start: fresh weights ({workspace} holds no saved state)")
    if Path(asked).is_dir():
        return _branch(options, Path(asked))
    return Start("start: the weights of " + asked, weights=asked, origin=asked)


def _go_on(options: Options, workspace: Path, state: Path) -> Start:
    asked, before = options.train.resume, read_options(workspace)
    origin = before["train"]["resume"]
    if asked != AUTO and _path(asked) != _path(origin):
        raise UserError(
            f"the workspace {workspace} holds a run that started from {origin}, and --resume {asked} asks for another "
            f"start: choose another --workspace, or go on with this run by --resume auto"
        )
    why = "--resume auto" if asked == AUTO else f"the run here started from {origin} too"
    said = f"resume: {state} ({why})"
    return Start(said, state=state, origin=origin, changed=_changes(before, options, workspace))


def _branch(options: Options, state: Path) -> Start:
    if state not in saved_states(state.parent.parent):
        raise UserError(f"--resume {state} is a folder but no saved state; those are WORKSPACE/state/NUMBER")
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
    if not all(isinstance(options.get(section), dict) for section in ("model", "camera", "data", "train")):
        raise UserError(f"{path} holds no options of a run; choose another --workspace")
    return options


def plain(options: Options) -> dict[str, dict[str, object]]:
    """Options as JSON gives them back: lists for tuples."""
    return json.loads(json.dumps(asdict(options)))


def _changes(before: dict, options: Options, workspace: Path) -> dict[str, tuple[object, object]]:
    """Options other than paths that differ; a state fits one network only."""
    now = plain(options)
    network = [name for name, value in now["model"].items() if before["model"].get(name) != value]
    network = [name for name in network if "size" not in name and name != "attention"]
    if network:
        raise UserError(
            f"the workspace {workspace} holds a run of another network ({', '.join(network)} differ); "
            f"choose another --workspace"
        )
    return {
        name: (before[section].get(name), value)
        for section in ("model", "camera", "data", "train")
        for name, value in now[section].items()
        if name not in ("workspace", "resume") and before[section].get(name) != value
    }


def _path(value: str | None) -> str | None:
    return value and os.path.abspath(value)
