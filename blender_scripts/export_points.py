"""Points on the surfaces of rendered clips, followed through their frames: ground truth for train_motion.py.

    .venv-render/bin/python blender_scripts/export_points.py --data_home CLIPS

Run it after `render_dataset.py`, whose report in the folder says which clip is of which file. Every clip gets
``points-LINE.npy``: ``[F, 1024, 3]`` float32, the clip's y-up world, in the frames of the tar. Existing files stay.
Needs Blender.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs as a file, from any folder

from blender_scripts import clips
from blender_scripts.export_surface import surface
from blender_scripts.ledger import REPORT, SETTINGS
from core.errors import UserError
from core.files import atomic_path

POINTS = 1024
"""Of a clip."""


def rendered(home: Path) -> dict[Path, list[tuple[int, int, str]]]:
    """Animation, clip and line of every rendered clip of animated files, by file.

    Raises:
        UserError: the folder has no report.
    """
    found: dict[Path, dict[str, tuple[int, int, str]]] = {}
    for text in _read(home / REPORT).splitlines():
        try:
            row = json.loads(text)
        except ValueError:  # truncated by a kill
            continue
        if row.get("status") in ("rendered", "exists") and row.get("animation") is not None:
            found.setdefault(Path(row["file"]), {})[row["line"]] = (row["animation"], row["clip"], row["line"])
    return {path: list(lines.values()) for path, lines in found.items()}


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}); give a folder that render_dataset.py wrote") from error


def followed(triangles: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Points ``[F, count, 3]``, uniform over the area of the first of triangles ``[F, M, 3, 3]``, carried by them."""
    generator = np.random.default_rng(seed)
    a, b, c = triangles.astype(np.float64).transpose(2, 0, 1, 3)
    areas = np.linalg.norm(np.cross(b[0] - a[0], c[0] - a[0]), axis=1)
    chosen = generator.choice(len(areas), count, p=areas / areas.sum())
    root, along = np.sqrt(generator.random((count, 1))), generator.random((count, 1))
    return (1 - root) * a[:, chosen] + root * (1 - along) * b[:, chosen] + root * along * c[:, chosen]


def surfaces(
    path: Path, wanted: list[tuple[int, int, str]], rate: int, scale: float
) -> Iterator[tuple[str, np.ndarray]]:
    """Line and points of clips of a file.

    Args:
        path: a .glb file.
        wanted: animation, clip and line of each.
        rate: scene frames from one frame of the tars to the next.
        scale: longest side of the bounding box over a clip, world units.
    """
    from blender_scripts.scene import ClipScene  # here, because importing Blender takes seconds

    scene = ClipScene(path, 16, 1, 1.0, "cpu")
    for animation, clip, line in wanted:
        yield line, followed(surface(scene, animation, None, rate, scale, clip), POINTS)


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_home", type=Path, required=True, help="folder that render_dataset.py wrote")
    return parser.parse_args(argv)


def main() -> None:
    """Parse, export."""
    args = parse(sys.argv[1:])
    settings = json.loads(_read(args.data_home / SETTINGS))
    rate, scale = max(settings["downsample"]), settings["scale"]
    for path, entries in rendered(args.data_home).items():
        wanted = [entry for entry in entries if not clips.points_path(args.data_home, entry[2]).exists()]
        for line, points in surfaces(path, wanted, rate, scale) if wanted else ():
            with atomic_path(clips.points_path(args.data_home, line)) as temporary, temporary.open("wb") as file:
                np.save(file, points.astype(np.float32))
        print(f"{path}: {len(wanted)} clips")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
