"""Draw the camera rig with the images of a rendered clip: position and picture of every view.

    python blender_scripts/rig_picture.py fixed_16_clip-<line> random_clip-<line> --out docs/images/rig.png

Left the fixed ring from above, right the random views from the side. Runs in the main environment, without Blender.
"""

from __future__ import annotations

import argparse
import io
import sys
import tarfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs as a file, from any folder

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from blender_scripts.rig import ELEVATION_RANGE, RADIUS, View, camera_to_world
from core.files import atomic_path

SIDE, CELL = 760, 96
SCALE = 0.41 * SIDE / RADIUS  # pixels a world unit


def first_frames(path: Path) -> list[tuple[View, Image.Image]]:
    """Every view of a clip with its first image."""
    with tarfile.open(path) as tar:
        names = tar.getnames()

        def load(name: str) -> io.BytesIO:
            return io.BytesIO(tar.extractfile(name).read())

        numbers = sorted({name.split("/")[1] for name in names})
        angles = [[np.load(load(f"./{n}/camera/{a}.npy"))[0] for a in ("rotation", "elevation")] for n in numbers]
        pictures = [Image.open(load(f"./{n}/img/000.jpg")).convert("RGB").resize((CELL, CELL)) for n in numbers]
    return [(View(int(n), *map(float, a)), p) for n, a, p in zip(numbers, angles, pictures, strict=True)]


def panel(views: list[tuple[View, Image.Image]], axes: tuple[int, int], title: str) -> Image.Image:
    """The rig seen along one world axis: ``axes`` are the world axes that point right and down (negative: up)."""
    image = Image.new("RGB", (SIDE, SIDE + 40), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(15)
    middle = np.array([SIDE / 2, SIDE / 2 + 40])
    right, down = (np.eye(3)[abs(axis)] * (1 if axis >= 0 else -1) for axis in axes)

    def place(point: np.ndarray) -> tuple[float, float]:
        return tuple(middle + SCALE * np.array([point @ right, point @ down]))

    draw.text((10, 10), title, "black", font)
    draw.ellipse([*(middle - SCALE * RADIUS), *(middle + SCALE * RADIUS)], outline="#bbb")
    draw.rectangle([*(middle - 0.5 * SCALE), *(middle + 0.5 * SCALE)], outline="#ddd")
    for axis, colour in enumerate(("#c33", "#383", "#33c")):
        tip = np.eye(3)[axis] * 0.45
        if abs(tip @ right) + abs(tip @ down) > 0.1:
            draw.line([place(np.zeros(3)), place(tip)], colour, 3)
            draw.text(place(1.15 * tip), "xyz"[axis], colour, font, anchor="mm")
    for view, picture in views:
        centre = place(camera_to_world(view)[:3, 3])
        draw.line([centre, place(camera_to_world(view)[:3, 3] * 0.6)], "#ccc")
        corner = tuple(int(value - CELL / 2) for value in centre)
        image.paste(picture, corner)
        draw.rectangle([*corner, corner[0] + CELL, corner[1] + CELL], outline="#999")
        draw.text((corner[0] + 4, corner[1] + 2), f"{view.number}", "black", font)
        draw.text((centre[0], corner[1] + CELL - 3), f"{view.azimuth:.4g}°, {view.elevation:.3g}°", "#555", font, "ms")
    return image


def main() -> None:
    """Parse, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fixed", type=Path, help="the fixed tar of a clip")
    parser.add_argument("random", type=Path, help="the random tar of a clip")
    parser.add_argument("--out", type=Path, required=True, help="the .png to write")
    args = parser.parse_args()
    low, high = ELEVATION_RANGE
    left = panel(
        first_frames(args.fixed), (0, 2), "Fixed views from above: number (view id 32 + number); azimuth, elevation"
    )
    some = sorted(first_frames(args.random), key=lambda entry: entry[0].azimuth)[:8]
    side = panel(some, (0, -1), f"Random views from the front: number = view id; elevation {low:g}° to {high:g}°")
    image = Image.new("RGB", (2 * SIDE, SIDE + 40), "white")
    image.paste(left, (0, 0))
    image.paste(side, (SIDE, 0))
    with atomic_path(args.out) as temporary:
        image.quantize(128).save(temporary, format="PNG", optimize=True)


if __name__ == "__main__":
    main()
