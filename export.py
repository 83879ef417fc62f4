"""Write finished sequences in other formats.

python export.py results --export html sog --workspace exported
python export.py folder_of_plys clip.l4gm --export packed --workspace exported
"""

import logging
from pathlib import Path
from typing import Annotated

import tyro

from core.cli import run
from core.errors import UserError
from core.export.formats import check_formats, export
from core.export.player import read_input
from core.export.sequences import name_of, open_sequences
from core.files import check_workspace
from core.options.infer import ExportFormat


def main() -> None:
    """Parse, then export each sequence."""
    tyro.cli(export_files, use_underscores=True)


def export_files(
    paths: tyro.conf.Positional[tuple[Path, ...]],
    /,
    workspace: Path,
    formats: Annotated[tuple[ExportFormat, ...], tyro.conf.arg(name="export")] = ("html",),
    video: Path | None = None,
) -> None:
    """Write finished sequences in other formats.

    Args:
        paths: workspaces of infer_4d.py, folders of .ply files, .ply files or .l4gm files
        workspace: folder to write in
        formats: any of these
        video: the input, shown beside the page's 3D view
    """
    check_formats(formats)
    check_workspace(workspace)
    if not paths:
        raise UserError("give at least one path to export, see export.py --help")
    sequences = [sequence for path in paths for sequence in open_sequences(path)]
    names = [name_of(sequence) for sequence in sequences]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"two sequences are called {twice[0]}, and one's files would replace the other's; give one")
    for sequence in sequences:
        frames, rate = read_input(video)
        written = export(sequence, formats, workspace, name_of(sequence), frames, rate)
        logging.info("wrote %s", ", ".join(map(str, written)))


if __name__ == "__main__":
    run(main)
