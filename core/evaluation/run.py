"""An evaluation from options to files: every protocol, every object, every system."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path
from time import perf_counter

from tqdm import tqdm

from core.data.lists import data_home
from core.errors import UserError
from core.evaluation.metrics import Judge
from core.evaluation.protocol import Protocol, read_protocol
from core.evaluation.scores import Scores
from core.evaluation.systems import Checkpoint, checkpoints, describe_all
from core.evaluation.tables import summary_table
from core.evaluation.tasks import predict
from core.evaluation.truth import ClipTruths, motion
from core.files import atomic_path
from core.inference.network import default_device
from core.options import Options

_log = logging.getLogger(__name__)


def evaluate(options: Options) -> None:
    """Evaluate all protocols of the command line; prints a table each and writes ``<workspace>/<name>.json``.

    Raises:
        UserError: a protocol, checkpoint, clip or option cannot be used.
    """
    if not options.eval.protocols:
        raise UserError("--protocols is missing: give protocol files such as data_test/protocols/novel_views.toml")
    protocols = [read_protocol(path) for path in options.eval.protocols]
    systems = checkpoints(options)
    for protocol in protocols:
        start = perf_counter()
        scores = evaluate_protocol(protocol, systems, options)
        seconds = round(perf_counter() - start, 1)
        content = {"protocol": asdict(protocol), "checkpoints": describe_all(systems), "seconds": seconds}
        path = Path(options.train.workspace) / f"{protocol.name}.json"
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(content | scores.as_json(), indent=1))
        summary = scores.summary()
        print(f"\n{protocol.name}\n\n{summary_table(summary, 'all')}\n")
        if 0 < summary["moving"]["objects"] < summary["all"]["objects"]:
            print(summary_table(summary, "moving") + "\n")
        _log.info("%s: %.0f s; wrote %s", protocol.name, seconds, path)


def evaluate_protocol(protocol: Protocol, systems: list[Checkpoint], options: Options) -> Scores:
    """Every system on every object of one protocol."""
    truths = _truths(protocol, systems, options)
    names = truths.names()[: options.eval.max_objects or None]
    scores = Scores(protocol.moving_below)
    for name in tqdm(names, protocol.name, unit="object", disable=None):
        truth = truths.load(name)
        scores.motion[name] = motion(truth)
        judge = Judge(truth, protocol.compared(), options.eval.lpips_images, default_device())
        for system in systems:
            for variant, prediction in predict(system.session, truth, protocol, options.eval.baselines):
                label = f"{system.name}: {variant}" if variant else system.name
                scores.add(label, truth, judge(prediction))
    return scores


def _truths(protocol: Protocol, systems: list[Checkpoint], options: Options) -> ClipTruths:
    size = protocol.size or options.data.output_size
    input_size = max([system.options.model.input_size for system in systems] or [size])
    home = data_home(options.data.data_home_val or options.data.data_home)
    return ClipTruths(protocol, home, options.camera, size, input_size)
