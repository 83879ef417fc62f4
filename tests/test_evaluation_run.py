"""eval.py from the command line to tables and files, with a tiny network on tiny clips."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.evaluation_place import write_clips, write_protocol
from tests.tiny import TINY_MODEL, Call, write_checkpoint

pytest_plugins = ["tests.infer_place"]
pytestmark = pytest.mark.usefixtures("place")
LINE = "nano --protocols views.toml --data_home clips --lpips_images 2 --resume pretrained/recon.safetensors"


def results(name: str = "views") -> dict:
    return json.loads(Path(f"results/{name}.json").read_text())


def test_a_checkpoint_and_its_baselines_are_measured_alike(call: Call) -> None:
    write_clips(Path("clips"))
    write_protocol(Path())
    status, _ = call("eval", LINE)
    assert status == 0
    found = results()
    assert list(found["systems"]) == ["recon", "recon: frozen", "recon: framewise"]
    assert found["summary"]["all"]["objects"] == 2
    scores = found["systems"]["recon"]["p-cow-0"]
    assert set(scores["views"]) == {f"random_{view:02d}" for view in range(4)}
    assert scores["counts"] == {"psnr": 12, "ssim": 12, "lpips": 2, "iou": 12, "flicker": 8}
    mean = sum(view["psnr"] for view in scores["views"].values()) / 4
    assert scores["means"]["psnr"] == pytest.approx(mean, abs=1e-4)
    names = ("p-cow-0", "p-fish-0")
    own, frozen = ([found["systems"][s][n]["means"]["psnr"] for n in names] for s in ("recon", "recon: frozen"))
    assert found["summary"]["all"]["systems"]["recon"]["psnr"] == pytest.approx(sum(own) / 2)
    assert own != frozen
    assert found["protocol"]["frames"] == 3 and len(found["checkpoints"][0]["checkpoints"]["network"]["sha256"]) == 64


def test_a_still_input_is_compared_with_its_first_frame(call: Call) -> None:
    write_clips(Path("clips"))
    write_protocol(Path(), "one", frames="1")
    write_protocol(Path(), "still", task="'still'", frames="3")
    line = LINE.replace("views.toml", "one.toml still.toml") + " --baselines"
    assert call("eval", line)[0] == 0
    # One image again and again: the truth is the first frame, every set scores about as the first alone.
    one, still = (results(name)["systems"]["recon"]["p-cow-0"]["means"] for name in ("one", "still"))
    assert still["psnr"] == pytest.approx(one["psnr"], abs=1.0)
    assert still["flicker"] >= 0 and "flicker" not in one


def test_any_number_of_checkpoints_share_a_table(call: Call) -> None:
    write_clips(Path("clips"))
    write_protocol(Path(), frames="2")
    write_checkpoint(Path("still.safetensors"), seed=2, model=replace(TINY_MODEL, use_temp_attn=False))
    line = f"{LINE} --compare untimed=still.safetensors again=big:pretrained/recon.safetensors --baselines framewise"
    assert call("eval", line)[0] == 0
    systems = results()["systems"]
    # Without temporal attention frame by frame is the network itself and gets no row of its own.
    assert list(systems) == ["recon", "recon: framewise", "untimed", "again", "again: framewise"]
    assert systems["again"] == systems["recon"] != systems["untimed"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("--protocols none.toml", "cannot read the protocol none.toml"),
        ("--data_home nowhere", "clip folder nowhere"),
        ("--compare pretrained/recon.safetensors", "two systems are called 'recon'"),
        ("--compare x=none.safetensors", "checkpoint none.safetensors does not exist"),
        ("--protocols missing.toml", "fixed_16_clip-p-dog-0"),
        ("--protocols long.toml", "has 5 frames, the protocol asks for 9"),
        ("--protocols turned.toml", "no view at azimuth 7, elevation 0; on the horizon it has [0.0, 45.0"),
        ("--protocols between.toml", "give --interpresume"),
    ],
)
def test_what_cannot_be_ends_in_one_line(call: Call, change: str, said: str) -> None:
    write_clips(Path("clips"))
    write_protocol(Path())
    write_protocol(Path(), "missing", objects="['p-dog-0']")
    write_protocol(Path(), "long", frames="9")
    write_protocol(Path(), "turned", azimuths="[7]")
    write_protocol(Path(), "between", task="'interpolate'", frames="4", frame_rate="24")
    status, error = call("eval", f"{LINE} --interpresume None {change}")
    assert status == 2
    assert said in error and error.count("error:") == 1
