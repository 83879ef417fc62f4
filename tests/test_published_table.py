"""docs/published.csv: every option, preset, default, flag and file of the published programs, against what is here."""

from __future__ import annotations

import csv
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from blender_scripts import render_objaverse
from core.cli import parse_options
from core.options import PRESETS, TrainOptions
from core.options.offers import INFER_3D, INFER_4D, TRAIN
from core.training.build import make_optimizer, make_schedule

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = ["program", "kind", "item", "published", "here", "why"]
with (ROOT / "docs/published.csv").open(newline="") as file:
    ROWS = list(csv.DictReader(file))


def rows(kind: str) -> pytest.MarkDecorator:
    chosen = [row for row in ROWS if row["kind"] == kind]
    return pytest.mark.parametrize("row", chosen, ids=lambda row: f"{row['program']} {row['item']}".replace(" ", "-"))


def here(row: dict[str, str]) -> str:
    return row["published"] if row["here"] == "same" else row["here"]


def as_text(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)


def defaults(options: object) -> dict[str, str]:
    """Option -> default of a preset, over all sections; the sizes of inference's own pictures are not published."""
    sections = asdict(options)
    del sections["infer"]["output_size"]
    return {name: as_text(value) for section in sections.values() for name, value in section.items()}


def flag(name: str, value: str) -> list[str]:
    if value in ("True", "False"):
        return [f"--{name}" if value == "True" else f"--no-{name}"]
    return [f"--{name}", *(value.split() or [""])]


def test_every_row_is_complete_and_every_difference_has_a_reason() -> None:
    assert list(ROWS[0]) == COLUMNS
    assert {row["kind"] for row in ROWS} == {"option", "preset", "constant", "flag", "file", "output"}
    assert all(bool(row["why"]) or row["here"] == "same" or row["kind"] == "file" for row in ROWS)
    names = [(row["program"], row["kind"], row["item"]) for row in ROWS]
    assert len(set(names)) == len(names)


@rows("option")
def test_options(row: dict[str, str]) -> None:
    if row["here"] == "no effect":
        for offer in (TRAIN, INFER_3D, INFER_4D):
            assert parse_options("", ["lrm", *flag(row["item"], row["published"])], offer) == PRESETS["lrm"]
        return
    assert defaults(PRESETS["lrm"])[row["item"]] == here(row)
    parsed = parse_options("", ["lrm", *flag(row["item"], here(row))])
    assert defaults(parsed)[row["item"]] == here(row)


@rows("preset")
def test_presets(row: dict[str, str]) -> None:
    preset, option = row["item"].split()
    assert defaults(parse_options("", [preset]))[option] == here(row)


def test_small_is_lrm_in_every_option() -> None:
    assert defaults(PRESETS["small"]) == defaults(PRESETS["lrm"])


def constant(item: str) -> str:
    """A number of the training, measured on the optimiser and the schedule themselves."""
    optimizer = make_optimizer({"lr": {"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 4e-4}})
    if not item.startswith("warm-up peak"):
        return as_text(optimizer.defaults[item])
    processes, rates = int(item.split()[-2]), []
    schedule = make_schedule(optimizer, [4e-4], TrainOptions(), 20_000, processes=processes)
    for _ in range(3100):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return str(rates.index(max(rates)))


@rows("constant")
def test_constants(row: dict[str, str]) -> None:
    found, expected = ([float(number) for number in text.split()] for text in (constant(row["item"]), here(row)))
    assert found == pytest.approx(expected, abs=1 if "peak" in row["item"] else 0)


@rows("flag")
def test_render_flags(row: dict[str, str]) -> None:
    common = ["a.glb", "--output_folder", "out"]
    standard = vars(render_objaverse.parse(common))
    if row["here"] == "required":
        with pytest.raises(SystemExit):
            render_objaverse.parse(["a.glb"])
    elif row["published"] == "positional":
        assert standard["obj"] == ["a.glb"]
    else:
        name = {"animation_idx": "animation", "camera_option": "mode"}.get(row["item"], row["item"])
        given = vars(render_objaverse.parse([*common, f"--{row['item']}", row["published"]]))
        if row["here"] != "no effect":
            assert as_text(standard[name]) == here(row)
        assert {key for key in standard if standard[key] != given[key]} <= {name}


@rows("file")
def test_files(row: dict[str, str]) -> None:
    if row["here"] != "none":
        assert (ROOT / here(row)).exists()
    assert row["here"] == "same" or row["why"] or Path(here(row)).suffix == Path(row["published"]).suffix
