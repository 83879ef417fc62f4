"""Show finished sequences in the browser, side by side, with a timeline.

python view.py results
python view.py results/trex clip.l4gm --port 8080
"""

from pathlib import Path

import tyro

from core.cli import run
from core.errors import UserError
from core.export.sequences import open_sequences
from core.export.viewer import serve


def main() -> None:
    """Parse, then serve until Ctrl-C."""
    tyro.cli(view, use_underscores=True)


def view(paths: tyro.conf.Positional[tuple[Path, ...]], /, host: str = "127.0.0.1", port: int = 8080) -> None:
    """Show finished sequences in the browser, side by side, with a timeline.

    Args:
        paths: workspaces of infer_4d.py, folders of .ply files, .ply files or .l4gm files
        host: address to listen on; the default is this machine only
        port: to listen on
    """
    if not paths:
        raise UserError("give at least one path to show, see view.py --help")
    serve([sequence for path in paths for sequence in open_sequences(path)], host, port)


if __name__ == "__main__":
    run(main)
