"""How well an object is cut out of a phone-like video: rendered clips, whose true alpha is known, put before photos.

python -m benchmarks.matting --clips FOLDER --output benchmarks/results/matting.json

Each clip's first view stands on a photographed floor before a photographed wall (scikit-image's pictures), with a
shadow, seen by a hand that shakes and pans, with noise, as H.264. Reported for each clip: intersection over union of
the matte, at alpha 0.5, with the true one, in the crop; how far the crop jumps from frame to frame; how much of the
object the crop holds. The clips are rendered at 512 pixels, about the object's size in the video:

python blender_scripts/render_dataset.py --obj FILES.glb --out_dir FOLDER --mode random --views 1 --resolution 512
"""

from __future__ import annotations

import argparse
import json
import tarfile
import time
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image

from benchmarks.measure import machine, write_json
from core.errors import UserError
from core.images import contact_sheet, on_white, save_image
from core.matting.crop import cut
from core.matting.prepare import Prepared, prepare
from core.matting.saliency import Finder, load_finder
from core.media import read_video, write_video
from core.options.input import InputOptions

SIZES = ((720, 1280), (1280, 720))  # landscape and portrait, (height, width), by turns
OBJECT = 0.6  # of the video's shorter side that the object takes over the clip
NOISE = 4 / 255
FLOORS, WALLS = ("grass", "gravel", "brick"), ("brick", "grass", "gravel")


@dataclass(frozen=True)
class Scene:
    """A composited clip: frames ``[H, W, 3]`` in [0, 1], true alpha ``[H, W]``."""

    frames: list[np.ndarray]
    alphas: list[np.ndarray]


def render_of(tar: Path) -> list[np.ndarray]:
    """Frames of the first view, premultiplied floats ``[S, S, 4]``; the clip's pictures are on white."""
    with tarfile.open(tar) as archive:
        names = sorted(name for name in archive.getnames() if name.startswith("./000/mask/"))
        frames = []
        for name in names:
            mask, picture = (
                np.asarray(Image.open(BytesIO(archive.extractfile(file).read())), np.float32) / 255
                for file in (name, name.replace("mask", "img").replace("png", "jpg"))
            )
            alpha = mask[..., :1] if mask.ndim == 3 else mask[..., None]
            frames.append(np.concatenate([np.clip(picture - (1 - alpha), 0, 1) * (alpha > 0), alpha], axis=-1))
    return frames


def tight(render: list[np.ndarray]) -> list[np.ndarray]:
    """The same frames cropped to a square around everything that the object covers over the clip."""
    rows, columns = np.nonzero(np.max([frame[..., 3] for frame in render], axis=0) > 0.5)
    middle = (int(rows.min() + rows.max()) // 2, int(columns.min() + columns.max()) // 2)
    half = int(max(np.ptp(rows), np.ptp(columns)) * 0.5 * 1.1) + 2
    padded = [np.pad(frame, ((half, half), (half, half), (0, 0))) for frame in render]
    return [frame[middle[0] : middle[0] + 2 * half, middle[1] : middle[1] + 2 * half] for frame in padded]


def room(number: int, size: tuple[int, int]) -> np.ndarray:
    """A wall and a floor from photographs, ``[H, W, 3]``: tinted, lit from one side, the floor in perspective."""
    import cv2
    from skimage import data

    rng = np.random.default_rng(number)
    height, width = size

    def surface(name: str) -> np.ndarray:
        photo = cv2.resize(np.asarray(getattr(data, name)(), np.float32) / 255, (width, height))
        tint = (rng.uniform(0.6, 1.1) * rng.uniform(0.85, 1.0, 3)).astype(np.float32)
        return (0.3 + 0.7 * photo[..., None]) * tint

    horizon = int(rng.uniform(0.45, 0.65) * height)
    corners = np.float32([[0, 0], [width, 0], [width, height], [0, height]])
    far = np.float32([[0, horizon], [width, horizon], [1.8 * width, height], [-0.8 * width, height]])
    floor = cv2.warpPerspective(surface(FLOORS[number % 3]), cv2.getPerspectiveTransform(corners, far), (width, height))
    picture = cv2.GaussianBlur(surface(WALLS[number % 3]), (0, 0), 2.5)
    picture[horizon:] = cv2.GaussianBlur(floor, (0, 0), 1.0)[horizon:]
    light = np.linspace(*rng.permutation([0.7, 1.1]), width, dtype=np.float32)[None, :, None]
    return np.clip(picture * light, 0, 1)


def composite(render: list[np.ndarray], number: int) -> Scene:
    """The rendered object before a moving background."""
    import cv2

    height, width = SIZES[number % 2]
    render = tight(render)
    side = int(1.1 * OBJECT * min(height, width))
    rng = np.random.default_rng(100 + number)
    margin = 80
    background = room(number, (height + 2 * margin, width + 2 * margin))
    pan = np.linspace(-1, 1, len(render))[:, None] * rng.uniform(-50, 50, 2)
    shake = np.cumsum(rng.normal(0, 1.2, (len(render), 2)), axis=0) + rng.normal(0, 0.7, (len(render), 2))
    camera = np.clip(pan + shake, -margin + 2, margin - 2)
    walk = np.linspace(-1, 1, len(render))[:, None] * np.array([rng.uniform(-0.12, 0.12) * width, 0])
    scene = Scene([], [])
    for k, picture in enumerate(render):
        view = np.float32([[1, 0, -margin - camera[k, 0]], [0, 1, -margin - camera[k, 1]]])
        behind = cv2.warpAffine(background, view, (width, height))
        x = (width - side) / 2 + walk[k, 0] - camera[k, 0]
        y = (height - side) / 2 + walk[k, 1] - camera[k, 1]
        scale = side / len(picture)
        place = np.float32([[scale, 0, x], [0, scale, y]])
        layer = cv2.warpAffine(picture, place, (width, height), flags=cv2.INTER_AREA)
        fallen = np.float32([[scale, -0.3 * scale, x + 0.2 * side], [0, 0.25 * scale, y + 0.62 * side]])
        shadow = cv2.GaussianBlur(cv2.warpAffine(picture[..., 3], fallen, (width, height)), (0, 0), 12)
        behind = behind * (1 - 0.45 * shadow[..., None])
        alpha = layer[..., 3:]
        noise = rng.normal(0, NOISE, (height, width, 3)).astype(np.float32)
        scene.frames.append(np.clip(layer[..., :3] + (1 - alpha) * behind + noise, 0, 1))
        scene.alphas.append(alpha[..., 0])
    return scene


def save(scene: Scene, path: Path, rate: int) -> None:
    """The clip as a phone writes it."""
    with write_video(path, rate, scene.frames[0].shape[:2], crf=26) as video:
        for frame in scene.frames:
            video.write_pixels((frame * 255).round().astype(np.uint8))


def scores(prepared: Prepared, scene: Scene) -> dict[str, object]:
    """Numbers of one clip."""
    path, overlaps, held, soft = prepared.path, [], [], []
    for k, (pixels, source) in enumerate(zip(prepared.video.pixels(), prepared.sources, strict=True)):
        true = torch.from_numpy(scene.alphas[source])
        expected = cut(true[None], *path.window(k), path.side, len(pixels))[0].numpy()
        found = pixels[..., 3].astype(np.float32) / 255
        overlaps.append(((found > 0.5) & (expected > 0.5)).sum() / ((found > 0.5) | (expected > 0.5)).sum())
        soft.append(np.minimum(found, expected).sum() / np.maximum(found, expected).sum())
        held.append(float(expected.sum()) * (path.side / len(pixels)) ** 2 / float(true.sum()))
    jumps = np.diff(path.centres, n=2, axis=0) * len(pixels) / path.side
    return {
        "frames": len(overlaps),
        "IoU": float(np.mean(overlaps)),
        "worst frame": float(np.min(overlaps)),
        "soft IoU": float(np.mean(soft)),
        "jitter px": float(np.linalg.norm(jumps, axis=1).max(initial=0)),
        "object held": float(np.min(held)),
    }


def sheet(prepared: Prepared, scene: Scene, path: Path, columns: int = 6) -> None:
    """Video, what the network will see, and the difference of the mattes, at a few times."""
    chosen = np.unique(np.linspace(0, prepared.video.num_frames - 1, columns).round().astype(int)).tolist()
    rows: list[list[torch.Tensor]] = [[], [], []]
    for k, pixels in zip(chosen, prepared.video.pixels(chosen), strict=True):
        rows[0].append(torch.from_numpy(scene.frames[prepared.sources[k]]).permute(2, 0, 1))
        rows[1].append(on_white(pixels))
        true = torch.from_numpy(scene.alphas[prepared.sources[k]])[None]
        true = cut(true, *prepared.path.window(k), prepared.path.side, len(pixels))[0]
        found = torch.from_numpy(pixels[..., 3]).float() / 255
        rows[2].append(torch.stack([found, true, true]))  # red: too much; cyan: missing
    save_image(contact_sheet(rows, ["video", "input of the network", "matte: red too much, cyan missing"], 200), path)


def measure(tar: Path, number: int, folder: Path, frames: int, find: Finder) -> dict[str, object]:
    """Composite, cut out, compare."""
    name = tar.stem.split("-", 1)[1]
    scene = composite(render_of(tar)[:frames], number)
    save(scene, folder / f"{name}.mp4", rate=15)
    clip = read_video(folder / f"{name}.mp4")
    start = time.perf_counter()
    prepared = prepare(clip, InputOptions(matte="rembg"), folder / f"{name}_input.mov", find=find)
    seconds = (time.perf_counter() - start) / clip.num_frames
    sheet(prepared, scene, folder / f"{name}.png")
    row = {"clip": name, "size": "x".join(map(str, clip.size[::-1])), **scores(prepared, scene)}
    return row | {"seconds a frame": seconds}


def main() -> None:
    """Parse, measure, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, required=True, help="folder of rendered clips (.tar) of random views")
    parser.add_argument("--frames", type=int, default=24, help="of each clip, at most")
    parser.add_argument("--model", default="u2net", help="of rembg, as infer_4d's --matte_model")
    parser.add_argument("--keep", type=Path, help="folder for the videos and contact sheets")
    parser.add_argument("--output", type=Path, default=Path("results/bench/matting.json"))
    args = parser.parse_args()
    tars = sorted(args.clips.glob("*.tar"))
    if not tars:
        raise UserError(f"there is no .tar in {args.clips}; render clips with blender_scripts/render_objaverse.py")
    find, rows = load_finder(args.model), []
    with TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for number, tar in enumerate(tars):
            rows.append(measure(tar, number, folder, args.frames, find))
            print(json.dumps(rows[-1]), flush=True)
            mean = float(np.mean([row["IoU"] for row in rows]))
            write_json(
                args.output,
                {"machine": machine(torch.device("cpu")), "model": args.model, "mean IoU": mean, "clips": rows},
            )


if __name__ == "__main__":
    from core.cli import run

    run(main)
