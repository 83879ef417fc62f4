"""The four views of a text: drawn by MVDream and kept as files, which may be changed before the run goes on."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import torch
from torch import Tensor

from core.conventions import NUM_VIEWS
from core.errors import UserError
from core.inference.outputs import read_record, side_view_record, write_record
from core.inference.session import Session
from core.multiview.background import centered, foreground
from core.multiview.files import encoded_views, find_views, load_views, view_paths, write_views

_log = logging.getLogger(__name__)


def prompt_name(prompt: str) -> str:
    """What results of a text are called: its words, at most 60 letters. Raises `UserError` if it has none."""
    name = re.sub(r"[^a-z0-9]+", "_", prompt.lower()).strip("_")[:60].rstrip("_")
    if not name:
        raise UserError(f"--prompt {prompt!r} has no letters; say in English what is to be made")
    return name


def changed_views(session: Session, name: str) -> Tensor | None:
    """The raw views ``[4, 3, S, S]`` of a text in the workspace, if someone changed or made them; else None.

    Raises:
        UserError: they cannot be read, or differ in size.
    """
    paths = list(find_views(session.workspace, name, "_mv").values())
    if len(paths) < NUM_VIEWS or read_record(session.workspace, name, paths):
        return None
    _log.info("%s: views from %s; remove these files to have others drawn", name, ", ".join(map(str, paths)))
    return load_views(paths)


def draw_views(session: Session, name: str, prompt: str) -> Tensor:
    """MVDream's views ``[4, 3, S, S]`` of a text. They become files here, before anything can refuse them.

    Raises:
        UserError: the pipeline cannot be used, or the files not be written.
    """
    seeds = [session.options.run.seed]
    drawn = session.diffusion("mvdream").views(None, prompt, seeds, session.sampling("mvdream"))[0]
    encoded = encoded_views(drawn, session.workspace, name, "_mv")
    write_record(session.workspace, name, "infer_3d", side_view_record("infer_3d", "MVDream", "", encoded))
    write_views(encoded)
    return drawn


def cut_out(views: Tensor, workspace: Path, name: str) -> Tensor:
    """The object of each view ``[4, 3, S, S]`` cut out and centred on white.

    Raises:
        UserError: a view is not on a plain ground, or empty; names its file.
    """
    return torch.stack([_cut_out(*pair) for pair in zip(views, view_paths(workspace, name, "_mv"), strict=True)])


def _cut_out(view: Tensor, path: Path) -> Tensor:
    try:
        return centered(view, foreground(view, str(path)))
    except UserError as error:
        raise UserError(f"{error}. Then run the same command again, or try another --seed") from error
