"""One page about a run, from its log and its pictures: ``python -m core.training.report WORKSPACE [OTHER ...]``.

The page is ``WORKSPACE/report.html``: how it started and went on, validations, a curve for every number in the log,
skipped steps, the newest pictures, all options. Further workspaces are drawn into the same curves.
"""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Annotated

import tyro

from core.cli import run
from core.errors import UserError
from core.files import atomic_path
from core.training.curves import Points, chart
from core.training.log import UNITS, read_log

logger = logging.getLogger(__name__)

_PICTURES = 3  # of each kind, the newest
_STYLE = (
    "body{font-family:sans-serif;max-width:1320px;margin:2em auto;color:#222}table{border-collapse:collapse}"
    "td,th{border:1px solid #ccc;padding:.2em .6em;text-align:right}td:first-child{text-align:left}"
    "svg{margin:.5em}img,video{max-width:100%}"
)


@dataclass(frozen=True)
class ReportOptions:
    """What to report, and where."""

    workspaces: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """The run, and others to draw into the same curves."""
    chart: str = ""
    """Write one chart only, of this name in the training log (total, psnr, ...), as SVG."""
    out: Path | None = None
    """The file; report.html in the first workspace by default."""


def main() -> None:
    """Parse, read, write."""
    options = tyro.cli(ReportOptions, description=__doc__)
    if not options.workspaces:
        raise UserError("give the workspace of a run: python -m core.training.report WORKSPACE")
    logs = {workspace.name: read_log(workspace) for workspace in options.workspaces}
    if options.chart:
        text = curve(logs, "train", options.chart)
        default = f"{options.chart}.svg"
    else:
        text, default = page(options.workspaces[0], logs), "report.html"
    out = options.out or options.workspaces[0] / default
    with atomic_path(out) as path:
        path.write_text(text)
    logger.info("written: %s", out)


def page(workspace: Path, logs: dict[str, list[dict]]) -> str:
    """The whole report of the run in ``workspace``; ``logs`` holds its records first, then those of other runs."""
    records = next(iter(logs.values()))
    kinds = {kind: [r for r in records if r["kind"] == kind] for kind in ("start", "train", "validation", "skipped")}
    steps = max((record["step"] for record in kinds["train"]), default=0)
    total = kinds["start"][-1]["total_steps"] if kinds["start"] else "?"
    parts = [
        f"<h1>{escape(workspace.resolve().name)}</h1><p>{steps} of {total} steps.</p>",
        "<h2>Starts</h2>"
        + _table(kinds["start"], ("time", "step", "decision", "processes", "step_samples", "changed")),
        "<h2>Validations</h2>" + _table(kinds["validation"], _names(kinds["validation"])),
        *(curve(logs, "validation", name) for name in _names(kinds["validation"]) if name != "step"),
        "<h2>Training</h2>",
        *(curve(logs, "train", name) for name in _names(kinds["train"]) if name != "step"),
        f"<h2>Skipped steps: {len(kinds['skipped'])}</h2>" + _table(kinds["skipped"], ("step", "clips")),
        "<h2>Pictures</h2>",
        *_pictures(workspace),
        "<h2>Options</h2>" + _options(workspace),
    ]
    title = escape(workspace.resolve().name)
    head = f"<!doctype html>\n<meta charset='utf-8'><title>{title}</title><style>{_STYLE}</style>\n"
    return head + "\n".join(parts) + "\n"


def curve(logs: dict[str, list[dict]], kind: str, name: str) -> str:
    """One number of the records of a kind over steps, a line for each run.

    Raises:
        UserError: no run has that number.
    """
    series: dict[str, Points] = {
        run: [(r["step"], r[name]) for r in records if r["kind"] == kind and isinstance(r.get(name), int | float)]
        for run, records in logs.items()
    }
    if not any(series.values()):
        known = {key for records in logs.values() for r in records if r["kind"] == kind for key in r}
        raise UserError(f"no {kind} record has a number {name!r}; there are {', '.join(sorted(known))}")
    unit = UNITS.get(name) or UNITS.get(name.split("_")[0], "")
    return chart(f"{kind}: {name}", {run: points for run, points in series.items() if points}, unit)


def _names(records: list[dict]) -> tuple[str, ...]:
    """Numbers that some record has, in order of appearance."""
    numbers = {name: None for record in records for name, value in record.items() if isinstance(value, int | float)}
    return tuple(numbers)


def _table(records: list[dict], names: tuple[str, ...]) -> str:
    def cell(value: object) -> str:
        if isinstance(value, dict | list):
            value = json.dumps(value) if value else ""
        return escape(f"{value:.5g}" if isinstance(value, float) else str("" if value is None else value))

    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = ("".join(f"<td>{cell(record.get(name))}</td>" for name in names) for record in records)
    return f"<table><tr>{head}</tr>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>" if records else ""


def _pictures(workspace: Path) -> list[str]:
    parts = []
    for kind in ("eval", "train"):
        sheets = sorted(workspace.glob(f"{kind}_sheet_*.png"), key=_step)[-_PICTURES:]
        parts += [f"<h3>{escape(sheet.stem)}</h3><img src='{escape(sheet.name)}' alt=''>" for sheet in reversed(sheets)]
        for video in sorted(workspace.glob(f"{kind}_*_images_*.mp4"), key=_step)[-2:]:
            parts.append(f"<h3>{escape(video.stem)}</h3><video controls loop src='{escape(video.name)}'></video>")
    return parts


def _step(path: Path) -> int:
    """The step at the end of a preview's name."""
    found = re.search(r"_(\d+)$", path.stem)
    return int(found[1]) if found else -1


def _options(workspace: Path) -> str:
    path = workspace / "options.json"
    return f"<pre>{escape(path.read_text())}</pre>" if path.is_file() else "<p>options.json is missing.</p>"


if __name__ == "__main__":
    run(main)
