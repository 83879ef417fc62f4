"""What the tracked object is worth: the feed-forward result and the refined one beside it, on rendered clips.

python -m benchmarks.tracking --data_home CLIPS --output benchmarks/results/tracking.json

Input: the front video and true side views of frame 0, 8 frames. For inserted frames every third of 7 frames at 24 a
second is the input. Compared: the front, and random cameras that no input shows. One row an object, then means.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from time import process_time

import torch
from torch import Tensor

from benchmarks.measure import machine
from core.cameras import orbit_cameras
from core.data.lists import read_groups
from core.evaluation.ground_truth import ClipSource, GroundTruth
from core.evaluation.protocol import Protocol
from core.evaluation.systems import Trial, stack
from core.files import atomic_path
from core.gaussians import Gaussians
from core.inference.sequence import GaussianFrame, reconstruct
from core.inference.session import Session
from core.losses import psnr
from core.lpips import load_lpips
from core.options import PRESETS
from core.options.refine import RefineOptions
from core.rendering.orbit import render_in_parts

Row = dict[str, float]
RATE, LPIPS_IMAGES = 3, 16


class Measured:
    """One session on clips of a folder.

    Args:
        home: folder of the clips.
        options: of the fit.
        single_view: systems see the front video alone.
    """

    def __init__(self, home: Path, options: RefineOptions, single_view: bool) -> None:
        self.home, self.single_view = home, single_view
        self.session = Session(replace(PRESETS["nano"], refine=options))
        self.lpips = load_lpips()

    def reconstruction(self, name: str) -> dict[str, Row]:
        """Images at the frames of the video, by system."""
        trial = self._trial(name, Protocol("tracking", "reconstruct", 8, side_views=self._side_views))
        frames = self._feed_forward(trial, trial.front)
        start = process_time()
        refined = trial._tracks(trial.front, frames).gaussians
        seconds = process_time() - start
        forward = stack(frame.gaussians for frame in frames)
        systems = {"feed-forward": forward, "frozen": forward.map(lambda x: x[:1].expand_as(x)), "refined": refined}
        rows = {system: self._row(one, trial.ground_truth, trial.front) for system, one in systems.items()}
        rows["refined"]["processor seconds"] = seconds
        return rows

    def inserted(self, name: str) -> dict[str, Row]:
        """PSNR of frames between the input's, by system."""
        protocol = Protocol("tracking", "interpolate", 7, frame_rate=24, rate=RATE, side_views=self._side_views)
        trial = self._trial(name, protocol)
        ends = self._feed_forward(trial, trial.front[::RATE])
        tracks = trial._tracks(trial.front[::RATE], ends)
        at_ends = [GaussianFrame(end.time, tracks.gaussians[k], end.orbit) for k, end in enumerate(ends)]
        images = {
            "feed-forward": trial._draw_frames(trial._inserted(ends)).images,
            "blended neighbours": trial._blended(ends).images,
            "refined": self._draw(trial._moved(tracks), trial.ground_truth),
            "blended refined neighbours": trial._blended(at_ends).images,
        }
        at = torch.tensor(protocol.compared())
        return {
            system: {"inserted": float(psnr(x[at], trial.ground_truth.images[at]).mean())}
            for system, x in images.items()
        }

    @property
    def _side_views(self) -> str:
        return "none" if self.single_view else "first"

    def _trial(self, name: str, protocol: Protocol) -> Trial:
        options = self.session.options
        source = ClipSource(protocol, self.home, options.camera, 128, options.model.input_size)
        return Trial(self.session, source.load(name), protocol)

    def _feed_forward(self, trial: Trial, front: Tensor) -> list[GaussianFrame]:
        session, policy = self.session, self.session.options.side_views.chunk_side_views
        return list(reconstruct(front, trial.sides, trial.length, session.network, session.orbit, policy))

    def _draw(self, gaussians: Gaussians, truth: GroundTruth) -> Tensor:
        return render_in_parts(self.session.orbit.renderer, gaussians, truth.cameras)[0]

    @torch.no_grad()
    def _row(self, gaussians: Gaussians, truth: GroundTruth, front: Tensor) -> Row:
        images = self._draw(gaussians, truth)
        cameras = orbit_cameras(torch.zeros(1), size=tuple(front.shape[-2:])).expand(len(front), 1)
        own = render_in_parts(self.session.orbit.renderer, gaussians, cameras)[0][:, 0]
        novel = psnr(images, truth.images)
        pairs = [x.flatten(0, 1) for x in (images, truth.images)]
        chosen = torch.linspace(0, len(pairs[0]) - 1, LPIPS_IMAGES).long()
        lpips = [self.lpips(*(x[k : k + 1] for x in pairs)) for k in chosen.tolist()]
        changes = [255 * x.diff(dim=0).abs().mean() for x in (images, truth.images)]
        return {
            "front": float(psnr(own, front).mean()),
            "novel, frame 0": float(novel[0].mean()),
            "novel, all frames": float(novel.mean()),
            "novel, last frame": float(novel[-1].mean()),
            "LPIPS": float(torch.stack([x.mean() for x in lpips]).mean()),
            "flicker beyond the truth's": float(changes[0] - changes[1]),
        }


def means(rows: list[Row]) -> Row:
    """The mean of every number."""
    return {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}


def show(title: str, results: dict[str, dict[str, Row]]) -> dict[str, Row]:
    """Print and return the mean over objects for each system."""
    first = next(iter(results.values()))
    found = {system: means([rows[system] for rows in results.values()]) for system in first}
    print(f"\n{title}, {len(results)} objects")
    for system, row in found.items():
        print(f"{system:28}" + "  ".join(f"{key} {value:.3f}" for key, value in row.items()), flush=True)
    return found


def main() -> None:
    """Measure, print, and write the JSON file after each object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data_home", required=True, type=Path, help="folder of the validation clips, see docs/data.md"
    )
    parser.add_argument("--objects", type=int, default=0, help="the first ones only; 0: all")
    parser.add_argument("--deformation", choices=("nodes", "hexplane"), default="nodes")
    parser.add_argument("--single_view", action="store_true", help="the front video alone")
    parser.add_argument("--no_inserted", action="store_true", help="without inserted frames")
    parser.add_argument("--output", type=Path, help="JSON file")
    args = parser.parse_args()
    options = replace(RefineOptions(), refine=True, deformation=args.deformation)
    measured = Measured(args.data_home, options, args.single_view)
    tables: dict[str, dict[str, dict[str, Row]]] = {"video": {}, "inserted": {}}
    measures = {"video": measured.reconstruction, "inserted": measured.inserted}
    groups = {"video": _names("8fps"), "inserted": [] if args.no_inserted else _names("24fps")}
    for number in range(args.objects or len(groups["video"])):
        for table, names in groups.items():
            for name in names[number : number + 1]:
                tables[table][name] = measures[table](name)
        found = {title: show(title, rows) for title, rows in tables.items() if rows}
        if args.output:
            content = {"machine": machine(torch.device("cpu")), "options": vars(options), "means": found}
            with atomic_path(args.output) as path:
                path.write_text(json.dumps({**content, "objects": tables}, indent=1) + "\n")


def _names(rate: str) -> list[str]:
    return [group[0] for group in read_groups(f"data_train/datalist_val_{rate}.txt")]


if __name__ == "__main__":
    main()
