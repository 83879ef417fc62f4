"""eval.py from the command line to tables and files, with a tiny network on tiny clips."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from core.architectures import build_model
from core.cameras import orbit_cameras
from core.checkpoint import save_weights
from core.data.clips import Clip
from core.evaluation.ground_truth import find_view
from core.evaluation.systems import stack
from core.images import to_uint8
from core.rendering import make_renderer
from tests.evaluation_place import write_clips, write_protocol
from tests.tiny import TINY_MODEL, Call, lopsided_gaussians, write_checkpoint

pytest_plugins = ["tests.infer_place"]
pytestmark = pytest.mark.usefixtures("place")
LINE = "nano --protocols views.toml --data_home clips --lpips_images 2 --resume pretrained/recon.safetensors"


def results(name: str = "views") -> dict:
    return json.loads(Path(f"results/{name}.json").read_text())


def test_a_checkpoint_and_its_baselines_are_evaluated(call: Call) -> None:
    write_clips(Path("clips"))
    write_protocol(Path())
    status, _ = call("eval", LINE)
    assert status == 0
    found = results()
    variants = ["frozen", "framewise", "oracle_sides"]
    assert list(found["systems"]) == ["recon", *(f"recon: {name}" for name in variants), "hull", "mean", "ground truth"]
    assert found["summary"]["all"]["objects"] == 2
    scores = found["systems"]["recon"]["p-cow-0"]
    own, frozen = (found["systems"][name]["p-cow-0"]["times"]["psnr"] for name in ("recon", "recon: frozen"))
    assert own[0] == pytest.approx(frozen[0]) and own[1] != frozen[1]
    assert sum(scores["times"]["psnr"]) / 3 == pytest.approx(scores["means"]["psnr"], abs=1e-4)
    assert set(scores["views"]) == {f"random_{view:02d}" for view in range(4)}
    assert scores["counts"] == {"psnr": 12, "ssim": 12, "lpips": 2, "iou": 12, "flicker": 8, "warp": 8}
    assert set(found["systems"]["ground truth"]["p-cow-0"]["means"]) == {"warp"}
    assert {path.name for path in Path("results/views").iterdir()} == {"p-cow-0.png", "p-fish-0.png"}
    assert "| recon: frozen |" in Path("results/views.md").read_text()
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
    write_protocol(Path(), "still", task="'still'", frames="3", chunk="2")
    line = LINE.replace("views.toml", "one.toml still.toml") + " --baselines"
    assert call("eval", line)[0] == 0
    # One image, repeated: every frame scores about as the first one alone.
    one, still = (results(name)["systems"]["recon"]["p-cow-0"]["means"] for name in ("one", "still"))
    assert still["psnr"] == pytest.approx(one["psnr"], abs=1.0)
    assert "flicker" not in one
    # Equal frames of one chunk give equal Gaussians; changes occur at the border to the next chunk.
    assert still["flicker"] == pytest.approx(still["flicker_worst"] / 2, rel=1e-3) and still["flicker"] > 0


@pytest.mark.parametrize("sides", ["blend", "first"])
def test_inserted_frames_are_compared_with_blends_of_their_neighbours(call: Call, sides: str) -> None:
    write_clips(Path("clips"))
    fields = {"task": "'interpolate'", "frames": "4", "frame_rate": "24", "objects": "['p-cow-0']"}
    write_protocol(Path(), **fields)
    assert call("eval", f"{LINE} --interpresume pretrained/interp.safetensors --interp_sides {sides}")[0] == 0
    systems = results()["systems"]
    assert list(systems) == ["recon", "recon: oracle_front", "recon: blend", "recon: hold", "ground truth"]
    assert systems["recon"]["p-cow-0"]["counts"]["psnr"] == 2 * 4
    assert systems["recon: blend"]["p-cow-0"]["means"] != systems["recon: hold"]["p-cow-0"]["means"]


@pytest.mark.parametrize("task", ["reconstruct", "interpolate"])
def test_the_refined_object_is_measured_on_request(call: Call, task: str) -> None:
    write_clips(Path("clips"))
    rate = "24" if task == "interpolate" else "8"
    fields = {"task": f"'{task}'", "frames": "4", "frame_rate": rate, "objects": "['p-cow-0']"}
    write_protocol(Path(), **fields)
    few = "--nodes 8 --canonical_steps 1 --track_steps 1 --joint_steps 1 --baselines frozen"
    assert call("eval", f"{LINE} --interpresume pretrained/interp.safetensors --refine {few}")[0] == 0
    systems = results()["systems"]
    assert list(systems)[:2] == ["recon", "recon: refined"]
    own, refined = (systems[name]["p-cow-0"]["means"]["psnr"] for name in ("recon", "recon: refined"))
    assert own != refined


def test_oracles_see_ground_truth_that_no_video_shows(call: Call) -> None:
    write_clips(Path("clips"))
    fields = {"frames": "2", "objects": "['p-cow-0']"}
    write_protocol(Path(), **fields)
    write_protocol(Path(), "inserted", task="'interpolate'", frames="4", frame_rate="24", objects="['p-cow-0']")
    write_protocol(Path(), "all", frames="4", frame_rate="24", objects="['p-cow-0']")
    line = LINE.replace("views.toml", "views.toml inserted.toml all.toml") + " --baselines oracle_sides oracle_front"
    assert call("eval", f"{line} --interpresume pretrained/interp.safetensors")[0] == 0
    own, bound = (results()["systems"][name]["p-cow-0"]["times"]["psnr"] for name in ("recon", "recon: oracle_sides"))
    assert own[1] != bound[1]
    oracle = results("inserted")["systems"]["recon: oracle_front"]["p-cow-0"]["times"]["psnr"]
    every = results("all")["systems"]["recon"]["p-cow-0"]["times"]["psnr"]
    assert oracle == pytest.approx(every[1:3], abs=1e-4)


def test_psnr_is_reported_by_chunk_for_both_sources_of_side_views(call: Call) -> None:
    write_clips(Path("clips"))
    fields = {"task": "'autoregress'", "frames": "3", "chunk": "3", "chunks": "4", "objects": "['p-cow-0']"}
    write_protocol(Path(), **fields)
    assert call("eval", f"{LINE} --chunk_side_views previous")[0] == 0
    own, first_sides = (results()["systems"][name]["p-cow-0"]["means"] for name in ("recon", "recon: first_sides"))
    curve = [own[f"psnr_{chunk:02d}"] for chunk in (1, 2, 3, 4)]
    assert (own["psnr_first"], own["psnr_last"]) == (curve[0], curve[-1])
    assert own["psnr_lost"] == pytest.approx(curve[0] - curve[-1], abs=1e-4)
    assert own["psnr_first"] == first_sides["psnr_first"] and curve[1] != first_sides["psnr_02"]
    # The side views stay, the frames come back: chunk 3 is chunk 1.
    assert first_sides["psnr_03"] == pytest.approx(first_sides["psnr_01"], abs=1e-4)
    write_protocol(Path(), "fixed", **fields, chunk_side_views="'previous'")
    assert call("eval", f"{LINE} --handover first".replace("views.toml", "views.toml fixed.toml"))[0] == 0
    fixed = results("fixed")["systems"]
    assert fixed["recon"]["p-cow-0"]["means"] == own, "what the protocol names goes before the option"
    assert fixed["recon: first_sides"]["p-cow-0"]["means"] == first_sides
    other = results()["systems"]
    assert (
        other["recon"]["p-cow-0"]["means"] == first_sides and other["recon: previous_sides"]["p-cow-0"]["means"] == own
    )


def test_side_views_may_be_absent_or_generated(call: Call) -> None:
    write_clips(Path("clips"))
    for sides in ("given", "none", "generated"):  # given: the name in old protocol files
        write_protocol(Path(), sides, frames="2", side_views=f"'{sides}'", objects="['p-cow-0']")
    line = LINE.replace("views.toml", "given.toml none.toml generated.toml") + " --baselines --lpips_images 1"
    assert call("eval", line.replace("--baselines", "--baselines hull mean"))[0] == 0
    assert list(results("given")["systems"]) == ["recon", "hull", "mean", "ground truth"]
    assert list(results("none")["systems"]) == ["recon", "mean", "ground truth"]  # one silhouette makes no hull
    values = [
        results(sides)["systems"]["recon"]["p-cow-0"]["means"]["psnr"] for sides in ("given", "none", "generated")
    ]
    assert len(set(values)) == 3


def test_a_checkpoint_of_training_holds_its_network_options(call: Call) -> None:
    write_clips(Path("clips"))
    write_protocol(Path(), frames="2")
    other = replace(TINY_MODEL, down_channels=(16, 32, 32), up_channels=(32, 32), norm_groups=8, use_temp_attn=False)
    model = build_model(other)
    save_weights(model, "other.safetensors", options=json.dumps({"model": asdict(other)}))
    assert call("eval", f"{LINE} --compare other.safetensors --baselines")[0] == 0
    assert set(results()["systems"]) == {"recon", "other", "ground truth"}


def test_saved_images_score_like_the_network_that_made_them(call: Call) -> None:
    write_clips(Path("clips"))
    write_protocol(Path(), background="[0.2, 0.5, 1]")
    assert call("eval", f"{LINE} --baselines --save_predictions")[0] == 0
    own = results()["systems"]["recon"]["p-cow-0"]["means"]
    folder = Path("results/views/predictions/recon").rename("elsewhere")
    assert call("eval", f"{LINE} --baselines --predictions {folder} --resume None")[0] == 0
    read = results()["systems"]["elsewhere"]["p-cow-0"]["means"]
    assert read == pytest.approx(own, abs=0.02)
    assert read["psnr"] != own["psnr"]  # rounded to 255 levels
    (folder / "p-cow-0" / "random_01" / "002.png").unlink()
    status, error = call("eval", f"{LINE} --baselines --predictions {folder} --resume None")
    assert status == 2 and "differ in their number of frames" in error and "'random_01': 2" in error


def test_ground_truth_may_lie_in_folders(call: Call) -> None:
    """A protocol on clips and the same images as folders give the same numbers."""
    write_clips(Path("clips"))
    common = {"frames": "2", "azimuths": "[45, 90]", "objects": "['p-cow-0']"}
    write_protocol(Path(), "tars", **common)
    write_protocol(Path(), "files", source="'folders'", **common)
    clip = Clip(Path("clips"), "p-cow-0")
    for azimuth in (0, 45, 90, 180, 270):
        images, alpha = clip.read([find_view(clip, azimuth, 0)], [0, 1], 32)
        for t, pixels in enumerate(to_uint8(torch.cat([images, alpha], dim=2)[:, 0])):
            path = Path(f"folders/p-cow-0/{azimuth}/{t:03d}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    assert call("eval", LINE.replace("views.toml", "tars.toml"))[0] == 0
    assert call("eval", LINE.replace("views.toml", "files.toml").replace("clips", "folders"))[0] == 0
    tars, files = (results(name)["systems"] for name in ("tars", "files"))
    assert list(files) == [
        name for name in tars if name != "recon: oracle_sides"
    ]  # folders hold those of frame 0 alone
    for system, scores in files.items():
        assert scores["p-cow-0"]["means"] == pytest.approx(tars[system]["p-cow-0"]["means"], abs=0.02), system


def test_without_opencv_the_rest_is_measured(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    write_clips(Path("clips"))
    write_protocol(Path(), frames="2", objects="['p-cow-0']")
    monkeypatch.setitem(sys.modules, "cv2", None)  # as where it is not installed
    assert call("eval", f"{LINE} --baselines")[0] == 0
    assert set(results()["systems"]["recon"]["p-cow-0"]["means"]) == {"psnr", "ssim", "lpips", "iou", "flicker"}


def test_any_number_of_checkpoints_share_a_table(call: Call) -> None:
    write_clips(Path("clips"))
    write_protocol(Path(), frames="2")
    write_checkpoint(Path("still.safetensors"), seed=2, model=replace(TINY_MODEL, use_temp_attn=False))
    line = f"{LINE} --compare untimed=still.safetensors again=big:pretrained/recon.safetensors --baselines framewise"
    assert call("eval", line)[0] == 0
    systems = results()["systems"]
    # Without temporal attention, framewise is the network itself and has no row.
    assert list(systems) == ["recon", "recon: framewise", "untimed", "again", "again: framewise", "ground truth"]
    assert systems["again"] == systems["recon"] != systems["untimed"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("--protocols none.toml", "cannot read the protocol none.toml"),
        ("--data_home nowhere", "clip folder nowhere"),
        ("--predictions nowhere", "--predictions nowhere is no folder"),
        ("--compare hull=x.safetensors", "two systems are called 'hull'"),
        ("--compare pretrained/recon.safetensors", "two systems are called 'recon'"),
        ("--compare =", "--compare '=' names no checkpoint"),
        ("--compare x=big:", "--compare 'x=big:' names no checkpoint"),
        ("--compare x=none.safetensors", "checkpoint none.safetensors does not exist"),
        ("--protocols missing.toml", "fixed_16_clip-p-dog-0"),
        ("--protocols long.toml", "has 5 frames, the protocol needs 9"),
        ("--protocols turned.toml", "no view at azimuth 7, elevation 0; on the horizon it has [0.0, 45.0"),
        ("--protocols between.toml", "give --interpresume"),
    ],
)
def test_bad_input_ends_in_one_line(call: Call, change: str, said: str) -> None:
    write_clips(Path("clips"))
    write_protocol(Path())
    write_protocol(Path(), "missing", objects="['p-dog-0']")
    write_protocol(Path(), "long", frames="9")
    write_protocol(Path(), "turned", azimuths="[7]")
    write_protocol(Path(), "between", task="'interpolate'", frames="4", frame_rate="24")
    status, error = call("eval", f"{LINE} --interpresume None {change}")
    assert status == 2
    assert said in error and error.count("error:") == 1


def test_frames_with_unequal_numbers_of_gaussians_are_stacked_and_look_the_same() -> None:
    few = lopsided_gaussians()[0]
    stacked = stack([few, few.select(torch.zeros(few.num, dtype=torch.bool)), few.select(torch.arange(1))])
    cameras, renderer = orbit_cameras(torch.zeros(3, 1), size=(16, 16)), make_renderer("numba")
    images = renderer(stacked, cameras).image
    assert torch.equal(images[0], renderer(few, cameras[0]).image) and bool((images[1] == 1).all())
    assert not torch.equal(images[2], images[1])
