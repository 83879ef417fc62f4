"""The four command lines of the published README, verbatim and through the command ``l4gm``, in small.

Networks are tiny, ImageDream too, and the video of the published name is made here.
"""

from __future__ import annotations

import csv
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from accelerate.commands.launch import _validate_launch_command, launch_command_parser

from core.checkpoint import read_tensors
from core.options import PRESETS
from l4gm import __main__ as l4gm
from tests.tiny import TINY_MODEL, Call, files, metadata, square_video, write_checkpoint
from tests.tiny_training import ROOT, log_of

pytest_plugins = ["tests.infer_place"]
pytestmark = pytest.mark.usefixtures("place", "one_thread")

GENERATE_3D = r"""
python infer_3d.py big --workspace results --resume pretrained/recon.safetensors --num_frames 1 --test_path data_test/otter-on-surfboard_fg.mp4
"""  # noqa: E501
GENERATE_4D = r"""
python infer_4d.py big --workspace results --resume pretrained/recon.safetensors --interpresume pretrained/interp.safetensors --num_frames 16 --test_path data_test/otter-on-surfboard_fg.mp4
"""  # noqa: E501
TRAIN_RECONSTRUCTION = r"""
accelerate launch \
    --config_file acc_configs/gpu8.yaml \
    main.py big \
    --workspace workspace_recon \
    --resume pretrained/model_fixrot.safetensors \
    --data_mode 4d \
    --num_epochs 200 \
    --prob_cam_jitter 0 \
    --datalist data_train/datalist_8fps.txt \
"""
TRAIN_INTERPOLATION = r"""
accelerate launch \
    --config_file acc_configs/gpu8.yaml \
    main.py big \
    --workspace workspace_interp \
    --resume workspace_recon/model.safetensors \
    --data_mode 4d_interp \
    --num_frames 4 \
    --num_epochs 200 \
    --prob_cam_jitter 0 \
    --prob_grid_distortion 0 \
    --datalist data_train/datalist_24fps.txt \
"""
VIDEO = "otter-on-surfboard_fg"
GIVEN_SIDE_VIEWS = PRESETS["big"].side_views  # those of the real preset; `place` has others
with (ROOT / "docs/published.csv").open(newline="") as table:
    OUTPUTS = [row for row in csv.DictReader(table) if row["kind"] == "output"]
FAST = {"max_steps": 2, "batch_size": 1, "lambda_lpips": 0.0, "mixed_precision": "no", "eval_lpips": False}


def script_and_options(line: str) -> tuple[str, str]:
    """The script of a command line, such as ``main``, and its options; a launcher's own options are checked."""
    words = shlex.split(line.replace("\\\n", " "))
    place = next(index for index, word in enumerate(words) if word.endswith(".py"))
    if words[:2] == ["accelerate", "launch"]:
        launch = [str(ROOT / word) if word.startswith("acc_configs/") else word for word in words[2 : place + 1]]
        arguments, _, _ = _validate_launch_command(launch_command_parser().parse_args(launch))
        assert (arguments.num_processes, arguments.mixed_precision) == (8, "bf16")
    else:
        assert words[:place] == ["python"]
    return Path(words[place]).stem, " ".join(words[place + 1 :])


Start = Callable[[str], tuple[int, str]]


@pytest.fixture(params=["as written", "l4gm"])
def start(request: pytest.FixtureRequest, call: Call, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Run a command line: its script, or that script's name after ``l4gm``; exit status and what went to stderr."""
    names = {script: name for name, (script, _) in l4gm.COMMANDS.items()}

    def through_l4gm(line: str) -> tuple[int, str]:
        script, options = script_and_options(line)
        module = ModuleType("published_command")
        module.main = l4gm.main
        monkeypatch.setitem(sys.modules, "published_command", module)
        return call("published_command", f"{names[script]} {options}")

    return through_l4gm if request.param == "l4gm" else lambda line: call(*script_and_options(line))


def expected_outputs(video: str | None) -> set[str]:
    """The published names of files in the table that exist here: those of a video, or of a training."""
    names = [row["published"] if row["here"] == "same" else row["here"] for row in OUTPUTS]
    return {name.replace("NAME", video or "") for name in names if ("NAME" in name) == bool(video)}


@pytest.mark.usefixtures("weights")
def test_inference(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """With ImageDream, as published; infer_4d takes over its views."""
    big = PRESETS["big"]
    views = replace(big.views, diffusion_steps=2)
    monkeypatch.setitem(PRESETS, "big", replace(big, views=views, side_views=GIVEN_SIDE_VIEWS))
    square_video(Path(f"data_test/{VIDEO}.mp4"), 2)
    assert start(GENERATE_3D) == (0, "")
    assert metadata(f"results/{VIDEO}_metadata_3d.json")["side_views"]["origin"] == "ImageDream"
    assert start(GENERATE_4D) == (0, "")
    names = expected_outputs(VIDEO)
    assert len(names) == 15
    assert names <= files()


@pytest.fixture
def training_place(place: Path, training_clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clips, lists and LGM weights where the README expects them; runs of two steps."""
    Path("data_train").mkdir()
    for name in ("datalist_8fps.txt", "datalist_24fps.txt"):
        Path("data_train", name).write_text((training_clips / "train.txt").read_text())
    monkeypatch.setenv("DATA_HOME", f"{training_clips}/")
    write_checkpoint(Path("pretrained/model_fixrot.safetensors"), model=replace(TINY_MODEL, use_temp_attn=False))
    big = PRESETS["big"]
    data = replace(big.data, num_views=8, num_workers=0)
    train = replace(big.train, **FAST, log_every=1, preview_every=1, tracker="none")
    monkeypatch.setitem(PRESETS, "big", replace(big, data=data, train=train))


def test_training(training_place: None, start: Start) -> None:
    """From LGM's weights to reconstruction, from there to interpolation."""
    for line, workspace in ((TRAIN_RECONSTRUCTION, "workspace_recon"), (TRAIN_INTERPOLATION, "workspace_interp")):
        status, text = start(line)
        assert status == 0, text
        names = {name.replace("E_I", "0_2").replace("STEP", "00000002") for name in expected_outputs(None)}
        assert len(names) == 6
        assert all(Path(workspace, name).exists() for name in names)
        assert [record["step"] for record in log_of(Path(workspace))] == [1, 2]
        assert any("t_attns" in name for name in read_tensors(Path(workspace, "model.safetensors"))[0])
        (record,) = log_of(Path(workspace), "start")
        assert ("model_fixrot" if workspace == "workspace_recon" else "workspace_recon/model") in record["decision"]
