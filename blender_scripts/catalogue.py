"""Sources of objects to render: files, folders, lists, or uids of Objaverse. No Blender."""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

from core.errors import UserError

SUFFIXES = (".glb", ".gltf")


@dataclass(frozen=True)
class Item:
    """One object: its ``key`` in reports, a path or ``objaverse:<uid>``, and its number of animations if known."""

    key: str
    animations: int | None = None

    @property
    def is_remote(self) -> bool:
        """Whether it is an object of Objaverse, named by its uid."""
        return self.key.startswith("objaverse:")

    def fetch(self) -> Path:
        """Return the file; an object of Objaverse is downloaded if it is not in the cache.

        Raises:
            UserError: the download failed.
        """
        if not self.is_remote:
            return Path(self.key)
        uid = self.key.removeprefix("objaverse:")
        try:
            return Path(_objaverse().load_objects([uid])[uid])
        except (OSError, KeyError) as error:
            raise UserError(f"{self.key}: cannot be downloaded ({error!r})") from error


def missing_files(path: Path) -> list[str]:
    """Texture files that a glTF names and that do not exist; Blender renders it without them."""
    data = path.read_bytes()
    if data[:4] == b"glTF":
        data = data[20 : 20 + int.from_bytes(data[12:16], "little")]
    uris = [image.get("uri", "data:") for image in json.loads(data).get("images", ())]
    return [uri for uri in uris if not uri.startswith("data:") and not (path.parent / unquote(uri)).exists()]


def _objaverse() -> ModuleType:
    try:
        return importlib.import_module("objaverse")
    except ImportError as error:
        raise UserError("Objaverse's own package is missing: pip install objaverse") from error


def find_items(sources: list[str], static: bool = False) -> list[Item]:
    """Collect the objects of all sources, each once, in order.

    Args:
        sources: .glb or .gltf files, folders of them, .txt lists of files; ``objaverse`` for all of Objaverse,
            ``objaverse:<file>`` for the uids in a file.
        static: include objects of Objaverse that have no animation.

    Raises:
        UserError: a source does not exist or is of another type; nothing was found.
    """
    found: dict[str, Item] = {}
    for source in sources:
        if source.split(":")[0] == "objaverse":
            found |= {item.key: item for item in _objaverse_items(source, static)}
            continue
        path = Path(source)
        if path.is_dir():
            paths = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
        elif not path.exists():
            raise UserError(f"{source}: no such file or folder; give .glb or .gltf files, folders, .txt lists")
        elif path.suffix == ".txt":
            paths = [Path(line.strip()) for line in path.read_text().splitlines() if line.strip()]
        elif path.suffix.lower() in SUFFIXES:
            paths = [path]
        else:
            raise UserError(f"{source}: not a .glb or .gltf file, a folder, or a .txt list of files")
        found |= {str(file): Item(str(file)) for file in paths}
    if not found:
        raise UserError(f"no .glb or .gltf file in {', '.join(sources)}")
    return list(found.values())


def _objaverse_items(source: str, static: bool) -> list[Item]:
    objaverse, (_, _, file) = _objaverse(), source.partition(":")
    uids = None
    if file:
        if not Path(file).is_file():
            raise UserError(f"{source}: {file} does not exist; it needs one uid a line")
        uids = Path(file).read_text().split()
    annotations = objaverse.load_annotations(uids)
    unknown = [uid for uid in uids or () if uid not in annotations]
    if unknown:
        raise UserError(f"{source}: {len(unknown)} uids are not in Objaverse, such as {unknown[0]}")
    counts = {uid: int(annotations[uid].get("animationCount") or 0) for uid in uids or annotations}
    return [Item(f"objaverse:{uid}", count) for uid, count in counts.items() if count or static]
