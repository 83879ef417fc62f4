"""A video of 60 frames, end to end, to .ply files and mp4, compared with the reference loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock

import torch

from benchmarks.measure import Row, compared, in_rounds, peak_memory
from benchmarks.network import SMALL
from benchmarks.reference import PlainSession, published_loop
from core.architectures import build_model
from core.checkpoint import save_weights
from core.inference.inputs import open_sources
from core.inference.outputs import sequence_outputs
from core.inference.programs import reconstruct_video
from core.inference.session import Session
from core.media import read_video, write_video
from core.options import PRESETS, Options

VIDEO = Path(__file__).parents[1] / "data_test" / "mech.mp4"


def write_clip(path: Path, frames: int) -> None:
    """The sample video played forwards and backwards until it has ``frames`` frames, at 15 a second."""
    source = read_video(VIDEO)
    images = list(source.frames())
    there_and_back = images + images[-2:0:-1]
    with write_video(path, Fraction(15), source.size) as video:
        for index in range(frames):
            video.write(there_and_back[index % len(there_and_back)])


class Stopwatch:
    """Seconds in which at least one wrapped call was running, in any thread."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._running, self._since = 0, 0.0
        self._lock = Lock()

    def around(self, function: Callable) -> Callable:
        """The same function, timed."""

        def run(*args: object, **kwargs: object) -> object:
            self._count(1)
            try:
                return function(*args, **kwargs)
            finally:
                self._count(-1)

        return run

    def _count(self, change: int) -> None:
        with self._lock:
            now = time.perf_counter()
            if self._running:
                self.seconds += now - self._since
            self._running, self._since = self._running + change, now


def run(session: Session) -> None:
    """infer_4d on the session's video."""
    options = session.options
    names = (options.infer.test_path, options.run.workspace, options.input)
    for source in open_sources(*names, sequence_outputs):
        reconstruct_video(session, source)


def options_of(preset: str, folder: Path, frames: int, tiny: bool) -> Options:
    """The preset on a clip in ``folder``; its single-view model is itself. Random weights where none are shipped."""
    options = PRESETS[preset]
    write_clip(folder / "clip.mp4", frames)
    run = replace(options.run, workspace=str(folder / "results"))
    size = 32 if tiny else options.data.output_size  # of pictures as well: rows stay comparable with earlier ones
    infer = replace(options.infer, test_path=str(folder / "clip.mp4"), output_size=size)
    if tiny or preset != "nano":
        model = SMALL if tiny else options.model
        options = replace(options, model=model)
        for name in ("recon", "interp"):
            torch.manual_seed(0)
            save_weights(build_model(model), folder / f"{name}.safetensors", dtype=torch.float16)
        run = replace(run, resume=str(folder / "recon.safetensors"))
        infer = replace(infer, interpresume=str(folder / "interp.safetensors"))
    data = replace(options.data, num_frames=2 if tiny else 16, output_size=size)
    side_views = replace(options.side_views, view_generator="auto")  # ImageDream is no part of what is timed
    return replace(options, data=data, run=run, infer=infer, side_views=side_views)


def video(rounds: int, tiny: bool, device: torch.device, preset: str = "nano") -> dict[str, list[Row]]:
    """60 frames to 178: the loop with batches against one view and one pair at a time."""
    frames, bar = 4 if tiny else 60, 4.0 if device.type == "cpu" else 3.0
    with TemporaryDirectory() as folder:
        options = options_of(preset, Path(folder), frames, tiny)
        ours, plain = Session(options), PlainSession(options)
        watch = Stopwatch()
        for network in (ours.network, ours.interpolation):
            network.model.forward = watch.around(network.model.forward)
        renderer = ours.orbit.renderer
        ours.orbit.renderer = watch.around(renderer)
        ours.orbit.renderer.on_gpu = renderer.on_gpu
        run_ours: Callable[[], None] = lambda: run(ours)  # noqa: E731 - used three times
        peak = peak_memory(run_ours, device)  # warms up, too
        watch.seconds = 0.0
        seconds = in_rounds({"ours": run_ours}, 1, device, warm_up=False)
        share = watch.seconds / seconds["ours"]
        others = {"reference": plain}
        if options != (published := published_loop(options)):
            others["as published"] = Session(published)
        for session in others.values():
            _ = session.network, session.interpolation  # not timed
        calls = {name: lambda session=session: run(session) for name, session in others.items()}
        seconds |= in_rounds(calls, 1, device, warm_up=False)
        ours.options = options_of(preset, Path(folder, "short"), max(2, frames // 2), tiny)
        ours.workspace = Path(ours.options.run.workspace)
        half = peak_memory(run_ours, device)
    name = f"{preset}, {frames} frames to .ply and mp4"
    rows = [compared(name, seconds["ours"], seconds["reference"], bar)]
    if "as published" in seconds:
        name = "the same, published side views"
        rows += [compared(name, seconds["as published"], seconds["reference"], None)]
    share_name = "network and rasteriser" if device.type == "cpu" else "waiting for network and rasteriser"
    parts = {"row": rows[0]["row"], f"{share_name}, share": share, "bar": 0.6}
    parts |= {"peak GB": peak / 1e9, "peak GB, half the frames": half / 1e9}
    return {"video end to end": rows, "video end to end, where the time goes": [parts]}
