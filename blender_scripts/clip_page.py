"""HTML page of a data home: counts, histograms and contact sheets. No Blender."""

from __future__ import annotations

import collections
import html
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from blender_scripts.clips import clip_kinds, clip_path
from blender_scripts.ledger import REPORT
from blender_scripts.scores import Score, read_front
from core.files import atomic_path

CELL, COLUMNS, ROWS = 96, 16, 6
STYLE = """body { font: 14px sans-serif; margin: 2em } svg { margin: 0.5em; fill: #357 }
text { font-size: 11px; fill: #000 } td { padding: 0 1em 0 0 }"""


def histogram(title: str, values: Sequence[float], bins: int = 40, width: int = 420, height: int = 130) -> str:
    """An SVG histogram; values above the 99th percentile are clipped to it."""
    numbers = np.asarray(values, float)
    if not len(numbers):
        return ""
    top = float(np.quantile(numbers, 0.99)) or 1.0
    counts, _ = np.histogram(np.clip(numbers, 0, top), bins, (0, top))
    step, scale = width / bins, (height - 30) / counts.max()
    bars = "".join(
        f'<rect x="{i * step:.1f}" y="{height - 15 - n * scale:.1f}" width="{step - 1:.1f}" height="{n * scale:.1f}"/>'
        for i, n in enumerate(counts)
    )
    label = f"{title}: median {np.median(numbers):.3g}, {len(numbers)} values"
    ends = f'<text x="0" y="{height}">0</text><text x="{width}" y="{height}" text-anchor="end">{top:.3g}</text>'
    title_text = f'<text x="0" y="11">{html.escape(label)}</text>'
    return f'<svg width="{width}" height="{height}" role="img">{title_text}{bars}{ends}</svg>'


def contact_sheet(home: Path, scores: Sequence[Score], path: Path) -> int:
    """Write front views of clips, first and middle frame side by side; return the number of clips shown."""
    shown = list(scores)[: COLUMNS * ROWS // 2]
    if not shown:
        return 0
    sheet = Image.new("RGB", (COLUMNS * CELL, -(-2 * len(shown) // COLUMNS) * CELL), "white")
    for number, score in enumerate(shown):
        images, _ = next(iter(read_front(clip_path(home, clip_kinds(score.fps)["fixed"], score.line)).values()))
        for half, frame in enumerate((0, len(images) // 2)):
            row, column = divmod(2 * number + half, COLUMNS)
            sheet.paste(Image.fromarray(images[frame]).resize((CELL, CELL)), (column * CELL, row * CELL))
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="JPEG", quality=85)
    return len(shown)


def write_page(
    folder: Path, home: Path, scores: list[Score], lists: dict[str, list[str]], dropped: dict[str, list[Score]]
) -> Path:
    """Write ``index.html`` and its contact sheets into a folder; return the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = {line for lines in lists.values() for line in lines}
    good = [score for score in scores if not score.error]
    moving = sorted((s for s in good if s.frames > 1 and s.line in listed), key=lambda s: s.flow)
    sample = [moving[i] for i in np.linspace(0, len(moving) - 1, min(48, len(moving))).astype(int)] if moving else []
    groups = {
        "Listed, from little to much motion": sample,
        "Listed, static": [s for s in good if s.frames == 1 and s.line in listed],
    }
    groups |= {f"Dropped: {reason}": [s for s in clips if not s.error] for reason, clips in dropped.items()}
    parts = ["<h2>Lists</h2>", _table({name: len(lines) for name, lines in lists.items()})]
    parts += ["<h2>Dropped</h2>", _table({reason: len(clips) for reason, clips in dropped.items()})]
    parts.append("<h2>Measured</h2>")
    parts.append(histogram("flow, image widths a second", [s.flow for s in good if s.frames > 1]))
    for title, name in (("coverage", "coverage"), ("contrast to white", "contrast"), ("cut by the border", "border")):
        parts.append(histogram(title, [getattr(score, name) for score in good]))
    parts += _render_report(home)
    for number, (title, chosen) in enumerate(groups.items()):
        if count := contact_sheet(home, chosen, folder / f"sheet_{number}.jpg"):
            parts.append(f'<h2>{html.escape(title)} ({count} of {len(chosen)})</h2><img src="sheet_{number}.jpg">')
    page = folder / "index.html"
    head = f"<!doctype html><title>Clips</title><style>{STYLE}</style><h1>{len(scores)} clips</h1>"
    with atomic_path(page) as temporary:
        temporary.write_text("\n".join([head, *parts]))
    return page


def _render_report(home: Path) -> list[str]:
    """Summary of the renderer's report: rows by status and reason, seconds an image."""
    path = home / REPORT
    if not path.exists():
        return []
    rows = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    counts = collections.Counter(
        row["status"] + (f": {row['reason'][-100:]}" if "reason" in row else "") for row in rows
    )
    seconds = [row["seconds"] / row["images"] for row in rows if row.get("images")]
    return ["<h2>Rendering</h2>", _table(dict(counts.most_common(40))), histogram("seconds an image", seconds)]


def _table(rows: dict[str, int]) -> str:
    cells = "".join(f"<tr><td>{html.escape(name)}</td><td>{count}</td></tr>" for name, count in rows.items())
    return f"<table>{cells}</table>"
