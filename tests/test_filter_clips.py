"""The motion filter: known motions score as they are, what shows nothing is dropped, families never mix."""

from pathlib import Path

import numpy as np
import pytest

from blender_scripts import clips, filter_clips, rig
from blender_scripts.clip_page import histogram
from blender_scripts.scores import Score, find_clips, score_all, score_clip
from core.errors import UserError

SIZE = 64


def pictures(
    speed: float, frames: int = 8, shade: int | None = None, radius: float = 18.0
) -> list[tuple[bytes, bytes]]:
    """A speckled disc that moves to the right by ``speed`` pixels a frame; ``shade`` paints it in one grey."""
    y, x = np.mgrid[:SIZE, :SIZE]
    noise = np.random.default_rng(0).uniform(0, 200, (8, 16)).repeat(8, 0).repeat(8, 1)
    out = []
    for frame in range(frames):
        shift = round(speed * (frame - frames / 2))
        inside = np.hypot(x - SIZE / 2 - shift, y - SIZE / 2) < radius
        paint = np.roll(noise, shift, axis=1)[:, :SIZE] if shade is None else np.full((SIZE, SIZE), shade)
        out.append(clips.encode(np.dstack([paint, paint, paint, 255 * inside]).astype(np.uint8)))
    return out


def write(home: Path, name: str, fps: int, frames: list[tuple[bytes, bytes]]) -> str:
    line = clips.clip_line("p", name, 0, 0)
    for kind in clips.clip_kinds(fps).values():
        clips.write_clip(clips.clip_path(home, kind, line), {rig.View(v, 22.5 * v): frames for v in (0, 4)})
    return line


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Clips that are to be kept, and one for every reason to drop one."""
    write(tmp_path, "runs", 8, pictures(3.0))
    write(tmp_path, "walks", 8, pictures(1.0))
    write(tmp_path, "runs", 24, pictures(1.0, 24))
    write(tmp_path, "statue", 8, pictures(0.0, 1))
    write(tmp_path, "still", 8, pictures(0.0))
    write(tmp_path, "snowman", 8, pictures(2.0, shade=253))
    write(tmp_path, "gnat", 8, pictures(2.0, radius=1.2))
    broken = write(tmp_path, "broken", 8, pictures(2.0))
    (tmp_path / f"fixed_16_clip-{broken}").write_bytes(b"no tar")
    return tmp_path


def run(home: Path, *options: str) -> dict[str, list[str]]:
    filter_clips.main(["--data_home", str(home), "--out", str(home / "lists"), "--processes", "1", *options])
    return {path.name: path.read_text().split() for path in (home / "lists").glob("*.txt")}


def test_flow_measures_the_speed_whatever_the_rate(home: Path) -> None:
    run8, run24 = (score_clip(home, "p-runs-000-00.tar", fps) for fps in (8, 24))
    assert run8.flow == pytest.approx(3.0 * 8 / SIZE, rel=0.25)  # 3 pixels a frame, 8 frames a second
    assert run24.flow == pytest.approx(run8.flow, rel=0.25)
    assert score_clip(home, "p-walks-000-00.tar", 8).flow == pytest.approx(1.0 * 8 / SIZE, rel=0.3)
    assert score_clip(home, "p-still-000-00.tar", 8).flow < 0.001


def test_coverage_contrast_and_border(home: Path) -> None:
    score = score_clip(home, "p-still-000-00.tar", 8)
    assert score.coverage == pytest.approx(np.pi * 18**2 / SIZE**2, rel=0.03)
    assert (score.border, score.frames) == (0.0, 8)
    assert score_clip(home, "p-snowman-000-00.tar", 8).contrast < 0.02 < 0.4 < score.contrast
    write(home, "wide", 8, pictures(0.0, radius=40.0))
    assert score_clip(home, "p-wide-000-00.tar", 8).border == 1.0


def test_lists_hold_what_moves_and_can_be_seen(home: Path, capsys: pytest.CaptureFixture) -> None:
    lists = run(home, "--page", str(home / "page"))
    assert lists == {
        "datalist_8fps.txt": ["p-runs-000-00.tar", "p-walks-000-00.tar"],
        "datalist_24fps.txt": ["p-runs-000-00.tar"],
        "datalist_static.txt": ["p-statue-000-00.tar"],
    }
    printed = capsys.readouterr().out
    for reason in ("cannot be read", "hardly moves", "nothing to see", "white on white"):
        assert f"1  dropped: {reason}" in printed
    page = (home / "page/index.html").read_text()
    assert page.count("<svg") == 4 and "white on white" in page
    assert all((home / "page" / name).exists() for name in ("sheet_0.jpg", "sheet_1.jpg"))


def test_a_quantile_drops_the_clips_that_move_least(home: Path, capsys: pytest.CaptureFixture) -> None:
    """Of the three moving clips that pass the other filters the slowest goes; the static clip stays."""
    lists = run(home, "--drop_quantile", "0.3")
    assert lists == {
        "datalist_8fps.txt": ["p-runs-000-00.tar"],
        "datalist_24fps.txt": ["p-runs-000-00.tar"],
        "datalist_static.txt": ["p-statue-000-00.tar"],
    }
    assert "1  dropped: moves less than most" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        run(home, "--drop_quantile", "1")


@pytest.mark.parametrize("count", [2, 5, 40])
def test_a_quantile_of_a_half_drops_half(count: int) -> None:
    scores = [Score(f"p-{i}-000-00.tar", 8, 8, flow=0.1 + i / 100, coverage=0.5, contrast=0.5) for i in range(count)]
    lists, dropped = filter_clips.choose(scores, filter_clips.parse(["--data_home", "x", "--drop_quantile", "0.5"]))
    assert len(dropped["moves less than most"]) == count // 2
    assert lists["datalist_8fps.txt"] == [score.line for score in scores[count // 2 :]]


def test_scores_are_kept_until_a_clip_changes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = score_all(home, 1)
    monkeypatch.setattr("blender_scripts.scores.ProcessPoolExecutor", None)  # measuring again would need it
    with pytest.raises(TypeError):
        score_all(home, 1)
    monkeypatch.undo()
    assert score_all(home, 1) == first
    write(home, "walks", 8, pictures(0.0))
    again = score_all(home, 1)
    assert [score.line for score in again if score not in first] == ["p-walks-000-00.tar"]
    assert len(find_clips(home)) == len(first)


def test_a_family_is_on_one_side_whatever_else_there_is() -> None:
    families = {f"f{i}" for i in range(2000)}
    chosen = filter_clips.validation_families(families, 0.1, ["f3"])
    assert "f3" in chosen and 150 < len(chosen) < 250
    few = filter_clips.validation_families({f"f{i}" for i in range(100)}, 0.1, [])
    assert few == (chosen & {f"f{i}" for i in range(100)}) - ({"f3"} - few)
    with pytest.raises(UserError, match="no clip is of the family 'x'"):
        filter_clips.validation_families(families, 0.0, ["x"])


def test_validation_lists_share_no_family_with_training(home: Path) -> None:
    lists = run(home, "--val_family", "runs")
    assert lists["datalist_val_8fps.txt"] == lists["datalist_val_24fps.txt"] == ["p-runs-000-00.tar"]
    assert lists["datalist_8fps.txt"] == ["p-walks-000-00.tar"]
    assert filter_clips.family_of("space_pack-Mech_Barbara-000-01.tar", r"-(Mech)") == "Mech"
    with pytest.raises(UserError, match="finds no group"):
        filter_clips.family_of("a-b-000-00.tar", r"^[^-]*")


def test_bad_input_is_one_error(tmp_path: Path) -> None:
    for folder, reason in ((tmp_path / "none", "does not exist"), (tmp_path, "holds no clip")):
        with pytest.raises(UserError, match=reason):
            filter_clips.main(["--data_home", str(folder)])


def test_a_histogram_counts_everything() -> None:
    figure = histogram("x", [0.0] * 5 + [1.0] * 10, bins=2, width=100, height=130)
    assert "15 values" in figure and figure.count("<rect") == 2
    assert 'height="50.0"' in figure and 'height="100.0"' in figure
    assert Score("a", 8).flow == 0.0
