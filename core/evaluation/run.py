"""An evaluation from options to files: every protocol, every object, every system."""

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
from core.errors import UserError
from core.evaluation.clip import ClipImages
from core.evaluation.floors import floors
from core.evaluation.flow import has_flow
from core.evaluation.folders import FolderTruths, read_prediction, save_prediction
from core.evaluation.frechet import FrechetScores, VideoNetwork
from core.evaluation.judge import Judge
from core.evaluation.metrics import Prediction
from core.evaluation.page import publish
from core.evaluation.protocol import Protocol, read_protocol
from core.evaluation.scores import Scores
from core.evaluation.sheets import Sheet
from core.evaluation.systems import Checkpoint, check_names, checkpoints, split_name
from core.evaluation.tables import summary_table
from core.evaluation.tasks import predict
from core.evaluation.truth import ClipTruths, Truth, file_name, motion
from core.files import atomic_path
from core.inference.network import choose_device
from core.options import Options
from core.rendering import Renderer, make_renderer

_log = logging.getLogger(__name__)


def evaluate(options: Options) -> None:
    """Evaluate all protocols of the command line: prints tables, writes ``<workspace>/<protocol>.json`` and sheets.

    Raises:
        UserError: a protocol, checkpoint, clip or option cannot be used.
    """
    if not options.eval.protocols and not options.eval.page:
        raise UserError("--protocols is missing: give protocol files such as data_test/protocols/novel_views.toml")
    protocols = [read_protocol(path) for path in options.eval.protocols]
    evaluation = Evaluation(options)
    for system in evaluation.systems if protocols else ():
        _ = system.session.network  # what cannot be loaded stops the command before hours of work
    for protocol in protocols:
        start = perf_counter()
        scores = evaluation.run(protocol)
        seconds = round(perf_counter() - start, 1)
        path = evaluation.workspace / f"{protocol.name}.json"
        content = {"protocol": _describe(protocol), "seconds": seconds}
        content |= {"checkpoints": [{"name": s.name, **s.session.describe()} for s in evaluation.systems]}
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(content | scores.as_json(), indent=1))
        print(f"\n{protocol.name}\n\n{summary_table(scores.summary(), 'all')}\n")
        if 0 < len(scores.moving) < len(scores.motion):
            print(summary_table(scores.summary(), "moving") + "\n")
        _log.info("%s: %.0f s; wrote %s", protocol.name, seconds, path)
    if options.eval.page:
        publish(Path(options.eval.page), evaluation.workspace, [protocol.name for protocol in protocols])


@dataclass(frozen=True)
class Evaluation:
    """The parts that all protocols share: systems, renderer, what measures."""

    options: Options

    def __post_init__(self) -> None:
        names = [system.name for system in self.systems]
        check_names([*names, *(name for name, _ in self.others), "truth", "hull", "mean"])

    @cached_property
    def workspace(self) -> Path:
        """Where results go."""
        return Path(self.options.run.workspace)

    @cached_property
    def systems(self) -> list[Checkpoint]:
        """The checkpoints that are compared."""
        return checkpoints(self.options)

    @cached_property
    def others(self) -> list[tuple[str, Path]]:
        """Names and folders of predictions made elsewhere."""
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
        """For what needs no network."""
        camera = self.options.camera
        return make_renderer(camera.renderer, near=camera.znear, far=camera.zfar, device=self.device)

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
        options = self.options.eval
        truths = self._truths(protocol)
        scores = Scores(protocol.moving_below)
        frechet = FrechetScores(self.videos) if self.videos else None
        for name in tqdm(truths.names()[: options.max_objects or None], protocol.name, unit="object", disable=None):
            truth = truths.load(name)
            scores.motion[name] = motion(truth)
            judge = Judge(truth, protocol, options.lpips_images, self.device, self.clip, self.with_flow)
            sheet = Sheet(truth, protocol.compared())
            if frechet:
                frechet.add_truth(truth.images)
            for label, prediction in self._predictions(truth, protocol):
                scores.add(label, truth, judge(prediction))
                sheet.add(label, prediction)
                if frechet:
                    frechet.add(label, prediction.images)
                if options.save_predictions:
                    home = self.workspace / protocol.name / "predictions" / file_name(label.replace(": ", "-"))
                    save_prediction(prediction, truth, home, protocol.background)
            if judge.of_truth():
                scores.add("truth", truth, judge.of_truth())
            if len(scores.motion) <= options.sheets:
                sheet.save(self.workspace / protocol.name / f"{file_name(name)}.png")
        if frechet:
            scores.sets = {label: frechet.of(label) for label in frechet.own}
        return scores

    def _predictions(self, truth: Truth, protocol: Protocol) -> Iterator[tuple[str, Prediction]]:
        options = self.options
        for system in self.systems:
            for variant, prediction in predict(system.session, truth, protocol, options.eval.baselines):
                yield f"{system.name}: {variant}" if variant else system.name, prediction
        for name, folder in self.others:
            yield name, read_prediction(folder, truth, protocol.background)
        yield from floors(truth, protocol, options.eval.baselines, options.camera, self.renderer, self.device)

    def _truths(self, protocol: Protocol) -> ClipTruths | FolderTruths:
        size = protocol.size or self.options.data.output_size
        input_size = max([system.options.model.input_size for system in self.systems] or [size])
        home = data_home(self.options.data.data_home_val or self.options.data.data_home)
        kind = ClipTruths if protocol.source == "clips" else FolderTruths
        return kind(protocol, home, self.options.camera, size, input_size)


def _describe(protocol: Protocol) -> dict[str, object]:
    """The protocol as it stands in the results: without the place of its list on this machine."""
    return {**asdict(protocol), "list": Path(protocol.list).name}
