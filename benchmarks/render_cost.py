"""What a picture costs: CPU seconds of one core by resolution and samples, and of the import.

    .venv-render/bin/python benchmarks/render_cost.py --obj a.glb b.glb

CPU time of one thread, which does not depend on what else the machine does. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from blender_scripts import rig


def main() -> None:
    """Parse, render the grid, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--obj", type=Path, nargs="+", required=True, help="animated GLB files")
    parser.add_argument("--resolutions", type=int, nargs="+", default=[128, 256, 512])
    parser.add_argument("--samples", type=int, nargs="+", default=[4, 8, 16])
    args = parser.parse_args()
    from blender_scripts.scene import ClipScene  # imports Blender

    views, frames = rig.fixed_views(16, 4), [0, 6, 12]
    spent: dict[tuple[int, int], float] = {}
    imports = 0.0
    for path in args.obj:
        for resolution in args.resolutions:
            for samples in args.samples:
                started = time.process_time()
                scene = ClipScene(path, resolution, samples, 0.01, "cpu", threads=1)
                scene.play(min(scene.lengths))
                scene.normalise(list(range(24)), 1.0)
                imports += time.process_time() - started
                scene.render({0: views[:1]})
                started = time.process_time()
                scene.render(dict.fromkeys(frames, views))
                seconds = (time.process_time() - started) / (len(views) * len(frames))
                spent[resolution, samples] = spent.get((resolution, samples), 0.0) + seconds / len(args.obj)
    print("CPU seconds a picture, mean of", ", ".join(path.stem for path in args.obj), "\n")
    print("| pixels | " + " | ".join(f"{samples} samples" for samples in args.samples) + " |")
    print("|---" * (len(args.samples) + 1) + "|")
    for resolution in args.resolutions:
        cells = " | ".join(f"{spent[resolution, samples]:.3f}" for samples in args.samples)
        print(f"| {resolution} | {cells} |")
    print(f"\nImport, bounds and start of a file: {imports / len(args.obj) / len(spent):.2f} s")


if __name__ == "__main__":
    main()
