"""Options: which script offers what, published defaults and command lines, limits of every number."""

from __future__ import annotations

import logging
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from core.cli import help_texts, parse_options, run
from core.errors import UserError
from core.options import PRESET_HELP, PRESETS, Options
from core.options.offers import CONVERT, EVAL, INFER_3D, INFER_4D, PUBLISHED, REFINE_4D, SWITCHES, TRAIN, Offer, plain

ROOT = Path(__file__).resolve().parents[1]
SECTIONS = {section.name: getattr(Options(), section.name) for section in fields(Options)}
EVERY_OPTION = {f"{name}.{field.name}" for name, section in SECTIONS.items() for field in fields(section)}
OFFERS = {
    "main": TRAIN,
    "infer_3d": INFER_3D,
    "infer_4d": INFER_4D,
    "refine_4d": REFINE_4D,
    "eval": EVAL,
    "convert": CONVERT,
}
PUBLISHED_LINES = [
    ("infer_3d", "big --workspace results --resume recon.safetensors --num_frames 1 --test_path data_test/x.mp4"),
    (
        "infer_4d",
        "big --workspace results --resume recon.safetensors --interpresume interp.safetensors --num_frames 16 "
        "--test_path data_test/x.mp4",
    ),
    (
        "main",
        "big --workspace runs/recon --resume model_fixrot.safetensors --data_mode 4d --num_epochs 200 "
        "--prob_cam_jitter 0 --datalist data_train/datalist_8fps.txt",
    ),
    (
        "main",
        "big --workspace runs/interp --resume runs/recon/model.safetensors --data_mode 4d_interp --num_frames 4 "
        "--num_epochs 200 --prob_cam_jitter 0 --prob_grid_distortion 0 --datalist data_train/datalist_24fps.txt",
    ),
]


def test_every_preset_is_described() -> None:
    assert PRESETS.keys() == PRESET_HELP.keys()


def test_published_presets_keep_the_published_numbers() -> None:
    lrm, big, tiny = PRESETS["lrm"], PRESETS["big"], PRESETS["tiny"]
    assert (lrm.data.num_views, lrm.train.batch_size, lrm.data.output_size) == (12, 8, 256)
    assert (big.data.num_views, big.train.batch_size, big.data.output_size, big.model.splat_size) == (8, 1, 512, 128)
    assert (tiny.data.num_views, tiny.train.batch_size) == (8, 16)
    assert big.model.architecture == "l4gm" and PRESETS["nano"].model.architecture == "nano"
    assert big.data.num_frames == 8 and big.infer.interpolate_rate == 3


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
def test_a_command_line_is_flat(offer: Offer) -> None:
    """Names that a script takes are unique, those of the help's groups included, and belong to options."""
    assert set(offer.taken) <= EVERY_OPTION
    counts = Counter([*map(plain, offer.taken), *offer.groups, *SWITCHES])
    assert [name for name, count in counts.items() if count > 1] == []


def test_every_option_has_a_script_and_a_help_text() -> None:
    shown = {name for offer in OFFERS.values() for names in offer.shown.values() for name in names}
    assert shown == EVERY_OPTION
    for section in SECTIONS.values():
        described = {name for name, text in help_texts(type(section)).items() if text}
        assert described == {field.name for field in fields(section)}


@pytest.mark.parametrize(("script", "line"), PUBLISHED_LINES)
def test_published_command_lines_parse(script: str, line: str) -> None:
    options = parse_options("", line.split(), OFFERS[script])
    words = line.split()[1:]
    for flag, value in zip(words[::2], words[1::2], strict=True):
        (found,) = (getattr(section, flag[2:]) for section in sections(options) if hasattr(section, flag[2:]))
        assert str(found) == value or float(found) == float(value)


def sections(options: Options) -> Iterator[object]:
    return (getattr(options, section.name) for section in fields(options))


@pytest.mark.parametrize("script", ["main", "infer_3d", "infer_4d"])
def test_published_options_are_taken_by_every_published_program(script: str, caplog: pytest.LogCaptureFixture) -> None:
    """As in the published programs, which all take all of them; one line names those that do nothing here."""
    published = PUBLISHED | {f"model.{field.name}" for field in fields(SECTIONS["model"])}
    assert {plain(name) for name in published} <= {plain(name) for name in OFFERS[script].taken}
    caplog.set_level(logging.INFO)
    options = parse_options("", "big --force_cuda_rast --fancy-video --batch_size 1".split(), OFFERS[script])
    assert options == PRESETS["big"]
    (said,) = caplog.messages
    assert "--force_cuda_rast --fancy_video" in said and ("--batch_size" in said) == (script != "main")


@pytest.mark.parametrize("script", ["infer_3d", "infer_4d", "eval"])
@pytest.mark.parametrize("flag", ["--ema_decay 0.5", "--compile", "--prob_mirror 0.1"])
def test_options_of_training_are_not_offered_elsewhere(script: str, flag: str) -> None:
    with pytest.raises(UserError, match=f"Unrecognized options: {flag.split()[0]}"):
        parse_options("", ["nano", *flag.split()], OFFERS[script])


@cache
def help_of(script: str) -> str:
    done = subprocess.run(
        [sys.executable, f"{script}.py", "nano", "--help"],
        cwd=ROOT, env={"COLUMNS": "80"}, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return done.stdout


@pytest.mark.parametrize("script", ["infer_3d", "infer_4d", "eval"])
def test_help_fits_on_two_screens_of_80_columns(script: str) -> None:
    text = help_of(script)
    assert len(text.splitlines()) <= 100
    assert "--lr " not in text and "--down_channels" not in text
    first = text.partition("options ─")[2].partition("╰")[0]
    assert "--workspace" in first and "--resume" in first and "--device" in first


def numbers() -> Iterator[tuple[str, str, type]]:
    """Section, option and type of every number, tuples of numbers included."""
    for name, section in SECTIONS.items():
        for option, hint in get_type_hints(type(section)).items():
            kinds = {hint, *get_args(hint)} & {int, float}
            yield from ((name, option, kind) for kind in kinds)


def test_the_options_have_numbers() -> None:
    assert {("model", "down_channels", int), ("views", "guidance_scale", float)} <= set(numbers())


@pytest.mark.parametrize(("section", "option", "kind"), list(numbers()))
def test_every_number_has_limits(section: str, option: str, kind: type) -> None:
    """NaN, infinity and what no machine could hold are refused by name; the default is within the limits."""
    options = SECTIONS[section]
    bad = [math.nan, math.inf, -math.inf] if kind is float else []
    for value in (*bad, 10**12, -(10**12)):
        default = getattr(options, option)
        given = (value, *default[1:]) if isinstance(default, tuple) else value
        with pytest.raises(UserError, match=f"--{option} is .* must lie between"):
            replace(options, **{option: given})


@pytest.mark.parametrize(
    "line",
    [
        "--interpolate_rate 1000000000",
        "--interp_batch 1000000000",
        "--chunk_workers 1000000000",
        "--output_size 100000",
        "--input_size 65536",
        "--down_channels -24 48 96 128 192",
        "--down_channels 24 48 96 128 1000000",
        "--view_azimuths nan 90 180 270",
        "--guidance_scale nan",
        "--fps 1e-9",
        "--num_frames 0",
        "--device gpu",
    ],
)
def test_values_that_cannot_be_end_in_one_line(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run(lambda: parse_options("", ["nano", *line.split()], INFER_4D))
    assert stop.value.code == 2
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert said.startswith(f"error: {line.split()[0]} is ")


@pytest.mark.parametrize("value", ["nan", "-1", "5"])
def test_probabilities_are_probabilities(value: str) -> None:
    with pytest.raises(UserError, match=r"--prob_view_dropout is .* must lie between 0 and 1"):
        parse_options("", ["nano", "--prob_view_dropout", value])


@pytest.mark.parametrize(
    ("old", "section", "option", "value"),
    [
        ("--handover last", "side_views", "chunk_side_views", "previous"),
        ("--handover=last", "side_views", "chunk_side_views", "previous"),
        ("--handover first", "side_views", "chunk_side_views", "first"),
        ("--interp_sides ends", "side_views", "inserted_side_views", "blend"),
        ("--interp-sides=first", "side_views", "inserted_side_views", "first"),
        ("--seeder files", "side_views", "view_generator", "files"),
        ("--chunk_lanes 3", "infer", "chunk_workers", 3),
    ],
)
def test_options_of_the_version_before_keep_their_meaning(old: str, section: str, option: str, value: object) -> None:
    options = parse_options("", ["nano", *old.split(), "--test_path", "last"], INFER_4D)
    assert getattr(getattr(options, section), option) == value
    assert options.infer.test_path == "last"


def test_autoregression_in_training_keeps_its_old_name() -> None:
    assert parse_options("", ["big", "--input_sides", "own"], TRAIN).side_views.side_views == "previous"


def test_only_nano_falls_back_to_another_view_generator() -> None:
    generators = {name: options.side_views.view_generator for name, options in PRESETS.items()}
    assert generators.pop("nano") == "auto"
    assert set(generators.values()) == {"published"}
