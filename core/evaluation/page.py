"""The tables of a results page, drawn from results files, so that no number in it is typed by hand.

In the Markdown page, ``<!-- KIND NAME ... -->`` and ``<!-- end -->`` enclose what is drawn:

    summary PROTOCOL [all | moving]     systems down, metrics across
    objects PROTOCOL METRIC             objects down, systems across, with the motion of each object
    chunks PROTOCOL                     systems down, PSNR of each chunk across
    times PROTOCOL                      systems down, PSNR of each compared frame across; as a chart as well, in
                                        images/PROTOCOL_by_frame.svg
    bars SYSTEM [UNTIMED]               the project's bars, for a system and the network without temporal attention

Results lie in the folder ``evaluation`` beside the page, PROTOCOL.json each.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.evaluation.tables import COLUMNS, markdown, number, summary_table
from core.files import atomic_path, read_json
from core.training.curves import chart

Results = Mapping[str, Any]
BLOCK = re.compile(r"(<!-- (summary|objects|chunks|times|bars) ([^>]*?)-->\n).*?(<!-- end -->)", re.DOTALL)
PICTURE = re.compile(r"\]\((images/([\w-]+)/([\w.-]+\.png))\)")


@dataclass(frozen=True)
class Bar:
    """Something the project wants of its checkpoints.

    Attributes:
        what: in words, with its unit.
        protocol, objects, metric: where it stands in the results.
        minus: None, or what is taken off: ``untimed``, the network without temporal attention, or a baseline's name.
        bound: the value that is wanted.
        at_least: whether it is a lower bound.
    """

    what: str
    protocol: str
    objects: str
    metric: str
    minus: str | None
    bound: float
    at_least: bool


BARS = (
    Bar("novel views, PSNR, dB", "novel_views", "all", "psnr", None, 24.0, True),
    Bar("novel views, above frozen frame 0, moving objects, dB", "novel_views", "moving", "psnr", "frozen", 2.0, True),
    Bar("novel views, above the network without time, dB", "novel_views", "all", "psnr", "untimed", 1.0, True),
    Bar("novel views, LPIPS (VGG)", "novel_views", "all", "lpips", None, 0.10, False),
    Bar("front video only, PSNR, dB", "single_view", "all", "psnr", None, 20.0, True),
    Bar("inserted frames, above blended neighbours, dB", "interpolation", "moving", "psnr", "blend", 1.0, True),
    Bar("chunk 1 to chunk 10, PSNR lost, dB", "autoregression", "all", "psnr_lost", None, 1.0, False),
    Bar("still image, change a frame, 1/255", "still", "all", "flicker", None, 1.0, False),
)


def publish(page: Path, workspace: Path, names: Iterable[str]) -> None:
    """Copy fresh results and the pictures that the page shows beside it, then draw its tables anew.

    Args:
        page: the Markdown file. Its pictures are ``images/PROTOCOL/OBJECT.png``.
        workspace: where ``names``, protocols, were evaluated.

    Raises:
        UserError: the page, or results it asks for, are missing; or a block asks for what does not exist.
    """
    if not page.is_file():
        raise UserError(f"the page {page} does not exist; write one with blocks as core/evaluation/page.py tells")
    for name in names:
        _copy(workspace / f"{name}.json", page.parent / "evaluation" / f"{name}.json")
    text = page.read_text()
    for target, protocol, picture in PICTURE.findall(text):
        if protocol in names and (workspace / protocol / picture).is_file():
            _copy(workspace / protocol / picture, page.parent / target)
    with atomic_path(page) as temporary:
        temporary.write_text(drawn(text, page.parent / "evaluation"))
    for protocol in (match[3].strip() for match in BLOCK.finditer(text) if match[2] == "times"):
        series = {name: list(enumerate(curve)) for name, curve in _curves(page.parent / "evaluation", protocol).items()}
        with atomic_path(page.parent / "images" / f"{protocol}_by_frame.svg") as temporary:
            temporary.write_text(chart(f"{protocol}: PSNR by frame", series, "dB", "frame"))


def drawn(text: str, folder: Path) -> str:
    """The page's text with every block drawn from the results in ``folder``.

    Raises:
        UserError: results are missing, or a block asks for what they do not hold.
    """

    def draw(match: re.Match[str]) -> str:
        kind, arguments = match[2], match[3].split()
        try:
            table = _KINDS[kind](folder, *arguments)
        except (TypeError, KeyError) as error:
            raise UserError(f"the block '{kind} {match[3].strip()}' cannot be drawn: {error}") from error
        return f"{match[1]}{table}\n{match[4]}"

    return BLOCK.sub(draw, text)


def _read(folder: Path, name: str) -> Results:
    path = folder / f"{name}.json"
    try:
        return read_json(path, "the results")
    except UserError as error:
        raise UserError(f"{error}; evaluate the protocol {name} first") from error


def _summary(folder: Path, protocol: str, objects: str = "all") -> str:
    return summary_table(_read(folder, protocol)["summary"], objects)


def _objects(folder: Path, protocol: str, metric: str) -> str:
    results = _read(folder, protocol)
    systems = [name for name in results["systems"] if name != "truth"]
    digits = COLUMNS[metric][1]
    rows = [
        [name.removesuffix(".tar"), number(moved, 1)]
        + [number(results["systems"][system][name]["means"].get(metric), digits) for system in systems]
        for name, moved in results["motion_db"].items()
    ]
    return markdown([COLUMNS[metric][0], "motion, dB", *systems], rows)


def _chunks(folder: Path, protocol: str) -> str:
    results = _read(folder, protocol)
    count = results["protocol"]["chunks"]
    metrics = [f"psnr_{chunk:02d}" for chunk in range(1, count + 1)]
    systems = {name: means for name, means in results["summary"]["all"]["systems"].items() if metrics[0] in means}
    rows = [[name, *(number(means[metric], 2) for metric in metrics)] for name, means in systems.items()]
    return markdown(["PSNR of chunk, dB", *(str(chunk) for chunk in range(1, count + 1))], rows)


def _curves(folder: Path, protocol: str) -> dict[str, list[float]]:
    """System -> PSNR in dB at each compared frame, mean over objects."""
    found = {}
    for name, objects in _read(folder, protocol)["systems"].items():
        curves = [scores["times"]["psnr"] for scores in objects.values() if "psnr" in scores["times"]]
        if curves:
            found[name] = [sum(column) / len(column) for column in zip(*curves, strict=True)]
    return found


def _times(folder: Path, protocol: str) -> str:
    rows = [[name, *(number(value, 2) for value in curve)] for name, curve in _curves(folder, protocol).items()]
    return markdown(["PSNR at frame, dB", *(str(time) for time in range(len(rows[0]) - 1))], rows)


def _bars(folder: Path, system: str, untimed: str | None = None) -> str:
    rows = []
    for bar in BARS:
        value, count = _measured(folder, bar, system, untimed)
        met = None if value is None else (value >= bar.bound if bar.at_least else value <= bar.bound)
        verdict = {None: "not measured", True: "yes", False: "no"}[met]
        wanted = f"{'≥' if bar.at_least else '≤'} {bar.bound:g}"
        objects = "" if value is None else str(count)
        rows.append([bar.what, wanted, number(value, 3 if bar.metric == "lpips" else 2), objects, verdict])
    return markdown([f"bar, for {system}", "wanted", "measured", "objects", "met"], rows)


def _measured(folder: Path, bar: Bar, system: str, untimed: str | None) -> tuple[float | None, int]:
    """The system's value, less that of what it is compared with, and over how many objects; None: not measured."""
    if not (folder / f"{bar.protocol}.json").is_file():
        return None, 0
    found = _read(folder, bar.protocol)["summary"][bar.objects]
    value = found["systems"].get(system, {}).get(bar.metric)
    if bar.minus is None or value is None:
        return value, found["objects"]
    name = untimed if bar.minus == "untimed" else f"{system}: {bar.minus}"
    other = found["systems"].get(name, {}).get(bar.metric)
    return None if other is None else value - other, found["objects"]


def _copy(source: Path, target: Path) -> None:
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)


_KINDS: dict[str, Callable[..., str]] = {
    "summary": _summary,
    "objects": _objects,
    "chunks": _chunks,
    "times": _times,
    "bars": _bars,
}
