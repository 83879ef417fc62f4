"""One page about a run, from its log and its pictures: ``python -m core.training.report WORKSPACE``.

The page is ``WORKSPACE/report.html``: starts, validations, training log, skipped steps, the newest pictures, options.
Curves, of one run or of several, are the tracker's: ``tensorboard --logdir WORKSPACE``.
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

from core.cli import parser_errors_in_one_line, run
from core.errors import UserError
from core.files import atomic_path
from core.training.log import UNITS, read_log

logger = logging.getLogger(__name__)

_PICTURES = 3  # of each kind, the newest
_LINES = 20  # of the training log, evenly spread
_STYLE = (
    "body{font-family:sans-serif;max-width:1320px;margin:2em auto;color:#222}table{border-collapse:collapse}"
    "td,th{border:1px solid #ccc;padding:.2em .6em;text-align:right}td:first-child{text-align:left}"
    "img,video{max-width:100%}"
)


@dataclass(frozen=True)
class ReportOptions:
    """What to report, and where."""

    workspace: Annotated[Path | None, tyro.conf.Positional] = None
    """Folder of the run."""
    out: Path | None = None
    """The file; report.html in the workspace by default."""


def main() -> None:
    """Parse, read, write."""
    with parser_errors_in_one_line():
        options = tyro.cli(ReportOptions, description=__doc__)
    if options.workspace is None:
        raise UserError("WORKSPACE is missing: python -m core.training.report WORKSPACE, the folder of a training run")
    text = page(options.workspace, read_log(options.workspace))
    out = options.out or options.workspace / "report.html"
    with atomic_path(out) as path:
        path.write_text(text)
    logger.info("wrote %s", out)


def page(workspace: Path, records: list[dict]) -> str:
    """The report of the run in ``workspace`` as HTML; ``records`` are those of its log."""
    kinds = {kind: [r for r in records if r["kind"] == kind] for kind in ("start", "train", "validation", "skipped")}
    step = max((record["step"] for record in kinds["train"]), default=0)
    total = kinds["start"][-1]["total_steps"] if kinds["start"] else "?"
    title = escape(workspace.resolve().name)
    starts = ("time", "step", "decision", "processes", "step_samples", "changed")
    sections = {
        "Starts": _table(kinds["start"], starts),
        "Validations": _table(kinds["validation"], _numbers(kinds["validation"])),
        "Training": _table(_spread(kinds["train"]), _numbers(kinds["train"])),
        f"Skipped steps: {len(kinds['skipped'])}": _table(kinds["skipped"], ("step", "clips")),
        "Pictures": "\n".join(_pictures(workspace)),
        "Options": _options(workspace),
    }
    head = f"<!doctype html>\n<meta charset='utf-8'><title>{title}</title><style>{_STYLE}</style>\n"
    body = "\n".join(f"<h2>{name}</h2>\n{content}" for name, content in sections.items())
    return f"{head}<h1>{title}</h1><p>{step} of {total} steps.</p>\n{body}\n"


def _numbers(records: list[dict]) -> tuple[str, ...]:
    """Names of the numbers that some record has, in order of appearance."""
    return tuple(dict.fromkeys(name for r in records for name, value in r.items() if isinstance(value, int | float)))


def _spread(records: list[dict]) -> list[dict]:
    """At most `_LINES` of the records: every n-th one back from the last."""
    return records[:: -max(1, -(-len(records) // _LINES))][::-1]


def _table(records: list[dict], names: tuple[str, ...]) -> str:
    """Records down, names across; empty without records."""

    def cell(value: object) -> str:
        if isinstance(value, dict | list):
            value = json.dumps(value) if value else ""
        return escape(f"{value:.5g}" if isinstance(value, float) else str("" if value is None else value))

    units = {name: UNITS.get(name) or UNITS.get(name.split("_")[0], "") for name in names}
    head = "".join(f"<th title='{escape(units[name])}'>{escape(name)}</th>" for name in names)
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
