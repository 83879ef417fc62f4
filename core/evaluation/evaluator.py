"""Runs an evaluation, from options to files: every protocol, every object, every system."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from time import perf_counter

import torch
from tqdm import tqdm

from core.data.lists import data_home
from core.devices import choose_device
from core.errors import UserError
from core.evaluation.baselines import baseline_predictions
from core.evaluation.folders import FolderSource, read_prediction, save_prediction
from core.evaluation.ground_truth import ClipSource, GroundTruth, Prediction, file_name
from core.evaluation.metrics import Metrics, has_flow
from core.evaluation.perceptual import ClipImages, FrechetScores, VideoNetwork
from core.evaluation.protocol import Protocol, read_protocol
from core.evaluation.report import GROUND_TRUTH, Scores, Sheet
from core.evaluation.systems import Checkpoint, Trial, check_names, checkpoints, split_name
from core.files import atomic_path, check_workspace
from core.options import Options
from core.rendering import Renderer, configured_renderer

_log = logging.getLogger(__name__)


def evaluate(options: Options) -> None:
    """Evaluate all protocols of the command line.

    Prints the tables of each protocol and writes ``<workspace>/<protocol>.json``, ``<protocol>.md`` and contact sheets.

    Raises:
        UserError: a protocol, checkpoint, clip or option cannot be used.
    """
    if not options.eval.protocols:
        raise UserError("--protocols is missing: give protocol files such as data_test/protocols/novel_views.toml")
    check_workspace(Path(options.run.workspace))
    protocols = [read_protocol(path) for path in options.eval.protocols]
    evaluation = Evaluation(options)
    for system in evaluation.systems:
        _ = system.session.network  # fail early: a checkpoint that cannot be loaded is reported before hours of work
    for protocol in protocols:
        start = perf_counter()
        scores = evaluation.run(protocol)
        evaluation.write(protocol, scores, perf_counter() - start)
        print(f"\n{protocol.name}\n\n{scores.tables()}\n")


@dataclass(frozen=True)
class Evaluation:
    """The parts that all protocols share: systems, renderer, networks of metrics."""

    options: Options

    def __post_init__(self) -> None:
        names = [system.name for system in self.systems]
        check_names([*names, *(name for name, _ in self.others), GROUND_TRUTH, "hull", "mean"])

    @cached_property
    def workspace(self) -> Path:
        """Where results go."""
        return Path(self.options.run.workspace)

    @cached_property
    def systems(self) -> list[Checkpoint]:
        """The checkpoints under test."""
        return checkpoints(self.options)

    @cached_property
    def others(self) -> list[tuple[str, Path]]:
        """Names and folders of external predictions."""
        found = []
        for text in self.options.eval.predictions:
            name, folder = split_name(text)
            if not Path(folder).is_dir():
                raise UserError(f"--predictions {folder} is no folder; it should hold OBJECT/VIEW/FRAME.png")
            found.append((name or Path(folder).name, Path(folder)))
        return found

    @cached_property
    def device(self) -> torch.device:
        """Where networks run and metrics are computed."""
        return choose_device(self.options.run.device)

    @cached_property
    def renderer(self) -> Renderer:
        """For the baselines without a network."""
        return configured_renderer(self.options.camera, self.device)

    @cached_property
    def clip(self) -> ClipImages | None:
        """For CLIP similarity, if weights are given."""
        folder = self.options.eval.clip_weights
        return ClipImages(folder, self.device) if folder else None

    @cached_property
    def videos(self) -> VideoNetwork | None:
        """For FVD, if a network is given."""
        path = self.options.eval.i3d
        return VideoNetwork(path, self.device) if path else None

    @cached_property
    def with_flow(self) -> bool:
        """Whether warped errors can be measured."""
        if not has_flow():
            _log.info("no warped error: it needs OpenCV, pip install -e '.[eval]'")
        return has_flow()

    def run(self, protocol: Protocol) -> Scores:
        """Every system on every object of one protocol."""
        source = self._source(protocol)
        scores = Scores(protocol.moving_below)
        frechet = FrechetScores(self.videos) if self.videos else None
        names = source.names()[: self.options.eval.max_objects or None]
        for name in tqdm(names, protocol.name, unit="object", disable=None):
            self._run_object(source.load(name), protocol, scores, frechet)
        if frechet:
            scores.over_objects = {label: frechet.of(label) for label in frechet.predicted}
        return scores

    def write(self, protocol: Protocol, scores: Scores, seconds: float) -> None:
        """Write the numbers as JSON and the tables as Markdown."""
        described = {**asdict(protocol), "list": Path(protocol.list).name}  # without its local folder
        content = {"protocol": described, "seconds": round(seconds, 1)}
        content |= {"checkpoints": [{"name": s.name, **s.session.describe()} for s in self.systems]}
        texts = {
            "json": json.dumps(content | scores.as_json(), indent=1),
            "md": f"# {protocol.name}\n\n{scores.tables()}\n\n{scores.object_table()}\n",
        }
        for suffix, text in texts.items():
            with atomic_path(self.workspace / f"{protocol.name}.{suffix}") as path:
                path.write_text(text)
        _log.info("%s: %.0f s; wrote %s", protocol.name, seconds, self.workspace / f"{protocol.name}.json")

    def _run_object(
        self, ground_truth: GroundTruth, protocol: Protocol, scores: Scores, frechet: FrechetScores | None
    ) -> None:
        options, folder = self.options.eval, self.workspace / protocol.name
        metrics = Metrics(ground_truth, protocol, options.lpips_images, self.device, self.clip, self.with_flow)
        sheet = Sheet(ground_truth, protocol.compared())
        scores.motion[ground_truth.name] = ground_truth.motion
        if frechet:
            frechet.add_ground_truth(ground_truth.images)
        for label, prediction in self._predictions(ground_truth, protocol):
            scores.add(label, ground_truth, metrics(prediction))
            sheet.add(label, prediction)
            if frechet:
                frechet.add(label, prediction.images)
            if options.save_predictions:
                home = folder / "predictions" / file_name(label.replace(": ", "-"))
                save_prediction(prediction, ground_truth, home, protocol.background)
        if own := metrics.of_ground_truth():
            scores.add(GROUND_TRUTH, ground_truth, own)
        if len(scores.motion) <= options.sheets:
            sheet.save(folder / f"{file_name(ground_truth.name)}.png")

    def _predictions(self, ground_truth: GroundTruth, protocol: Protocol) -> Iterator[tuple[str, Prediction]]:
        options = self.options
        chosen = options.eval.baselines
        for system in self.systems:
            for variant, prediction in Trial(system.session, ground_truth, protocol).predictions(chosen):
                yield f"{system.name}: {variant}" if variant else system.name, prediction
        for name, folder in self.others:
            yield name, read_prediction(folder, ground_truth, protocol.background)
        yield from baseline_predictions(ground_truth, protocol, chosen, options.camera, self.renderer, self.device)

    def _source(self, protocol: Protocol) -> ClipSource | FolderSource:
        size = protocol.size or self.options.data.output_size
        input_size = max([system.options.model.input_size for system in self.systems] or [size])
        home = data_home(self.options.data.data_home_val or self.options.data.data_home)
        kind = ClipSource if protocol.source == "clips" else FolderSource
        return kind(protocol, home, self.options.camera, size, input_size)
