"""Make animated, textured objects from seeds and write them as GLB files; no Blender needed.

    python blender_scripts/make_procedural.py --out models/procedural --count 200           # seeds 0 to 199
    python blender_scripts/make_procedural.py --out beast.glb --seed 7 --family animal

A seed gives the same file on every run. Files are named by family and seed, so that every object is its own group in
a data list. ``--static`` omits the animation.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs as a file, from any folder

from blender_scripts.procedural.families import FAMILIES, make_model
from blender_scripts.procedural.glb import write_glb
from blender_scripts.procedural.toy import make_toy
from core.errors import UserError


def make(out: Path, first: int, count: int, family: str | None, static: bool) -> list[Path]:
    """Write the objects of the seeds ``first`` to ``first + count - 1`` and return the files.

    Args:
        out: a .glb for one object, else a folder.
        family: one family for all; None draws a family for every seed.

    Raises:
        UserError: ``out`` is one file for several objects, or cannot be written.
    """
    if out.suffix == ".glb" and count > 1:
        raise UserError(f"--out {out} is one file; give a folder for --count {count}")
    paths = []
    for seed in range(first, first + count):
        name, model = ("toy", make_toy(seed)) if family == "toy" else make_model(seed, family)
        paths.append(out if out.suffix == ".glb" else out / f"{name}_{seed:06d}.glb")
        try:
            write_glb(paths[-1], model, static)
        except OSError as error:
            raise UserError(f"cannot write {paths[-1]}: {error.strerror or error}") from error
    return paths


def main() -> None:
    """Parse, build, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the .glb to write, or a folder")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--count", type=int, default=1, help="number of seeds")
    parser.add_argument("--family", choices=(*FAMILIES, "toy"), help="one family for all (default: drawn by the seed)")
    parser.add_argument("--static", action="store_true", help="omit the animation")
    args = parser.parse_args()
    paths = make(args.out, args.seed, args.count, args.family, args.static)
    print(f"{len(paths)} objects: {paths[0]} ... {paths[-1]}" if len(paths) > 1 else paths[0])


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
