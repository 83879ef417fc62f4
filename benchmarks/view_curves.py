"""Quality and cost of novel views against the number of input views: LaCT, the same network with attention, floors.

    python -m benchmarks.view_curves --scenes clips/val/datalist.txt --lact pretrained/nano_lact.safetensors \
        --attention twin.safetensors --out novel_views.json

The targets of a scene are the same for every number of inputs, and more inputs contain the fewer. Floors: the mean of
the inputs, and the input whose camera is nearest.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import MachineLimits, Row, machine, table, write_json
from benchmarks.novel_views import MIXERS, speed
from core.cli import run
from core.errors import UserError
from core.images import contact_sheet, save_image
from core.lact import LaCT
from core.lpips import load_lpips
from core.nvs.dataset import finished
from core.nvs.inference import measure
from core.nvs.posed import PosedImages
from core.nvs.scenes import Scene, open_scenes
from core.nvs.weights import load_lact
from core.options.lact import Mixer, lact_preset

CONFIG = "nano"
COUNTS = (1, 2, 4, 8, 16, 24)
TARGETS = 8
SHEET_SCENES, SHEET_INPUTS = 3, 4

System = Callable[[PosedImages, PosedImages], Tensor]
"""Inputs and targets of one scene to images ``[targets, 3, h, w]``; of the targets it may use the cameras only."""


def network(path: Path, mixer: Mixer) -> LaCT:
    """A trained network."""
    model = LaCT(replace(lact_preset(CONFIG), mixer=mixer))
    load_lact(model, path)
    return model.eval().requires_grad_(False)


def rendered_by(model: LaCT) -> System:
    """The network as a system."""

    def render(inputs: PosedImages, targets: PosedImages) -> Tensor:
        state = model.reconstruct(inputs.images[None], inputs.cameras[None])
        return model.render(state, targets.cameras[None])[0]

    return render


def mean_input(inputs: PosedImages, targets: PosedImages) -> Tensor:
    """The mean of the inputs, whatever the target."""
    return inputs.images.mean(0, keepdim=True).expand(len(targets.images), -1, -1, -1)


def nearest_input(inputs: PosedImages, targets: PosedImages) -> Tensor:
    """The input whose camera is nearest to the target's."""
    distances = torch.cdist(targets.cameras.positions, inputs.cameras.positions)
    return inputs.images[distances.argmin(1)]


def split(scene: Scene, size: int, seed: int) -> tuple[PosedImages, PosedImages]:
    """24 inputs and 8 targets, drawn by seed.

    Raises:
        UserError: the scene has too few views.
    """
    if len(scene) < max(COUNTS) + TARGETS:
        raise UserError(f"{scene.name} has {len(scene)} views and must have {max(COUNTS) + TARGETS}")
    drawn = np.random.default_rng(seed).permutation(len(scene)).tolist()
    views = finished(scene.load(drawn, (size, size)), lact_preset(CONFIG).frame)
    return views[: max(COUNTS)], views[-TARGETS:]


def curves(systems: dict[str, System], scenes: list[Scene], size: int) -> Iterator[Row]:
    """One row for each number of inputs and system: means over all targets of all scenes."""
    lpips = load_lpips()
    splits = [split(scene, size, number) for number, scene in enumerate(scenes)]
    for count in COUNTS:
        for name, system in systems.items():
            scores = [measure(system(inputs[:count], targets), targets.images, lpips) for inputs, targets in splits]
            means = {key: fmean(value for score in scores for value in score[key]) for key in scores[0]}
            yield {"inputs": count, "system": name, **{key: round(value, 4) for key, value in means.items()}}


def sheet(systems: dict[str, System], scenes: list[Scene], size: int, path: Path) -> None:
    """Inputs, what each system makes of them, and the truth, for some scenes."""
    rows, captions = [], []
    for number, scene in enumerate(scenes[:SHEET_SCENES]):
        inputs, targets = split(scene, size, number)
        inputs = inputs[:SHEET_INPUTS]
        rows += [inputs.images, *(system(inputs, targets) for system in systems.values()), targets.images]
        captions += ["inputs", *systems, "ground truth"]
    save_image(contact_sheet(rows, captions), path)


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=Path, required=True, help="as --data_path of infer_nvs.py; 32 views each")
    for mixer in MIXERS:
        parser.add_argument(f"--{mixer}", type=Path, help=f"trained weights with --mixer {mixer}")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, required=True, help="the JSON file; a contact sheet is written beside it")
    args = parser.parse_args()
    device, scenes = torch.device("cpu"), open_scenes(args.scenes)
    paths = {mixer: getattr(args, mixer) for mixer in MIXERS if getattr(args, mixer)}
    systems = {mixer: rendered_by(network(path, mixer)) for mixer, path in paths.items()}
    systems |= {"mean of inputs": mean_input, "nearest input": nearest_input}
    results: dict[str, object] = {"machine": machine(device), "scenes": [scene.name for scene in scenes]}
    with torch.inference_mode():
        quality = list(curves(systems, scenes, args.size))
        sheet(systems, scenes, args.size, args.out.with_suffix(".png"))
        limits = MachineLimits.measured(device)
        costs = speed(args.rounds, COUNTS, args.size, device, CONFIG, limits.float32)
    results["tables"] = {"quality": quality, **costs, "limits of the machine": [limits.row()]}
    for title, rows in results["tables"].items():
        print(f"\n{title}\n\n{table(rows)}", flush=True)
    write_json(args.out, results)


if __name__ == "__main__":
    run(main)
