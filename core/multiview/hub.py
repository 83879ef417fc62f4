"""Where a published pipeline is: a folder, the hub's cache, or the hub."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from core.errors import UserError
from core.places import find

Kind = Literal["imagedream", "mvdream"]
Published = Literal["imagedream", "mvdream", "zero123", "svd"]

PUBLISHED: Mapping[Published, str] = {
    "imagedream": "ashawkey/imagedream-ipmv-diffusers",
    "mvdream": "ashawkey/mvdream-sd2.1-diffusers",
    "zero123": "ashawkey/stable-zero123-diffusers",
    "svd": "stabilityai/stable-video-diffusion-img2vid",
}
LOCAL_FOLDER = Path("pretrained")
LIBRARIES = ("diffusers", "transformers")
INSTALL = "pip install -e '.[imagedream]' -c constraints.txt"
_FILES = ("*.json", "*.txt", "*.safetensors", "*.bin")
_log = logging.getLogger(__name__)


def fetch_command(name: str) -> str:
    """The command that puts a hub repository where `find_folder` looks for it."""
    return f"hf download {name} --local-dir {LOCAL_FOLDER / Path(name).name}"


def find_folder(name: str) -> Path | None:
    """Location of a pipeline: a folder, below ``pretrained/``, or in the hub's cache; else None."""
    for folder in (find(name), find(LOCAL_FOLDER / Path(name).name)):
        if folder.is_dir():
            return folder
    if not _is_hub_name(name):
        return None
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(name, local_files_only=True))
    except (ImportError, OSError, ValueError):
        return None


def missing_libraries() -> list[str]:
    """Packages that the pipelines need and that are not installed."""
    return [name for name in LIBRARIES if not _is_installed(name)]


def find_or_fetch(name: str, kind: Published, download: bool = True) -> Path:
    """The pipeline's folder, downloaded if necessary and allowed.

    Raises:
        UserError: a package is not installed, or the pipeline cannot be downloaded.
    """
    if missing := missing_libraries():
        raise UserError(f"{kind} needs the packages {' and '.join(missing)}: {INSTALL}")
    if folder := find_folder(name):
        return folder
    problem = f"there is no pipeline {name} on this machine"
    if not _is_hub_name(name):
        raise UserError(f"{problem}; give a folder that exists, or fetch one with: {fetch_command(PUBLISHED[kind])}")
    if not download:
        raise UserError(f"{problem}, and --no-download is given; fetch it with: {fetch_command(name)}")
    from huggingface_hub import snapshot_download

    _log.info("%s is not on this machine: fetching it from the hub, several gigabytes (--no-download stops)", name)
    try:
        return Path(snapshot_download(name, allow_patterns=list(_FILES)))
    except (OSError, ValueError) as error:
        problem += f", and it cannot be fetched now ({type(error).__name__})"
        raise UserError(f"{problem}; fetch it with: {fetch_command(name)}") from error


def _is_hub_name(name: str) -> bool:
    return name.count("/") == 1 and not name.startswith((".", "/", f"{LOCAL_FOLDER}/"))


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:  # something else of that name is in sys.modules
        return False
