"""docs/published.csv: every option, preset, default, flag and file of the published programs, against what is here."""

from __future__ import annotations

import csv
import re
import tarfile
from collections.abc import Callable
from dataclasses import asdict
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from blender_scripts import clips, render_objaverse, rig
from core import lpips
from core.cli import parse_options
from core.data import augment
from core.inference import align, outputs, turntable
from core.inference.session import Session
from core.inference.streams import overlapping_chunks
from core.media import select_frames
from core.multiview import background, hub
from core.options import PRESETS, CameraOptions, TrainOptions
from core.options.offers import INFER_3D, INFER_4D, PUBLISHED, SWITCHES, TRAIN, Offer, plain
from core.rendering.orbit import OrbitRenderer
from core.training.build import make_optimizer, make_schedule
from tests.tiny import lopsided_gaussians

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
    kinds = {"option", "preset", "constant", "flag", "file", "output", "weights", "clip"}
    assert {row["kind"] for row in ROWS} == kinds, "each has its test, here or in test_published_commands"
    assert all(bool(row["why"]) or row["here"] == "same" or row["kind"] == "file" for row in ROWS)
    names = [(row["program"], row["kind"], row["item"]) for row in ROWS]
    assert len(set(names)) == len(names)


def test_every_published_option_has_a_row() -> None:
    """Those that the programs take for the published ones' sake, and sizes of the network, cameras and places."""
    listed = {row["item"] for row in ROWS if row["kind"] == "option"}
    assert {*map(plain, PUBLISHED), *SWITCHES} <= listed
    unpublished = {"architecture", "temporal", "motion_code", "num_heads", "norm_groups", "attention", "renderer"}
    unpublished |= {"rasterize_mode", "seed", "device"}
    sections = (PRESETS["lrm"].model, PRESETS["lrm"].camera, PRESETS["lrm"].run)
    assert {name for section in sections for name in asdict(section)} - unpublished <= listed


@rows("option")
def test_options(row: dict[str, str]) -> None:
    if row["here"] == "no effect":
        for offer in (TRAIN, INFER_3D, INFER_4D):
            assert parse_options("", ["lrm", *flag(row["item"], row["published"])], offer) == PRESETS["lrm"]
        return
    assert defaults(PRESETS["lrm"])[row["item"]] == here(row)
    parsed = parse_options("", ["lrm", *flag(row["item"], here(row))])
    assert defaults(parsed)[row["item"]] == here(row)


@pytest.mark.parametrize("offer", [TRAIN, INFER_3D, INFER_4D], ids=["main", "infer_3d", "infer_4d"])
def test_every_program_takes_every_published_value(offer: Offer) -> None:
    """LGM's own values are none of L4GM's command line."""
    published = [row for row in ROWS if row["kind"] == "option" and row["program"] != "LGM"]
    words = [word for row in published for word in flag(row["item"], row["published"])]
    found = defaults(parse_options("", ["lrm", *words], offer))
    assert (found["znear"], found["zfar"]) == ("0.5", "2.5"), "the only ones that are not those of the preset"


@rows("preset")
def test_presets(row: dict[str, str]) -> None:
    preset, option = row["item"].split()
    assert defaults(parse_options("", [preset]))[option] == here(row)


def test_small_is_lrm_in_every_option() -> None:
    assert defaults(PRESETS["small"]) == defaults(PRESETS["lrm"])


def peak(processes: int) -> int:
    """The step at which the learning rate is highest, measured on the schedule itself."""
    optimizer, found = one_weight(), []
    schedule = make_schedule(optimizer, [4e-4], TrainOptions(), 20_000, processes=processes)
    for _ in range(3100):
        found.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return found.index(max(found))


def one_weight() -> torch.optim.Optimizer:
    return make_optimizer({"lr": {"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 4e-4}})


def momentum() -> tuple[float, float]:
    """The first beta at the start of the schedule and at its peak."""
    optimizer, found = one_weight(), []
    schedule = make_schedule(optimizer, [4e-4], TrainOptions(warmup_steps=3), 10)
    for _ in range(10):
        found.append(round(optimizer.param_groups[0]["betas"][0], 2))
        optimizer.step()
        schedule.step()
    return found[0], min(found)


@cache
def sampling(kind: hub.Kind, *words: str) -> dict[str, object]:
    """How a diffusion pipeline is asked to draw by ``infer_3d.py big``."""
    return asdict(Session(parse_options("", ["big", "--device", "cpu", *words], INFER_3D)).sampling(kind))


def search_step() -> int:
    """Degrees by which two frames differ that the search tells apart: of cameras one degree from each other."""
    gaussians, orbit = lopsided_gaussians(), OrbitRenderer(CameraOptions(renderer="numba"), 32)
    frames = orbit(gaussians, (37.0, 38.0))[0]
    first, second = (align.find_pose(gaussians, frame, orbit, size=32).pose.azimuth for frame in frames)
    return round(second - first)


BIG = PRESETS["big"]
TEXT = ("--prompt", "fox")
CONSTANTS: dict[str, Callable[[], object]] = {
    "warm-up peak on 1 process": lambda: peak(1),
    "warm-up peak on 8 processes": lambda: peak(8),
    "betas": lambda: one_weight().defaults["betas"],
    "weight_decay": lambda: one_weight().defaults["weight_decay"],
    "momentum of the schedule": momentum,
    "camera jitter": lambda: augment.JITTER_STRENGTH,
    "grid distortion knots": lambda: augment.GRID_KNOTS,
    "LPIPS side": lambda: lpips.MAX_SIZE,
    "log every": lambda: BIG.train.log_every,
    "preview every": lambda: BIG.train.preview_every,
    "validation every": lambda: BIG.train.eval_every,
    "save every": lambda: BIG.train.save_every,
    "ImageDream steps": lambda: sampling("imagedream")["steps"],
    "ImageDream guidance": lambda: sampling("imagedream")["guidance"],
    "ImageDream prompt": lambda: BIG.views.prompt,
    "ImageDream negative prompt": lambda: sampling("imagedream")["negative_prompt"],
    "ImageDream elevation": lambda: sampling("imagedream")["elevation"],
    "ImageDream seed": lambda: BIG.run.seed,
    "ImageDream missing": lambda: "fetched" if BIG.views.download else "stops",
    "ImageDream of the hub": lambda: hub.PUBLISHED["imagedream"],
    "device": lambda: BIG.run.device,
    "precision": lambda: BIG.infer.precision,
    "opacity in PLY files": lambda: outputs.MIN_OPACITY,
    "frame rate of turntables": lambda: turntable.FPS,
    "border around the object": lambda: background.BORDER,
    "turntable of a picture": lambda: len(turntable.STILL_AZIMUTHS),
    "turntable of a sequence": lambda: len(turntable.AZIMUTHS),
    "frames a second": lambda: BIG.input.fps,
    "azimuth search": search_step,
    "most chunks": lambda: "none" if len(list(overlapping_chunks(range(2000), 16))) == 134 else "some",
    "prompt": lambda: BIG.views.prompt,
    "negative prompt": lambda: sampling("mvdream", *TEXT)["negative_prompt"],
    "guidance of a text": lambda: sampling("mvdream", *TEXT)["guidance"],
    "MVDream of the hub": lambda: hub.PUBLISHED["mvdream"],
    "elevation": lambda: sampling("mvdream", *TEXT)["elevation"],
    "steps": lambda: sampling("mvdream", *TEXT)["steps"],
    "seed": lambda: BIG.run.seed,
}


@rows("constant")
def test_constants(row: dict[str, str]) -> None:
    found = as_text(CONSTANTS[row["item"]]())
    if "peak" in row["item"]:
        assert int(found) == pytest.approx(int(here(row)), abs=1)
    else:
        assert found == here(row)


def test_the_rate_of_the_table_is_that_of_videos() -> None:
    """29.97 frames a second are halved, as the table says."""
    assert select_frames(100, Fraction(30000, 1001), 15.0)[1] == Fraction(15000, 1001)


@rows("weights")
def test_weights_have_their_command(row: dict[str, str]) -> None:
    pages = "".join(path.read_text() for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")))
    fetched = " ".join(re.findall(rf"hf download {row['item']} ([^\n]+)", pages)).split()
    assert set(row["published"].split()) <= set(fetched)


@rows("clip")
def test_clips(row: dict[str, str], tmp_path: Path) -> None:
    clips.write_clip(tmp_path / "x.tar", {rig.View(7, 0.0, 0.0): [clips.encode(np.zeros((4, 4, 4), np.uint8))]})
    with tarfile.open(tmp_path / "x.tar") as tar:
        assert f"./{here(row)}".replace("VVV", "007").replace("TTT", "000") in tar.getnames()


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
