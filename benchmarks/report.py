"""Results as tables on the screen, as JSON, and in the page of the documentation."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.measure import Row
from core.files import atomic_path

_BEGIN, _END = "<!-- tables of {name}: begin -->", "<!-- tables of {name}: end -->"


def table(rows: list[Row]) -> str:
    """Rows of equal keys as a Markdown table with aligned columns."""
    cells = [list(rows[0]), *([_text(value) for value in row.values()] for row in rows)]
    widths = [max(len(row[k]) for row in cells) for k in range(len(cells[0]))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in cells]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def write_json(path: Path, results: dict[str, object]) -> None:
    """Write results to ``path``, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(results, indent=1) + "\n")


def write_into(page: Path, path: Path) -> None:
    """Replace the tables in ``page``, between two comments that name the JSON file, by those of the file ``path``."""
    results = json.loads(path.read_text())
    facts = results["machine"]
    about = (
        f"{facts['date'][:10]}, {facts.get('gpu', facts['cpu'])}, {facts['threads']} threads of {facts['cores']} cores"
    )
    parts = [f"`{path.name}`: {about}, load before {facts['load before'][0]}, torch {facts['versions']['torch']}."]
    parts += [f"**{title}**\n\n{table(rows)}" for title, rows in results["tables"].items()]
    begin, end = (mark.format(name=path.stem) for mark in (_BEGIN, _END))
    text = page.read_text()
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise SystemExit(f"{page} has no place for the tables: put the lines {begin} and {end} into it")
    with atomic_path(page) as temporary:
        temporary.write_text(f"{before}{begin}\n\n" + "\n\n".join(parts) + f"\n\n{end}{after}")
