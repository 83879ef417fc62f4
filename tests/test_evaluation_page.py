"""The results page: tables from results files alone."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from core.errors import UserError
from core.evaluation.page import drawn, publish

PAGE = Path("docs/results.md")
TEXT = """# Results

<!-- {block} -->
old
<!-- end -->

![sheet](images/novel_views/cow.png) after
"""


def write_results(folder: Path, name: str, systems: dict[str, dict[str, float]], chunks: int = 2) -> None:
    """A results file with one moving object."""
    folder.mkdir(exist_ok=True, parents=True)
    found = {"objects": 1, "systems": systems}
    times = {"psnr": [21.0, 20.0]}
    scores = {system: {"views": {}, "means": means, "counts": {}, "times": times} for system, means in systems.items()}
    each = {system: {"cow.tar": values} for system, values in scores.items()}
    content = {"summary": {"all": found, "moving": found}, "motion_db": {"cow.tar": 17.25}, "systems": each}
    (folder / f"{name}.json").write_text(json.dumps({"protocol": {"chunks": chunks}, **content}))


def cells(table: str) -> list[list[str]]:
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    novel = {"net": {"psnr": 24.5, "lpips": 0.1234}, "net: frozen": {"psnr": 23}, "net0": {"psnr": 23.25}}
    write_results(tmp_path, "novel_views", novel)
    write_results(tmp_path, "autoregression", {"net": {"psnr_lost": 0.5, "psnr_01": 20, "psnr_02": 19.5}})
    return tmp_path


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (
            "summary novel_views moving",
            [["moving: 1 objects", "PSNR, dB ↑", "LPIPS ↓"], ["net", "24.50", "0.123"], ["net: frozen", "23.00", ""]],
        ),
        ("objects novel_views psnr", [["PSNR, dB ↑", "motion, dB", "net", "net: frozen", "net0"], ["cow", "17.2"]]),
        ("chunks autoregression", [["PSNR of chunk, dB", "1", "2"], ["net", "20.00", "19.50"]]),
        ("times novel_views", [["PSNR at frame, dB", "0", "1"], ["net", "21.00", "20.00"]]),
    ],
)
def test_blocks_are_drawn_from_the_files(results: Path, block: str, expected: list[list[str]]) -> None:
    text = drawn(TEXT.format(block=block), results)
    assert "old" not in text and text.endswith("after\n")
    header, _, *rows = cells(text)
    for row, start in zip([header, *rows], expected, strict=False):
        assert row[: len(start)] == start
    assert drawn(text, results) == text


def test_bars_say_what_is_met_and_what_was_not_measured(results: Path) -> None:
    rows = {row[0]: row[1:] for row in cells(drawn(TEXT.format(block="bars net net0"), results))}
    assert rows["novel views, PSNR, dB"] == ["≥ 24", "24.50", "1", "yes"]
    assert rows["novel views, above frozen frame 0, moving objects, dB"] == ["≥ 2", "1.50", "1", "no"]
    assert rows["novel views, above the network without time, dB"] == ["≥ 1", "1.25", "1", "yes"]
    assert rows["novel views, LPIPS (VGG)"] == ["≤ 0.1", "0.123", "1", "no"]
    assert rows["chunk 1 to chunk 10, PSNR lost, dB"] == ["≤ 1", "0.50", "1", "yes"]
    assert rows["still image, change a frame, 1/255"] == ["≤ 1", "", "", "not measured"]


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("summary nothing", "evaluate the protocol nothing first"),
        ("summary novel_views slow", "'summary novel_views slow' cannot be drawn"),
        ("objects novel_views", "cannot be drawn"),
    ],
)
def test_what_a_block_lacks_is_named(results: Path, block: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        drawn(TEXT.format(block=block), results)


def test_fresh_results_and_pictures_are_copied_beside_the_page(results: Path, tmp_path: Path) -> None:
    page = tmp_path / "docs" / "page.md"
    page.parent.mkdir()
    page.write_text(TEXT.format(block="summary novel_views"))
    (results / "novel_views").mkdir()
    (results / "novel_views" / "cow.png").write_bytes(b"picture")
    publish(page, results, ["novel_views"])
    assert "24.50" in page.read_text()
    assert (page.parent / "images" / "novel_views" / "cow.png").read_bytes() == b"picture"
    assert [path.name for path in (page.parent / "evaluation").iterdir()] == ["novel_views.json"]
    with pytest.raises(UserError, match=r"none.md does not exist"):
        publish(tmp_path / "none.md", results, [])


def test_the_curve_of_a_times_block_is_drawn_beside_the_page(results: Path, tmp_path: Path) -> None:
    page = tmp_path / "docs" / "page.md"
    page.parent.mkdir()
    page.write_text(TEXT.format(block="times novel_views"))
    publish(page, results, ["novel_views"])
    curve = (page.parent / "images" / "novel_views_by_frame.svg").read_text()
    assert curve.count("<polyline") == 3 and ">frame</text>" in curve


def test_the_page_shows_what_the_files_say() -> None:
    text = PAGE.read_text()
    assert drawn(text, PAGE.parent / "evaluation") == text
    for picture in re.findall(r"\]\((images/[^)]*)\)", text):
        assert (PAGE.parent / picture).is_file()
