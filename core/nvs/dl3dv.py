"""Which files of DL3DV to download, and the commands for it.

    python -m core.nvs.dl3dv DL3DV-valid.csv --batch 1K --scenes 50

``DL3DV-valid.csv`` is the published list (github.com/DL3DV-10K/Dataset, folder ``cache``); each scene is one archive
``BATCH/HASH.zip`` with ``transforms.json`` and pictures. The data are gated: accept their terms (CC BY-NC 4.0, research
only) on the data set's page, then ``hf auth login``. LaCT was trained on 960P.
"""

from __future__ import annotations

import csv
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from core.cli import run
from core.errors import UserError
from core.files import atomic_path, read_text

_log = logging.getLogger(__name__)

GIGABYTES = {"480P": 730, "960P": 2_800, "2K": 11_000, "4K": 44_000}
"""Published size of all scenes in each resolution, about."""
SCENES = 10_000
"""About as many scenes are in the list."""


@dataclass(frozen=True)
class Dl3dvOptions:
    """Which scenes, and in which resolution."""

    csv: Annotated[Path, tyro.conf.Positional]
    """The published list DL3DV-valid.csv."""
    batch: str = ""
    """1K to 11K; empty: all."""
    scenes: int = 0
    """The first scenes of the batch; 0: all."""
    resolution: Literal["480P", "960P", "2K", "4K"] = "960P"
    """Of the pictures; 960P is 960 x 540 pixels."""
    out: Path = Path("DL3DV")
    """Folder for the data."""
    list_file: Path = Path("dl3dv_files.txt")
    """Written: one archive a line."""


def main(arguments: list[str] | None = None) -> None:
    """Parse, list, say what to run."""
    options = tyro.cli(Dl3dvOptions, description=__doc__, args=arguments, use_underscores=True)
    files = archives(options)
    with atomic_path(options.list_file) as path:
        path.write_text("".join(f"{file}\n" for file in files))
    size = GIGABYTES[options.resolution] * len(files) / SCENES
    _log.info("%s lists %d scenes, about %.0f GB. Now run:", options.list_file, len(files), size)
    for line in commands(options):
        _log.info("%s", line)


def archives(options: Dl3dvOptions) -> list[str]:
    """Names of the archives, in the order of the list; scenes that it marks as a problem are left out.

    Raises:
        UserError: the file is not the published list, or has no such scene.
    """
    rows = list(csv.DictReader(read_text(options.csv, "the list of scenes").splitlines()))
    if not rows or not {"hash", "batch"} <= rows[0].keys():
        raise UserError(f"{options.csv} is not the list of DL3DV: it has no columns hash and batch; download it again")
    batches = {row["batch"] for row in rows} - {"problem"}
    if options.batch and options.batch not in batches:
        raise UserError(f"{options.csv} has no batch {options.batch}; choose from {', '.join(sorted(batches))}")
    chosen = {options.batch} if options.batch else batches
    names = [f"{row['batch']}/{row['hash']}.zip" for row in rows if row["batch"] in chosen]
    return names[: options.scenes or None]


def commands(options: Dl3dvOptions) -> list[str]:
    """What downloads the listed archives, unpacks them and removes lens distortion; shell lines."""
    data = f"DL3DV/DL3DV-ALL-{options.resolution}"
    return [
        f"xargs hf download {data} --repo-type dataset --local-dir {options.out} < {options.list_file}",
        f"find {options.out} -name '*.zip' -execdir unzip -qn {{}} -d {{}}.d \\; -delete",
        f"python -m core.nvs.undistort {options.out} {options.out}_undistorted",
    ]


if __name__ == "__main__":
    run(main)
