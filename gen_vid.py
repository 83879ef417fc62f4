r"""Animate the object of a picture with Stable Video Diffusion; infer_4d.py and refine_4d.py take the video.

python gen_vid.py --test_path picture.png --workspace results
"""

import tyro

from core.cli import run
from core.inference.driving import generate_videos
from core.inference.inputs import run_all
from core.options.gen_vid import GenVidOptions


def main() -> None:
    """Parse, call; the parts save."""
    description = "Animate the object of a picture; the videos are input of infer_4d and refine_4d."
    options = tyro.cli(GenVidOptions, description=description, use_underscores=True)
    run_all(generate_videos(options), print)


if __name__ == "__main__":
    run(main)
