"""refine_4d.py and infer_4d.py --refine from the command line to the files, with a tiny network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from core.media import read_video
from core.options import PRESETS
from core.options.refine import RefineOptions
from core.ply import load_ply
from core.tracking.fit import Fit
from core.tracking.tracks import load_tracks
from tests.tiny import SHORT, Call, files, interrupted_joint_stage, metadata

pytest_plugins = ["tests.infer_place"]
pytestmark = pytest.mark.usefixtures("place", "one_thread")

RESULTS = {f"{kind}_x{end}.mp4" for kind in ("w_interp", "wo_interp") for end in ("", "_fixed")}
RESULTS |= (
    {f"x_{view:03d}.png" for view in range(4)}
    | {"x_metadata.json", "x_contact_sheet.png", "x_tracks.npz"}
    | {"x.l4gm", "x.html", "x_input.png"}
)
RESULTS |= {f"x/frame{number:04d}.ply" for number in range(1, 8)}


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    few = RefineOptions(nodes=8, canonical_steps=1, track_steps=2, joint_steps=2)
    monkeypatch.setitem(PRESETS, "nano", replace(PRESETS["nano"], refine=few))


def test_a_refined_sequence_is_one_set_that_moves(call: Call) -> None:
    """The usual files and the tracks; inserted frames come from the tracks, and no interpolation network is needed."""
    Path("pretrained/interp.safetensors").unlink()
    assert call("refine_4d", SHORT) == (0, "")
    assert files() == RESULTS
    assert (read_video("results/w_interp_x_fixed.mp4").num_frames, read_video("results/wo_interp_x.mp4").fps) == (7, 30)
    written = metadata()
    assert written["complete"] and written["refinement_finished"]
    assert (written["frame_rate"], written["refinement"]["deformation"]) == ("24", "nodes")
    tracks = load_tracks("results/x_tracks.npz")
    assert (tracks.rate, tracks.num_frames) == (8, 3)
    solid = (tracks.gaussians.opacities[0] >= 0.005).sum()
    for number in range(7):
        saved = load_ply(f"results/x/frame{number + 1:04d}.ply")
        assert saved.num == solid, "one set at all times"
        expected = tracks.at(number / 3)
        kept = expected.select(expected.opacities >= 0.005)
        torch.testing.assert_close(saved.means, kept.means, atol=1e-5, rtol=0)


def test_infer_4d_refines_on_request_alone(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call("infer_4d", f"{SHORT} --refine --deformation hexplane")[0] == 0
    assert files() == RESULTS
    monkeypatch.setattr("core.inference.programs.refined_sequence", None)
    assert call("infer_4d", SHORT)[0] == 0
    assert files() == RESULTS - {"x_tracks.npz"}, "the tracks of an earlier run do not stay beside other frames"
    assert metadata()["refinement"] is None


def test_ctrl_c_writes_the_best_so_far(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    with interrupted_joint_stage(1):
        assert call("refine_4d", SHORT)[0] == 130
    assert files() == RESULTS | {"x_refine.safetensors"}
    assert metadata()["complete"] and not metadata()["refinement_finished"]
    step, steps = Fit._joint_step, []
    monkeypatch.setattr(Fit, "_joint_step", lambda fit, number: (steps.append(number), step(fit, number)))
    assert call("refine_4d", SHORT)[0] == 0
    assert steps == [1], "the fit goes on where it was"
    assert files() == RESULTS


def test_frames_that_were_not_reached_do_not_jump_back(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    track = Fit._track_frame

    def interrupted(fit: Fit, step: int) -> None:
        if step:
            raise KeyboardInterrupt
        track(fit, step)

    monkeypatch.setattr(Fit, "_track_frame", interrupted)
    assert call("refine_4d", SHORT)[0] == 130
    first, second, third = load_tracks("results/x_tracks.npz").gaussians.means
    assert not torch.equal(first, second) and torch.equal(second, third)
