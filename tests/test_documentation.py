"""The pages are short, their links hold, no picture is left over, and the speed table is that of the recorded run."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from core.app.server import Settings
from core.nvs.dl3dv import Dl3dvOptions
from core.options import Options
from core.options.gen_vid import GenVidOptions
from core.options.lact import NvsOptions, NvsTrainOptions
from tests.test_architecture import ROOT

MAX_WORDS = 6000
PAGES = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "pretrained/README.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
LINK = re.compile(r"\]\((?!https?://)([^)#\s]*)(?:#([\w-]+))?\)")
OF_OTHER_PROGRAMS = {
    *("config_file", "machine_rank", "main_process_ip", "main_process_port"),  # accelerate
    *("local-dir", "depth", "no-deps", "logdir", "help"),  # hf, git, pip, tensorboard, all
}
NAMED = re.compile(r"`((?:acc_configs|benchmarks|blender_scripts|core|data_test|data_train|docs|tests)/[\w./]*)`")


def anchors(page: Path) -> set[str]:
    """The names that headings have on the code host."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_documentation_is_short() -> None:
    words = {page.relative_to(ROOT).as_posix(): len(page.read_text().split()) for page in PAGES}
    assert sum(words.values()) <= MAX_WORDS, words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_and_named_files_exist(page: Path) -> None:
    for target, anchor in LINK.findall(page.read_text()):
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), f"{target}#{anchor}"
    assert not [name for name in NAMED.findall(page.read_text()) if not (ROOT / name).exists()]


def test_every_picture_is_shown() -> None:
    shown = {(page.parent / target).resolve() for page in PAGES for target, _ in LINK.findall(page.read_text())}
    assert set((ROOT / "docs" / "images").rglob("*.*")) <= shown


def known_options() -> set[str]:
    """Options of the scripts, of the app, of Blender's programs, of the benchmarks; old names too."""
    sources = "".join(
        path.read_text()
        for folder in ("core", "blender_scripts", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
    )
    own = {field.name for section in fields(Options) for field in fields(section.default_factory)}
    own |= {field.name for field in fields(Settings)}
    sections = (NvsOptions, NvsTrainOptions, Dl3dvOptions, GenVidOptions)
    own |= {field.name for options in sections for field in fields(options)}
    return own | set(re.findall(r'"--(\w+)"', sources)) | OF_OTHER_PROGRAMS


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.name)
def test_named_options_exist(page: Path) -> None:
    named = set(re.findall(r"(?<![\w-])--(?:no-)?([a-z]\w+(?:-\w+)*)", page.read_text()))
    assert named <= known_options()


def table_rows(page: Path) -> list[list[str]]:
    """The cells of every table row of a page."""
    lines = [line for line in page.read_text().splitlines() if line.startswith("|")]
    return [[cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in lines]


def test_the_costs_of_guidance_are_the_counted_ones() -> None:
    """GiB of weights and of what is kept for gradients together, and operations of both parts of a step."""
    (counted,) = json.loads((ROOT / "benchmarks" / "results" / "guidance.json").read_text())["tables"].values()
    rows = [
        row for row in table_rows(ROOT / "docs" / "tracking.md") if row[0] in ("zero123, imagedream", "svd, svd-refine")
    ]
    written = {name: sizes for row in rows for name, *sizes in zip(*(cell.split(", ") for cell in row), strict=True)}
    assert len(counted) == 4
    for row in counted:
        memory, work = map(float, written[row["guidance"]])
        assert abs(memory - row["weights GiB"] - row["kept GiB"]) < 0.06
        assert abs(work - row["network Tflop"] - row["gradient Tflop"]) < 0.6


def test_the_speed_tables_are_the_recorded_run() -> None:
    """Seconds and ratios to three digits, row by row, in the order of the recorded tables."""
    tables = json.loads((ROOT / "benchmarks" / "results" / "cpu.json").read_text())["tables"]
    recorded = [
        tuple(row.get(key) for key in ("ours s", "reference s", "times faster"))
        for name in tables
        for row in tables[name]
    ]
    recorded = {tuple(f"{value:.3g}" if value else "" for value in row) for row in recorded}
    milliseconds = {f"{row['ms']:.3g}" for row in tables["rendering, bars"]}
    rows = table_rows(ROOT / "docs" / "speed.md")
    times = [tuple(row[1:]) for row in rows if len(row) == 4 and row[1][:1].isdigit()]
    renders = [row[1] for row in rows if len(row) == 2 and row[1][:1].isdigit()]
    assert len(times) >= 5 and set(times) <= recorded
    assert len(renders) >= 3 and set(renders) <= milliseconds
