"""Numbers by system, object and view, and their means."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from core.evaluation.truth import Truth

Means = dict[str, float]
DIGITS = 5  # in files


@dataclass
class ObjectScores:
    """One system on one object.

    Attributes:
        views: view -> metric -> mean over frames.
        means: metric -> mean over all its images.
        counts: metric -> how many images (or pairs of frames) that were.
        times: metric -> mean over views at each time; of PSNR.
    """

    views: dict[str, Means] = field(default_factory=dict)
    means: Means = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    times: dict[str, list[float]] = field(default_factory=dict)


@dataclass
class Scores:
    """Everything that was measured under one protocol.

    Attributes:
        motion: object -> dB, see `core.evaluation.truth.motion`.
        moving_below: dB; see `Protocol`.
        systems: system -> object -> its scores, in the order in which they were added.
        sets: system -> metric -> value of metrics that exist for the set of all objects only.
    """

    moving_below: float
    motion: dict[str, float] = field(default_factory=dict)
    systems: dict[str, dict[str, ObjectScores]] = field(default_factory=dict)
    sets: dict[str, Means] = field(default_factory=dict)

    def add(self, system: str, truth: Truth, values: Mapping[str, Tensor]) -> None:
        """Keep what `core.evaluation.metrics.measure` found, every value ``[T, V]``; NaN was not measured."""
        scores = ObjectScores()
        for metric, table in values.items():
            for view, column in zip(truth.views, table.unbind(1), strict=True):
                if not bool(column.isnan().all()):
                    scores.views.setdefault(view, {})[metric] = float(column.nanmean())
            scores.counts[metric] = int((~torch.isnan(table)).sum())
            if scores.counts[metric]:
                scores.means[metric] = float(table.nanmean())
        if "psnr" in values:
            scores.times["psnr"] = values["psnr"].mean(1).tolist()
        self.systems.setdefault(system, {})[truth.name] = scores

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
        """Set of objects (all, moving) -> how many, and system -> metric -> mean."""
        means = {
            key: {name: self.means(name, names) for name in self.systems}
            for key, names in (("all", list(self.motion)), ("moving", self.moving))
        }
        for name, values in self.sets.items():
            means["all"][name] |= values
        counts = {"all": len(self.motion), "moving": len(self.moving)}
        return {key: {"objects": counts[key], "systems": found} for key, found in means.items()}

    def as_json(self) -> dict[str, object]:
        """For the results file."""
        systems = {
            system: {name: vars(scores) for name, scores in objects.items()} for system, objects in self.systems.items()
        }
        found = {"summary": self.summary(), "motion_db": self.motion, "moving": self.moving, "systems": systems}
        return json.loads(json.dumps(found), parse_float=lambda text: round(float(text), DIGITS))
