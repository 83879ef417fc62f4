r"""Cut the object out of videos and crop it, as infer_4d does first: clips that infer_3d and infer_4d take as they are.

python matte.py --test_path videos --workspace clips
python matte.py --test_path "holiday/*.mov" --start 2 --duration 4 --format mp4
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from core.cli import run
from core.inference.cutting import cut_out
from core.inference.inputs import run_all
from core.options.input import InputOptions


@dataclass(frozen=True)
class MatteArguments(InputOptions):
    """What is cut out, how, and where it goes."""

    test_path: str | None = None
    """A video, a picture, numbered pictures, or a folder or pattern (*) of them."""
    workspace: str = "./workspace"
    """Folder for the clips."""
    format: Literal["mov", "mp4"] = "mov"
    """mov: with alpha, without loss; mp4: on white."""


def main() -> None:
    """Parse, call; the parts save."""
    description = "Cut the object out of videos and crop it; the clips are input of infer_3d and infer_4d."
    options = tyro.cli(MatteArguments, description=description, use_underscores=True)
    run_all(cut_out(options.test_path, Path(options.workspace), options, options.format), print)


if __name__ == "__main__":
    run(main)
