"""The page: inputs, choices, progress, results."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from threading import Lock
from typing import Any

from einops import rearrange

from core.app.job import Job, Step, Stopped
from core.app.results import GENERATORS, MAX_PROMPT, checkpoints, collect, command, player_frame, preview
from core.app.runs import NAME, SUFFIXES, Runs
from core.errors import UserError
from core.places import find

try:
    import gradio as gr
except ImportError:  # `core.app.server` says so before anything here is called
    gr = None

EXAMPLES = ("data_test/trex.mp4", "data_test/mech.mp4", "data_test/truck_000.png")
_TITLE = "# L4GM: one video becomes an animated 3D object"
_HOUR = 3600
_log = logging.getLogger(__name__)


def examples() -> list[str]:
    """The example inputs that are there, which everybody may read."""
    return [str(find(name).absolute()) for name in EXAMPLES if find(name).is_file()]


class Page:
    """Runs jobs for the browser sessions, one each at a time.

    Args:
        runs: where inputs and results are.
        queue: how many may wait.
        at_once: how many run.
    """

    def __init__(self, runs: Runs, queue: int, at_once: int) -> None:
        self.runs, self.queue, self.at_once = runs, queue, at_once
        self._jobs: dict[Path, tuple[str, Job]] = {}  # folder -> browser session, job
        self._lock = Lock()

    def build(self) -> gr.Blocks:
        """The page with its events."""
        with gr.Blocks(title="L4GM", analytics_enabled=False, delete_cache=(_HOUR, self._cache_seconds())) as page:
            gr.Markdown(_TITLE)
            with gr.Row():
                with gr.Column(scale=1):
                    source, inputs = self._inputs()
                    start, stop = gr.Button("Reconstruct", variant="primary"), gr.Button("Stop")
                with gr.Column(scale=2):
                    outputs = self._outputs()
            running = start.click(self.start, inputs, outputs, concurrency_limit=self.at_once, show_progress="hidden")
            stop.click(self.stop, None, None, cancels=[running], queue=False)
            source.change(self.look, source, outputs[1], queue=False)
            page.unload(self.stop)
        return page.queue(max_size=self.queue, api_open=False)

    def _cache_seconds(self) -> int:
        return max(_HOUR, round(_HOUR * self.runs.limits.hours))

    def _inputs(self) -> tuple[gr.File, list[gr.components.Component]]:
        source = gr.File(label="Video or picture: one object on white, or with alpha", file_types=list(SUFFIXES))
        prompt = gr.Textbox(label="or a prompt (needs MVDream's weights)", max_length=MAX_PROMPT)
        names = checkpoints()
        checkpoint = gr.Dropdown(names, value=names[0], label="Checkpoint")
        generator = gr.Dropdown(list(GENERATORS), value="auto", label="Side views of the first frame")
        if there := examples():
            gr.Examples([[path] for path in there], source)
        return source, [source, prompt, checkpoint, generator]

    def _outputs(self) -> list[gr.components.Component]:
        status = gr.HTML(_bar(Step("ready", 0.0)), elem_id="status")
        frames = gr.Gallery(
            label="Input frames; while it runs, what the network sees",
            columns=3,
            height=260,
            object_fit="contain",
            format="png",
            buttons=["fullscreen"],
        )
        player = gr.HTML(elem_id="player")
        with gr.Row():
            videos = [gr.Video(label=label, autoplay=True, loop=True) for label in ("Turntable", "Four sides")]
        sheet = gr.Image(label="Input and result", format="png", buttons=["download", "fullscreen"])
        return [status, frames, player, *videos, sheet, gr.File(label="Everything (.zip)", elem_id="archive")]

    def look(self, upload: str | None) -> list[Any] | None:
        """The input's frames, as soon as it is there."""
        if upload is None:
            return None
        try:
            return [
                rearrange((255 * frame).round().byte(), "c h w -> h w c").numpy() for frame in preview(Path(upload))
            ]
        except UserError as error:
            raise gr.Error(str(error)) from error

    def start(
        self, upload: str | None, prompt: str, checkpoint: str, generator: str, request: gr.Request
    ) -> Iterator[list[Any]]:
        """Run one job and show how far it is, then its results. What can be mended is shown as an error."""
        yield _only_status(Step("starting", 0.0), clear=True)
        folder = self.runs.new()
        try:
            source = self.runs.take(Path(upload), folder) if upload else None
            job = Job(command(source, prompt or "", checkpoint, generator), folder)
            with self._lock:
                self._jobs[folder] = (str(request.session_hash), job)
            cut_out = folder / "results" / f"{NAME}_input.png"  # what the network sees
            for step in job.steps():
                status = _only_status(step)
                if cut_out.is_file():
                    status[1] = [_served(cut_out)]
                yield status
            yield _results(folder)
        except Stopped:
            yield _only_status(Step("stopped", 0.0))
        except UserError as error:
            _log.info("%s: %s", folder.name, error)
            yield _only_status(Step(f"error: {error}", 0.0))
        finally:
            self._end(lambda place, _: place == folder)
            self.runs.finish(folder)

    def stop(self, request: gr.Request) -> None:
        """End the jobs of a browser session: its button, or the page was closed."""
        self._end(lambda _, session: session == str(request.session_hash))

    def stop_all(self) -> None:
        """End all jobs."""
        self._end(lambda *_: True)

    def _end(self, chosen: Callable[[Path, str], bool]) -> None:
        """Stop the jobs that are chosen by folder and session."""
        with self._lock:
            found = [folder for folder, (session, _) in self._jobs.items() if chosen(folder, session)]
            jobs = [self._jobs.pop(folder)[1] for folder in found]
        for job in jobs:
            job.stop()


def _only_status(step: Step, clear: bool = False) -> list[Any]:
    rest = None if clear else gr.skip()
    return [_bar(step), gr.skip(), *[rest] * 5]


def _results(folder: Path) -> list[Any]:
    shown = collect(folder)
    player = player_frame(folder.name) if shown.player else ""
    paths = (shown.turntable, shown.fixed, shown.sheet, shown.archive)
    return [_bar(Step("done", 1.0)), gr.skip(), player, *(path and _served(path) for path in paths)]


def _served(path: Path) -> str:
    """A copy among the uploads, from where alone the server gives files to browsers; runs may be anywhere."""
    return gr.processing_utils.save_file_to_cache(path, os.environ["GRADIO_TEMP_DIR"])


def _bar(step: Step) -> str:
    percent = f"{step.share:.0%}" if 0 < step.share else ""
    return (
        f'<div style="padding:6px">{escape(step.stage)} {percent}</div>'
        f'<progress style="width:100%" max="1" value="{step.share:.3f}"></progress>'
    )
