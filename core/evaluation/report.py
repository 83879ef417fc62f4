"""Output of an evaluation: means by system, object and view, Markdown tables, contact sheets."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from core.evaluation.ground_truth import GroundTruth, Prediction
from core.evaluation.metrics import spread
from core.images import contact_sheet, save_image

Means = dict[str, float]

# metric -> heading with its unit and which way is better, digits
COLUMNS = {
    "psnr": ("PSNR, dB ↑", 2),
    "ssim": ("SSIM ↑", 3),
    "lpips": ("LPIPS ↓", 3),
    "iou": ("alpha IoU ↑", 3),
    "clip": ("CLIP ↑", 3),
    "flicker": ("flicker, 1/255 ↓", 2),
    "flicker_worst": ("worst pair ↓", 2),
    "warp": ("warped error, 1/255 ↓", 2),
    "psnr_first": ("PSNR, first chunk, dB ↑", 2),
    "psnr_last": ("PSNR, last chunk, dB ↑", 2),
    "psnr_lost": ("lost, dB ↓", 2),
    "fvd": ("FVD ↓", 1),
    "fvd_single": ("FVD, single videos ↓", 1),
}
GROUND_TRUTH = "ground truth"  # the row of the true images' own warped error

_DIGITS = 5  # in JSON
_SHEET_VIEWS, _SHEET_FRAMES = 2, 4  # of an object, evenly spread: the columns of its sheet
MAX_SYSTEMS = 8  # on a sheet
_CHUNKS = 12  # columns of the table of chunks
_FULL_ERROR = 0.5  # mean over channels that is drawn in full red


@dataclass
class ObjectScores:
    """One system on one object.

    Attributes:
        views: view -> metric -> mean over frames.
        means: metric -> mean over all images.
        counts: metric -> number of images, or of pairs of frames.
        times: ``psnr`` -> mean over views at each compared frame.
    """

    views: dict[str, Means] = field(default_factory=dict)
    means: Means = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    times: dict[str, list[float]] = field(default_factory=dict)


@dataclass
class Scores:
    """All measurements under one protocol.

    Attributes:
        moving_below: dB; see `Protocol`.
        motion: object -> dB, see `GroundTruth.motion`.
        systems: system -> object -> its scores, in the order in which they were added.
        over_objects: system -> metric -> value, for metrics over all objects together.
    """

    moving_below: float
    motion: dict[str, float] = field(default_factory=dict)
    systems: dict[str, dict[str, ObjectScores]] = field(default_factory=dict)
    over_objects: dict[str, Means] = field(default_factory=dict)

    def add(self, system: str, ground_truth: GroundTruth, values: Mapping[str, Tensor]) -> None:
        """Add the result of `core.evaluation.metrics.Metrics`, every value ``[T, V]``; NaN: not measured."""
        scores = ObjectScores()
        for metric, table in values.items():
            for view, column in zip(ground_truth.views, table.unbind(1), strict=True):
                if not bool(column.isnan().all()):
                    scores.views.setdefault(view, {})[metric] = float(column.nanmean())
            scores.counts[metric] = int((~torch.isnan(table)).sum())
            if scores.counts[metric]:
                scores.means[metric] = float(table.nanmean())
        if "psnr" in values:
            scores.times["psnr"] = values["psnr"].mean(1).tolist()
        self.systems.setdefault(system, {})[ground_truth.name] = scores

    @property
    def moving(self) -> list[str]:
        """Objects that move."""
        return [name for name, value in self.motion.items() if value < self.moving_below]

    def means(self, system: str, objects: Iterable[str]) -> Means:
        """Metric -> mean over these objects of the object's mean; objects without the metric do not count."""
        found: dict[str, list[float]] = {}
        for name in objects:
            for metric, value in self.systems[system][name].means.items():
                found.setdefault(metric, []).append(value)
        return {metric: sum(values) / len(values) for metric, values in found.items()}

    def summary(self) -> dict[str, dict[str, object]]:
        """Set of objects (all, moving) -> number of objects, and system -> metric -> mean."""
        means = {
            key: {name: self.means(name, names) for name in self.systems}
            for key, names in (("all", list(self.motion)), ("moving", self.moving))
        }
        for name, values in self.over_objects.items():
            means["all"][name] |= values
        counts = {"all": len(self.motion), "moving": len(self.moving)}
        return {key: {"objects": counts[key], "systems": found} for key, found in means.items()}

    def as_json(self) -> dict[str, object]:
        """The numbers of the results file."""
        systems = {
            system: {name: vars(scores) for name, scores in objects.items()} for system, objects in self.systems.items()
        }
        found = {"summary": self.summary(), "motion_db": self.motion, "moving": self.moving, "systems": systems}
        return json.loads(json.dumps(found), parse_float=lambda text: round(float(text), _DIGITS))

    def tables(self) -> str:
        """Markdown: means over all objects, over the moving ones where they are not all, and PSNR by chunk."""
        summary = self.summary()
        found = [summary_table(summary, "all")]
        if 0 < len(self.moving) < len(self.motion):
            found.append(summary_table(summary, "moving"))
        if table := chunk_table(summary):
            found.append(table)
        return "\n\n".join(found)

    def object_table(self, metric: str = "psnr") -> str:
        """Markdown: objects down, systems across, with the motion of each object."""
        heading, digits = COLUMNS[metric]
        systems = {name: objects for name, objects in self.systems.items() if name != GROUND_TRUTH}
        rows = [
            [name.removesuffix(".tar"), number(motion, 1)]
            + [number(objects[name].means.get(metric), digits) for objects in systems.values()]
            for name, motion in self.motion.items()
        ]
        return markdown([heading, "motion, dB", *systems], rows)


def summary_table(summary: Mapping[str, Mapping[str, object]], key: str) -> str:
    """Systems down, metrics across, for one set of objects (``all`` or ``moving``)."""
    systems = summary[key]["systems"]
    metrics = [metric for metric in COLUMNS if any(metric in means for means in systems.values())]
    header = [f"{key}: {summary[key]['objects']} objects", *(COLUMNS[metric][0] for metric in metrics)]
    rows = [
        [name, *(number(means.get(metric), COLUMNS[metric][1]) for metric in metrics)]
        for name, means in systems.items()
    ]
    return markdown(header, rows)


def chunk_table(summary: Mapping[str, Mapping[str, object]]) -> str:
    """Systems down, PSNR of at most `_CHUNKS` chunks across; empty where nothing was measured by chunk."""
    systems = summary["all"]["systems"]
    chunks = sorted(
        {metric for means in systems.values() for metric in means if metric.removeprefix("psnr_").isdigit()},
        key=lambda metric: int(metric.removeprefix("psnr_")),
    )
    measured = {name: means for name, means in systems.items() if chunks and chunks[0] in means}
    shown = spread(_CHUNKS, len(chunks)).tolist()
    rows = [[name, *(number(means[chunks[i]], 2) for i in shown)] for name, means in measured.items()]
    return markdown(["PSNR of chunk, dB", *(str(i + 1) for i in shown)], rows) if rows else ""


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in [header, *rows]]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def number(value: float | None, digits: int) -> str:
    """With so many digits after the point; empty for None."""
    return "" if value is None else f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0: no minus before a zero


@dataclass
class Sheet:
    """The contact sheet of one object at the ``compared`` frames: ground truth, every system, and its error."""

    ground_truth: GroundTruth
    compared: Sequence[int]
    captions: list[str] = field(default_factory=list)
    rows: list[list[Tensor]] = field(default_factory=list)

    def __post_init__(self) -> None:
        times = [self.compared[i] for i in spread(_SHEET_FRAMES, len(self.compared))]
        self.cells = [(t, v) for v in spread(_SHEET_VIEWS, len(self.ground_truth.views)).tolist() for t in times]
        shown = ", ".join(dict.fromkeys(self.ground_truth.views[v] for _, v in self.cells))
        self._add(f"ground truth of {self.ground_truth.name}, cameras {shown}", self.ground_truth.images)

    def add(self, system: str, prediction: Prediction) -> None:
        """Two rows for a system, its images and their errors; nothing beyond `MAX_SYSTEMS`."""
        if len(self.rows) < 1 + 2 * MAX_SYSTEMS:
            self._add(system, prediction.images)
            self._add(f"{system}: error", error_image(prediction.images, self.ground_truth.images))

    def save(self, path: Path, cell: int = 96) -> None:
        """Write the picture."""
        save_image(contact_sheet(self.rows, self.captions, cell), path)

    def _add(self, caption: str, images: Tensor) -> None:
        self.captions.append(caption)
        self.rows.append([images[t, v] for t, v in self.cells])


def error_image(images: Tensor, targets: Tensor) -> Tensor:
    """Absolute difference, mean over the channels, as red on white; both ``[..., 3, H, W]``."""
    error = ((images - targets).abs().mean(-3, keepdim=True) / _FULL_ERROR).clamp(0, 1)
    return torch.cat([torch.ones_like(error), 1 - error, 1 - error], dim=-3)
