"""What the tracked object is worth: the feed-forward result and the refined one beside it, on rendered clips.

python -m benchmarks.tracking --data_home CLIPS --output benchmarks/results/tracking.json

Input: the front video and true side views of frame 0, 8 frames. For inserted frames every third of 7 frames at 24 a
second is the input. Compared: the front, and random cameras that no input shows. One row an object, then means.

With --sources, a folder of NAME.npz from `blender_scripts/export_surface.py` (--frames 8), the track error: the mean
distance between where points of the true surface are after frame 0 and where the tracks carry them, as a share of the
object's longest side in frame 0; across the front image and in depth too. Beside it no motion, and of each frame the
rigid motion that fits the truth best. Upper bounds then: frame 0 moved by the truth.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from time import process_time

import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import machine
from blender_scripts.export_points import followed
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
from core.motion.samples import rigid_motion
from core.options import PRESETS
from core.options.refine import RefineOptions
from core.rendering.orbit import render_in_parts
from core.tracking.carried import carried
from core.tracking.deformation import blend_weights

Row = dict[str, float]
RATE, LPIPS_IMAGES, POINTS, CARRIERS = 3, 16, 4000, 4


class Measured:
    """One session on clips of a folder.

    Args:
        home: folder of the clips.
        options: of the fit.
        single_view: systems see the front video alone.
        sources: folder of true surfaces; None: tracks are not measured.
    """

    def __init__(self, home: Path, options: RefineOptions, single_view: bool, sources: Path | None = None) -> None:
        self.home, self.single_view, self.sources = home, single_view, sources
        self.session = Session(replace(PRESETS["nano"], refine=options))
        self.lpips = load_lpips()

    def reconstruction(self, name: str) -> dict[str, dict[str, Row]]:
        """Images at the frames of the video, by system, and with sources the tracks."""
        trial = self._trial(name, Protocol("tracking", "reconstruct", 8, side_views=self._side_views))
        frames = self._feed_forward(trial, trial.front)
        start = process_time()
        refined = trial._tracks(trial.front, frames).gaussians
        seconds = process_time() - start
        forward = stack(frame.gaussians for frame in frames)
        systems = {"feed-forward": forward, "frozen": forward.map(lambda x: x[:1].expand_as(x)), "refined": refined}
        rows = {system: self._row(one, trial.ground_truth, trial.front) for system, one in systems.items()}
        rows["refined"]["processor seconds"] = seconds
        if self.sources is None:
            return {"video": rows}
        with np.load(self.sources / f"{Path(name).stem}.npz") as source:
            paths = torch.from_numpy(followed(source["triangles"], POINTS)).float()
        for system, moved in bounds(refined, paths).items():
            error = psnr(self._draw(moved, trial.ground_truth), trial.ground_truth.images)
            rows[system] = {"novel, all frames": float(error.mean()), "novel, last frame": float(error[-1].mean())}
        return {"video": rows, "tracks": track_error(refined, paths)}

    def inserted(self, name: str) -> dict[str, dict[str, Row]]:
        """PSNR of frames between the input's and of those, by system."""
        protocol = Protocol("tracking", "interpolate", 7, frame_rate=24, rate=RATE, side_views=self._side_views)
        trial = self._trial(name, protocol)
        ends = self._feed_forward(trial, trial.front[::RATE])
        tracks = trial._tracks(trial.front[::RATE], ends)
        at_ends = [GaussianFrame(end.time, tracks.gaussians[k], end.orbit) for k, end in enumerate(ends)]
        at, known = torch.tensor(protocol.compared()), torch.arange(0, 7, RATE)
        rows: dict[str, Row] = {}
        for view, seen in (("novel", trial), ("front", self._from_the_front(trial))):
            truth = seen.ground_truth.images
            images = {
                "feed-forward": seen._draw_frames(seen._inserted(ends)).images,
                "blended neighbours": seen._blended(ends).images,
                "refined": self._draw(seen._moved(tracks), seen.ground_truth),
                "blended refined neighbours": seen._blended(at_ends).images,
            }
            for system, x in images.items():
                found = {"inserted": psnr(x[at], truth[at]), "the input's frames": psnr(x[known], truth[known])}
                row = {f"{view}, {name}": float(value.mean()) for name, value in found.items()}
                rows[system] = rows.get(system, {}) | row
        return {"inserted": rows}

    def _from_the_front(self, trial: Trial) -> Trial:
        """The same, compared with the video itself."""
        cameras = orbit_cameras(torch.zeros(1), size=tuple(trial.front.shape[-2:])).expand(len(trial.front), 1)
        truth = replace(trial.ground_truth, cameras=cameras, images=trial.front[:, None])
        return replace(trial, ground_truth=truth)

    @property
    def _side_views(self) -> str:
        return "none" if self.single_view else "first"

    def _trial(self, name: str, protocol: Protocol) -> Trial:
        options = self.session.options
        source = ClipSource(protocol, self.home, options.camera, 128, options.model.input_size)
        return Trial(self.session, source.load(name), protocol)

    def _feed_forward(self, trial: Trial, front: Tensor) -> list[GaussianFrame]:
        session, policy = self.session, self.session.options.side_views.chunk_side_views
        parts = (trial.sides, trial.length, session.network, session.orbit, policy)
        return list(reconstruct(front, *parts, predictor=session.predictor))

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


def bounds(gaussians: Gaussians, paths: Tensor) -> dict[str, Gaussians]:
    """Oracle upper bounds: frame 0 of a tracked set ``[T]``, its centres moved as the nearest points of the true
    surface ``[T, P, 3]`` do; in all directions, and across the image alone."""
    near, weights = blend_weights(gaussians.means[0], paths[0], CARRIERS)
    motion = torch.einsum("nk,tnki->tni", weights, (paths - paths[:1])[:, near])
    across = motion * motion.new_tensor([1.0, 1.0, 0.0])
    shifts = {"true motion": motion, "true motion across the image": across}
    return {name: replace(gaussians, means=gaussians.means[:1] + shift) for name, shift in shifts.items()}


def track_error(gaussians: Gaussians, paths: Tensor) -> dict[str, Row]:
    """Errors by system.

    Args:
        gaussians: tracked, leading axes ``[T]``.
        paths: points of the true surface ``[T, P, 3]``.
    """
    size = float((paths[0].amax(0) - paths[0].amin(0)).max())
    systems = {
        "refined": carried(paths[0], gaussians),
        "rigid": torch.stack([rigidly_moved(paths[0], places) for places in paths]),
        "frozen": paths[:1].expand_as(paths),
    }
    rows = {system: _distances((places - paths)[1:] / size) for system, places in systems.items()}
    return {system: {**row, "in world units": size * row["track error"]} for system, row in rows.items()}


def rigidly_moved(points: Tensor, target: Tensor) -> Tensor:
    """Points ``[P, 3]`` after the rotation and shift that bring them nearest to ``[P, 3]`` (Kabsch 1976)."""
    centre = points.mean(0, keepdim=True)
    return rigid_motion(points[None], target[None], centre).applied_to(points[None], centre)[0]


def _distances(errors: Tensor) -> Row:
    """Of vectors ``[..., 3]``, z towards the front camera."""
    parts = {"track error": errors, "across the image": errors[..., :2], "in depth": errors[..., 2:]}
    return {name: float(part.norm(dim=-1).mean()) for name, part in parts.items()}


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
    parser.add_argument("--sources", type=Path, help="folder of true surfaces")
    parser.add_argument("--output", type=Path, help="JSON file")
    args = parser.parse_args()
    options = replace(RefineOptions(), refine=True, deformation=args.deformation)
    measured = Measured(args.data_home, options, args.single_view, args.sources)
    tables: dict[str, dict[str, dict[str, Row]]] = {"video": {}, "tracks": {}, "inserted": {}}
    measures = [(measured.reconstruction, names("8fps")), (measured.inserted, names("24fps"))]
    for number in range(args.objects or len(measures[0][1])):
        for measure, clips in measures[: 1 if args.no_inserted else 2]:
            for table, rows in measure(clips[number]).items():
                tables[table][clips[number]] = rows
        found = {title: show(title, rows) for title, rows in tables.items() if rows}
        if args.output:
            content = {"machine": machine(torch.device("cpu")), "options": vars(options), "means": found}
            with atomic_path(args.output) as path:
                path.write_text(json.dumps({**content, "objects": tables}, indent=1) + "\n")


def names(rate: str) -> list[str]:
    """One clip of each object of the list of a frame rate."""
    return [group[0] for group in read_groups(f"data_train/datalist_val_{rate}.txt")]


if __name__ == "__main__":
    main()
