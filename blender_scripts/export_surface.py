"""The source mesh of a rendered clip, posed as in its frames: triangles in the clip's y-up world. Needs Blender.

    .venv-render/bin/python blender_scripts/export_surface.py --obj model.glb --animation 0 --out surface.npz

The .npz holds ``triangles`` ``[F, M, 3, 3]``: corners of the M triangles of every visible mesh at F frames, world
units, scaled and centred as `render_objaverse.py` does for the first clip of that animation.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs as a file, from any folder

from blender_scripts import clips
from core.errors import UserError
from core.files import atomic_path

if TYPE_CHECKING:
    from blender_scripts.scene import ClipScene


def surface(
    scene: ClipScene, animation: int, frames: int | None, downsample: int, scale: float, clip: int = 0
) -> np.ndarray:
    """Triangles ``[F, M, 3, 3]`` of a clip of an animation, y up.

    Args:
        scene: the object.
        animation: index in the file.
        frames: F at most; None: all.
        downsample: scene frames from one to the next.
        scale: longest side of the bounding box over the clip, world units.
        clip: its number in the animation.
    """
    scene.play(animation)
    length = scene.lengths[animation]
    timing = (clips.clip_starts(length)[clip], length)
    cyclic = scene.is_cyclic(length)
    scene.normalise(clips.clip_frames(*timing, 1, None, cyclic), scale)
    chosen = clips.clip_frames(*timing, downsample, frames, cyclic)
    # Blender's (x, y, z) is (x, z, -y) in the y-up world.
    return np.stack([scene.triangles(frame)[..., [0, 2, 1]] for frame in chosen]) * np.float32([1, 1, -1])


def main() -> None:
    """Parse, export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--obj", type=Path, required=True, help="a .glb file")
    parser.add_argument("--out", type=Path, required=True, help="the .npz to write")
    parser.add_argument("--animation", type=int, default=0, help="index of the animation")
    parser.add_argument("--frames", type=int, default=24, help="maximum number of frames")
    parser.add_argument("--downsample", type=int, default=3, help="take every n-th of 24 scene frames a second")
    parser.add_argument("--scale", type=float, default=1.0, help="longest side of the bounding box, world units")
    args = parser.parse_args()
    from blender_scripts.scene import ClipScene  # here, because importing Blender takes seconds

    scene = ClipScene(args.obj, 16, 1, 1.0, "cpu")
    if args.animation not in scene.lengths:
        raise UserError(f"{args.obj}: has no animation {args.animation}; it has {len(scene.lengths)}, counted from 0")
    triangles = surface(scene, args.animation, args.frames, args.downsample, args.scale)
    with atomic_path(args.out) as temporary:
        np.savez_compressed(temporary, triangles=triangles)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
