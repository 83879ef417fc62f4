"""Convert a rendered clip to an input for inference: foreground video on white, four side views of its first frame.

    python blender_scripts/clip_to_video.py data/fixed_16_24fps-pack-object-000-00.tar --out data_test/object.mp4

The video shows one fixed view; the side views ``<name>_000.png ... _003.png`` are 0, 90, 180 and 270 degrees from it,
so the clip must contain them. Runs in the main environment, without Blender.
"""

from __future__ import annotations

import argparse
import io
import sys
import tarfile
from contextlib import closing
from pathlib import Path

import numpy as np
from imageio_ffmpeg import write_frames
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs as a file, from any folder

from core.errors import UserError
from core.files import atomic_path

NUM_FIXED_VIEWS = 16  # on the horizon, in the published layout


def read_view(tar: tarfile.TarFile, view: int) -> list[np.ndarray]:
    """All frames of a view, uint8 ``[H, W, 3]`` on white.

    Raises:
        UserError: the clip does not contain the view.
    """
    prefix = f"./{view:03d}/img/"
    names = sorted(name for name in tar.getnames() if name.startswith(prefix))
    if not names:
        raise UserError(f"{tar.name}: contains no view {view:03d}; render it with a smaller --view_step")
    return [np.asarray(Image.open(io.BytesIO(tar.extractfile(name).read()))) for name in names]


def write_sample(clip: Path, video: Path, view: int, fps: float) -> None:
    """Write ``video`` (h264) and its four side views beside it.

    Args:
        clip: a fixed-camera tar.
        view: number of the fixed view that the video shows.
        fps: frame rate of the video; the clip's own rate plays in real time.

    Raises:
        UserError: the clip is missing or no tar, lacks a view, or an output cannot be written or is no .mp4.
    """
    if video.suffix != ".mp4":
        raise UserError(f"{video}: the video's name must end in .mp4")
    try:
        with tarfile.open(clip) as tar:
            frames = read_view(tar, view)
            sides = [read_view(tar, (view + turn * NUM_FIXED_VIEWS // 4) % NUM_FIXED_VIEWS)[0] for turn in range(4)]
    except (OSError, tarfile.TarError) as error:
        raise UserError(f"{clip}: not a readable clip ({error})") from error
    with atomic_path(video) as temporary:
        height, width = frames[0].shape[:2]
        writer = write_frames(temporary, (width, height), fps=fps, codec="libx264", output_params=["-crf", "18"])
        with closing(writer):
            writer.send(None)  # starts ffmpeg
            for frame in frames:
                writer.send(np.ascontiguousarray(frame))
    for turn, side in enumerate(sides):
        with atomic_path(video.with_name(f"{video.stem}_{turn:03d}.png")) as temporary:
            Image.fromarray(side).save(temporary, format="PNG", optimize=True)


def main() -> None:
    """Parse, convert."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path, help="a fixed-camera clip tar")
    parser.add_argument("--out", type=Path, required=True, help="the .mp4 to write; side views go next to it")
    parser.add_argument("--view", type=int, default=0, help="number of the fixed view that the video shows")
    parser.add_argument("--fps", type=float, default=15.0, help="frames a second of the video")
    args = parser.parse_args()
    write_sample(args.clip, args.out, args.view, args.fps)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
