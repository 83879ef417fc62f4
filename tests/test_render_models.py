"""Blender itself: odd files end as rows with their reasons, odd but sound ones look as they should."""

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.odd_models import make_odd_models

ROOT = Path(__file__).resolve().parent.parent
RENDER_PYTHON = ROOT / ".venv-render/bin/python"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not RENDER_PYTHON.exists(), reason="needs Blender: make render-env"),
]
OPTIONS = "--resolution 48 --samples 1 --views 2 --random_views 1 --max_clips 1 --device cpu --filter_width 1"


def render(*options: str | Path) -> list[dict]:
    script = [RENDER_PYTHON, ROOT / "blender_scripts/render_objaverse.py", *OPTIONS.split(), *options]
    done = subprocess.run(list(map(str, script)), capture_output=True, text=True)
    assert "Traceback" not in done.stdout + done.stderr
    return [json.loads(line) for line in (done.stdout + done.stderr).splitlines() if line.startswith("{")]


def masks(home: Path, line: str) -> np.ndarray:
    """Masks ``[views * frames, H, W]`` of the fixed views, in [0, 1]."""
    with tarfile.open(home / f"fixed_16_clip-{line}") as tar:
        names = sorted(name for name in tar.getnames() if "/mask/" in name)
        return np.stack([np.asarray(Image.open(io.BytesIO(tar.extractfile(name).read()))) for name in names]) / 255.0


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The odd models, rendered in one run; its report beside the clips."""
    folder = tmp_path_factory.mktemp("models")
    make_odd_models(folder / "odd", RENDER_PYTHON)
    render("--obj", folder / "odd", "--out_dir", folder / "out", "--report", folder / "out/report.jsonl")
    return folder / "out"


@pytest.fixture(scope="module")
def rows(home: Path) -> dict[str, list[dict]]:
    """The rows of every model, by its name."""
    found: dict[str, list[dict]] = {}
    for line in (home / "report.jsonl").read_text().splitlines():
        found.setdefault(Path(json.loads(line)["file"]).stem, []).append(json.loads(line))
    return found


REASONS = {
    "cut": "not a readable glTF",
    "empty": "not a readable glTF",
    "noise": "not a readable glTF",
    "nothing": "no visible mesh",
    "no_mesh": "no visible mesh",
    "no_faces": "no visible mesh",
    "no_size": "no visible mesh",
    "not_a_number": "bounding box has the size nan",
}


@pytest.mark.parametrize("name", REASONS)
def test_a_file_that_cannot_be_used_is_a_row_with_its_reason(name: str, rows: dict[str, list[dict]]) -> None:
    assert {row["status"] for row in rows[name]} == {"failed"}
    assert all(REASONS[name] in row["reason"] for row in rows[name])


@pytest.mark.parametrize("name", ["no_animation", "stands_still", "one_key", "long"])
def test_what_does_not_move_is_a_static_object(name: str, home: Path, rows: dict[str, list[dict]]) -> None:
    *skipped, last = rows[name]
    assert all("nothing moves" in row["reason"] for row in skipped)
    assert (len(skipped), last["status"]) == ({"no_animation": 0, "long": 24}.get(name, 1), "rendered")
    assert f"odd-{name}-000-00.tar" in (home / "datalist_static.txt").read_text().split()


@pytest.mark.parametrize("name", ["tiny", "huge", "second_scene", "lost_texture"])
def test_scale_other_scenes_and_textures_do_not_change_the_silhouette(name: str, home: Path) -> None:
    assert np.abs(masks(home, f"odd-{name}-000-00.tar") - masks(home, "odd-toy-000-00.tar")).mean() < 0.003


def test_a_missing_texture_is_noted(rows: dict[str, list[dict]]) -> None:
    assert rows["lost_texture"][0]["note"] == "missing: nowhere.png"
    assert all("note" not in row for row in rows["toy"])


def test_draco_changes_nothing(home: Path) -> None:
    drawn, plain = (masks(home, f"odd-{name}-000-00.tar") for name in ("draco", "skin"))
    assert np.abs(drawn - plain).mean() < 0.005


@pytest.mark.parametrize("name", ["morphs", "skin", "two_rigs"])
def test_morphs_skins_and_several_rigs_move(name: str, home: Path, rows: dict[str, list[dict]]) -> None:
    assert rows[name][0]["status"] == "rendered" and rows[name][0]["motion"] > 0.1
    frames = masks(home, f"odd-{name}-000-00.tar")[:8]
    assert np.abs(frames[0] - frames[4]).mean() > 0.002


def test_both_rates_come_from_the_same_pictures_and_a_static_object_can_move(home: Path, tmp_path: Path) -> None:
    models = [home.parent / f"odd/{name}.glb" for name in ("toy", "no_animation")]
    options = ("--obj", *models, "--out_dir", tmp_path, "--downsample", "3", "1", "--rigid_motion", "--random_lights")
    toy, still = render(*options)
    assert (toy["images"], still["images"]) == (72, 72)
    for name in ("toy", "no_animation"):
        members = {}
        for kind in ("fixed_16_clip", "fixed_16_24fps"):
            with tarfile.open(tmp_path / f"{kind}-odd-{name}-000-00.tar") as tar:
                members[kind] = {m.name: tar.extractfile(m).read() for m in tar if "/img/" in m.name}
        assert len(members["fixed_16_clip"]) == 2 * 8 and len(members["fixed_16_24fps"]) == 2 * 24
        for view in ("000", "001"):
            for frame in range(8):
                slow = members["fixed_16_clip"][f"./{view}/img/{frame:03d}.jpg"]
                assert slow == members["fixed_16_24fps"][f"./{view}/img/{3 * frame:03d}.jpg"]
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.tar")}
    for name in ("random_clip-odd-toy-000-00.tar", "fixed_16_24fps-odd-no_animation-000-00.tar"):
        (tmp_path / name).unlink()
    assert [row["images"] for row in render(*options)] == [8, 48]
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.tar")} == before


def test_published_lights_cast_no_shadow_and_soft_ones_do(home: Path, tmp_path: Path) -> None:
    """A toy stands on its legs under a body: without shadows its underside is as bright as the light allows."""
    pictures = {}
    for lights in ("soft", "published"):
        out = tmp_path / lights
        render(home.parent / "odd/toy.glb", "--output_folder", out, "--lights", lights, "--animation_idx", "0")
        with tarfile.open(out / "fixed_16_clip-odd-toy-000-00.tar") as tar:
            name = "./000/{}/000.{}"
            image, mask = (
                np.asarray(Image.open(io.BytesIO(tar.extractfile(name.format(*which)).read())).convert("L"), float)
                for which in (("img", "jpg"), ("mask", "png"))
            )
        pictures[lights] = image[mask > 250]
    assert pictures["soft"].shape == pictures["published"].shape, "lights do not change the silhouette"
    darkest = {lights: np.quantile(values, 0.05) for lights, values in pictures.items()}
    assert darkest["published"] > darkest["soft"] + 5


def test_it_runs_as_blenders_own_script(home: Path, tmp_path: Path) -> None:
    """`blender -b -P script -- options`: the module's Python with that command line, and started in another folder."""
    (tmp_path / "blender").write_text(
        f"#!{RENDER_PYTHON}\n"
        "import runpy, sys\n"
        "sys.argv[0] = 'blender'; sys.path[0] = ''\n"
        "runpy.run_path(sys.argv[sys.argv.index('-P') + 1], run_name='__main__')\n"
    )
    (tmp_path / "blender").chmod(0o755)
    dataset = [sys.executable, ROOT / "blender_scripts/render_dataset.py", "--blender", tmp_path / "blender"]
    models = ["--obj", home.parent / "odd/skin.glb", home.parent / "odd/cut.glb", "--out_dir", tmp_path / "out"]
    done = subprocess.run(list(map(str, [*dataset, *models, *OPTIONS.split()])), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "'rendered': 1" in done.stdout and "'failed': 1" in done.stdout
    assert (tmp_path / "out/datalist_8fps.txt").read_text() == "odd-skin-000-00.tar\n"
