"""What frame 0 could be: the fit of the canonical set against its steps and the number of true views it knows.

python -m benchmarks.tracking_views --data_home CLIPS --output benchmarks/results/tracking_views.json

Known: the front, the four views of the horizon, or eight of them. Compared: random cameras.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.measure import machine
from benchmarks.tracking import Measured, Row, means, names
from core.cameras import concatenate, orbit_cameras
from core.evaluation.protocol import Protocol
from core.evaluation.systems import Trial
from core.files import atomic_path
from core.losses import psnr
from core.nano.scene import foreground
from core.options.refine import RefineOptions
from core.tracking.fit import Fit
from core.tracking.observations import Observations, Views, observe

STEPS = (0, 10, 20, 40, 80)
DIAGONAL = (45.0, 135.0, 225.0, 315.0)


def curve(measured: Measured, name: str) -> dict[str, Row]:
    """PSNR and LPIPS of frame 0 by number of known views, then steps."""
    session, rows = measured.session, {}
    trial = measured._trial(name, Protocol("views", "reconstruct", 1, side_views="first"))
    start = measured._feed_forward(trial, trial.front)[0].gaussians
    more = measured._trial(name, Protocol("views", "reconstruct", 1, azimuths=DIAGONAL)).ground_truth.images
    for count in (1, 4, 8):
        generator = torch.Generator().manual_seed(0)
        sides = None if count == 1 else trial.sides
        seen = observe(trial.front, sides, [start], session.orbit.renderer, session.options.camera, generator)
        seen = _with_views(seen, more) if count == 8 else seen
        options = replace(session.options.refine, canonical_steps=max(STEPS))
        rows[f"{count} views"] = _fitted(measured, trial, Fit(start, seen, options, session.orbit.renderer, generator))
    return rows


def _with_views(seen: Observations, images: torch.Tensor) -> Observations:
    """With the images ``[1, 4, 3, S, S]`` of the diagonal azimuths beside the others of frame 0."""
    cameras = orbit_cameras(torch.tensor(DIAGONAL), size=tuple(images.shape[-2:])).expand(1, len(DIAGONAL))
    first = seen.first
    both = (torch.cat([first.images, images], 1), torch.cat([first.alpha, foreground(images)], 1))
    return replace(seen, first=Views(concatenate([first.cameras, cameras], 1), *both))


def _fitted(measured: Measured, trial: Trial, fit: Fit) -> Row:
    row: Row = {}
    truth = trial.ground_truth
    for step in range(max(STEPS) + 1):
        if step in STEPS:
            with torch.no_grad():
                images = measured._draw(fit.canonical()[None], truth)
                pairs = zip(images[0, :, None], truth.images[0, :, None], strict=True)
                distances = [float(measured.lpips(*pair).mean()) for pair in pairs]
            row[f"PSNR, {step} steps"] = float(psnr(images, truth.images).mean())
            row[f"LPIPS, {step} steps"] = sum(distances) / len(distances)
        fit._first_frame_step(step)
    return row


def main() -> None:
    """Measure, print, write after each object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_home", required=True, type=Path, help="folder of the validation clips")
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    args = parser.parse_args()
    measured = Measured(args.data_home, replace(RefineOptions(), refine=True), single_view=False)
    objects: dict[str, dict[str, Row]] = {}
    for name in names("8fps"):
        objects[name] = curve(measured, name)
        found = {views: means([rows[views] for rows in objects.values()]) for views in objects[name]}
        content = {"machine": machine(torch.device("cpu")), "means": found, "objects": objects}
        with atomic_path(args.output) as path:
            path.write_text(json.dumps(content, indent=1) + "\n")
        print(len(objects), json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
