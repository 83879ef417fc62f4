r"""Serve the web app on this machine: drop a video, look at the result, download it.

python app.py
python app.py --port 8000 --workspace /data/l4gm
"""

import tyro

from core.app.server import Settings, serve
from core.cli import run


def main() -> None:
    """Parse, then serve until Ctrl-C."""
    serve(tyro.cli(Settings, description=__doc__.splitlines()[0], use_underscores=True))


if __name__ == "__main__":
    run(main)
