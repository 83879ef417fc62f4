"""Frames a second of the renderer's order of loops against the published one, on the same clip in one run.

    .venv-render/bin/python benchmarks/render_order.py --obj model.glb --views 8 --frames 8

The published order goes through the views and evaluates the animation again for each; ours goes through the frames and
takes all views of one. The pictures are the same, byte for byte. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from blender_scripts import rig


def main() -> None:
    """Parse, render both ways in turn, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--obj", type=Path, nargs="+", required=True, help="animated GLB files")
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    from blender_scripts.scene import ClipScene  # imports Blender

    views, frames = rig.fixed_views(args.views), [3 * i for i in range(args.frames)]
    print("| object | vertices | ours, images/s of CPU time | published order | ours is faster by | same bytes |")
    print("|---|---|---|---|---|---|")
    for path in args.obj:
        scene = ClipScene(path, args.resolution, args.samples, 1.5, "cpu", threads=1)
        scene.play(min(scene.lengths))
        scene.normalise(frames, 1.0)
        scene.render({0: views[:1]})  # shaders and memory are warm
        spent = {"ours": 0.0, "published": 0.0}
        for _ in range(args.rounds):
            started = time.process_time()
            ours = scene.render(dict.fromkeys(frames, views))
            spent["ours"] += time.process_time() - started
            started = time.process_time()
            published = {}
            for view in views:
                for frame in frames:
                    published |= scene.render({frame: [view]})
            spent["published"] += time.process_time() - started
        count = args.rounds * len(views) * len(frames)
        rates = {name: count / seconds for name, seconds in spent.items()}
        print(
            f"| {path.stem} | {len(scene.vertices(0)):,} | {rates['ours']:.1f} | {rates['published']:.1f} "
            f"| {rates['ours'] / rates['published']:.2f} | {'yes' if ours == published else 'no'} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
