"""Training of the motion network: samples that stay true under every augmentation, exact resuming, bad input."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import train_motion
from blender_scripts import clips as tars
from blender_scripts.export_points import followed, rendered
from core.errors import UserError
from core.gaussians import Gaussians
from core.motion.augment import Samples, recoloured, rolled
from core.motion.samples import MovingClip, SampleMaker, load_clip, points_path, rigid_motion
from core.motion.training import MotionTraining
from core.options import PRESETS
from core.options.motion import MotionTrainOptions
from core.rendering import configured_renderer
from core.tensor_files import read_tensors
from core.tracking.motion_network import Motion, mirrored_motion, mirrored_pose
from core.tracking.pose import Pose, posed
from core.tracking.prediction import compared, object_share
from core.training.log import read_log
from tests.clip_factory import write_clip
from tests.tiny import lopsided_gaussians

pytestmark = pytest.mark.usefixtures("one_thread")

CAMERA = PRESETS["nano"].camera
RENDERER = configured_renderer(CAMERA, torch.device("cpu"))
LINES = ("pack-one-000-00.tar", "pack-two-000-00.tar")


def turning_clip(frames: int = 4) -> MovingClip:
    """The lopsided rod, which turns about all axes; its images are renders of it, its points its centres."""
    first = lopsided_gaussians()[0]
    images, points = [], []
    for time in range(frames):
        turn, shift = torch.tensor([0.1, 0.2, 0.15]) * time, torch.tensor([0.02, 0.0, 0.03]) * time
        now = posed(first, Pose(turn, shift), torch.zeros(3))
        from core.rendering.orbit import OrbitRenderer

        images.append(OrbitRenderer(CAMERA, 128)(now[None])[0])
        points.append(now.means)
    share = object_share(first, CAMERA)
    return MovingClip((255 * torch.stack(images)).round().byte(), torch.stack(points), first, share, "pack")


@pytest.fixture(scope="module")
def maker() -> SampleMaker:
    return SampleMaker([turning_clip()], RENDERER, CAMERA, 0.5)


def disagreement(samples: Samples) -> float:
    """Mean squared difference of the frames and the sets in the pose that brings the points where they are."""
    pose = rigid_motion(samples.before, samples.after, samples.centres)
    pairs = compared(RENDERER, CAMERA, posed(samples.sets, pose, samples.centres), samples.frames, samples.shares)
    return float((pairs[:, :3] - pairs[:, 3:6]).square().mean())


def test_in_the_true_pose_every_sample_looks_like_its_frame(maker: SampleMaker) -> None:
    """Turned cameras, rolls, new colours, and renders in random poses included."""
    for seed in range(4):
        samples = maker.draw(8, np.random.default_rng(seed))
        assert disagreement(samples) < 2e-3
        wrong = replace(samples, after=samples.before)
        assert disagreement(wrong) > 4 * disagreement(samples)


@pytest.mark.parametrize("change", [rolled, recoloured])
def test_a_change_of_samples_leaves_what_they_show_true(maker: SampleMaker, change: object) -> None:
    samples = maker.draw(8, np.random.default_rng(0))
    changed = change(samples, np.random.default_rng(1))
    assert (changed.frames - samples.frames).abs().mean() > 1e-3
    assert disagreement(changed) < 2e-3
    # A start that was true stays true.
    start = rigid_motion(samples.before, samples.after, samples.centres)
    changed = change(replace(samples, start=start), np.random.default_rng(1))
    true = rigid_motion(changed.before, changed.after, changed.centres)
    torch.testing.assert_close(changed.start.turn, true.turn, atol=1e-3, rtol=0)
    torch.testing.assert_close(changed.start.shift, true.shift, atol=1e-3, rtol=0)


def test_a_mirrored_motion_moves_mirrored_points() -> None:
    draw = torch.Generator().manual_seed(0)
    pose = Pose(torch.randn(3, 3, generator=draw), torch.randn(3, 3, generator=draw))
    motion = Motion(pose, torch.randn(3, 3, 4, 4, 4, generator=draw), torch.ones(3))
    rows, points = torch.tensor([True, False, True]), torch.randn(3, 20, 3, generator=draw)
    flip = torch.tensor([-1.0, 1.0, 1.0])
    signs = torch.where(rows[:, None, None], flip, torch.ones(3))
    for mirrored, plain in zip(
        mirrored_motion(motion, rows).places(points * signs, torch.zeros(3, 3)),
        motion.places(points, torch.zeros(3, 3)),
        strict=True,
    ):
        torch.testing.assert_close(mirrored * signs, plain, atol=1e-5, rtol=0)
    twice = mirrored_pose(mirrored_pose(pose, rows), rows)
    assert all(torch.equal(a, b) for a, b in zip(twice, pose, strict=True))


@pytest.mark.parametrize("angle", [0.0, 0.3, math.pi])
def test_the_rigid_motion_of_points_is_found(angle: float) -> None:
    points = torch.randn(2, 30, 3, generator=torch.Generator().manual_seed(0))
    axis = torch.nn.functional.normalize(torch.tensor([[1.0, 2.0, -1.0], [0.0, 1.0, 0.0]]), dim=-1)
    centres, pose = torch.tensor([[0.1, 0.0, 0.2], [0.0, 0.3, 0.0]]), Pose(angle * axis, torch.ones(2, 3))
    found = rigid_motion(points, pose.applied_to(points, centres), centres)
    torch.testing.assert_close(found.applied_to(points, centres), pose.applied_to(points, centres), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.turn.norm(dim=-1), torch.full((2,), angle), atol=1e-3, rtol=0)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips with surfaces, and their list."""
    home = tmp_path_factory.mktemp("clips")
    draw = np.random.default_rng(0)
    for line in LINES:
        write_clip(home, line)
        points = draw.normal(size=(1, 600, 3)) * 0.2 + np.arange(4)[:, None, None] * np.array([0.05, 0, 0])
        np.save(points_path(home, line), points.astype(np.float32))
    (home / "list.txt").write_text("\n".join(LINES))
    return home


def options_for(home: Path, workspace: Path, **changes: object) -> MotionTrainOptions:
    values = {"data_home": str(home), "datalist": str(home / "list.txt"), "workspace": str(workspace), "warmup": 1}
    return MotionTrainOptions(**{**values, "steps": 4, "batch_size": 2, "save_every": 2, "log_every": 1, **changes})


def test_a_resumed_run_is_the_uninterrupted_one_to_the_bit(home: Path, tmp_path: Path) -> None:
    MotionTraining(options_for(home, tmp_path / "whole", datalist_val=str(home / "list.txt"))).run()
    first = MotionTraining(options_for(home, tmp_path / "parts"))
    step = first._step
    first._step = lambda: (step()[0], first.progress.step == 1)  # as after SIGTERM
    first.run()
    assert first.progress.step == 2
    MotionTraining(options_for(home, tmp_path / "parts")).run()
    whole, parts = (read_tensors(tmp_path / name / "model.safetensors")[0] for name in ("whole", "parts"))
    assert whole.keys() == parts.keys() and all(torch.equal(whole[name], parts[name]) for name in whole)
    records = read_log(tmp_path / "whole")
    assert [record["step"] for record in records if record["kind"] == "validation"] == [2, 4]
    assert {"rigid", "bent", "total", "lr"} <= records[1].keys()


def test_training_teaches_one_clip(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within 40 steps its distances fall by a tenth."""
    monkeypatch.setattr("core.motion.training.load_clip", lambda *_: turning_clip())
    MotionTraining(options_for(home, tmp_path, steps=40, batch_size=8, save_every=40, lr=2e-3)).run()
    found = [record["bent"] for record in read_log(tmp_path) if record["kind"] == "train"]
    assert np.mean(found[-15:]) < 0.9 * np.mean(found[:10]), found


def test_clips_without_their_surface_are_refused(home: Path, tmp_path: Path) -> None:
    from core.inference.session import Session

    network = Session(PRESETS["nano"]).network
    write_clip(tmp_path, LINES[0])
    with pytest.raises(UserError, match=r"points-pack-one-000-00\.npy.*export_points\.py"):
        load_clip(tmp_path, LINES[0], network)
    np.save(points_path(tmp_path, LINES[0]), np.zeros((3, 10, 3), np.float32))
    with pytest.raises(UserError, match="4 frames"):
        load_clip(tmp_path, LINES[0], network)
    write_clip(tmp_path, LINES[1], fixed=(0, 4, 8))
    with pytest.raises(UserError, match="azimuth 0, 90, 180 and 270"):
        load_clip(tmp_path, LINES[1], network)


def test_a_clip_in_memory_has_as_many_gaussians_as_all(home: Path) -> None:
    from core.inference.session import Session

    clips = [load_clip(home, line, Session(PRESETS["nano"]).network) for line in LINES]
    assert len({clip.first.num for clip in clips}) == 1
    assert all(isinstance(clip.first, Gaussians) and clip.images.shape == (4, 4, 3, 128, 128) for clip in clips)
    assert clips[0].weight > 0.25


def test_bad_options_and_the_help(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(UserError, match="batch_size"):
        MotionTrainOptions(batch_size=0)
    monkeypatch.setattr("sys.argv", ["train_motion.py", "--help"])
    with pytest.raises(SystemExit) as end:
        train_motion.main()
    assert end.value.code == 0 and "--datalist_val" in capsys.readouterr().out


def test_surfaces_are_named_and_followed_as_training_reads_them(tmp_path: Path) -> None:
    line = "pack-one-000-00.tar"
    assert tars.points_path(tmp_path, line) == points_path(tmp_path, line)
    triangles = np.random.default_rng(0).normal(size=(1, 40, 3, 3)) + np.array([0.0, 1.0, 3.0])[:, None, None, None]
    points = followed(triangles, 50)
    assert points.shape == (3, 50, 3) and np.allclose(points[1] - points[0], 1, atol=1e-5)
    report = '{"file": "a.glb", "animation": 2, "clip": 0, "line": "p-a-002-00.tar", "status": "rendered"}\n'
    (tmp_path / "render_report.jsonl").write_text(report + '{"file": "b.glb", "status": "skipped"}\n{"fi')
    assert rendered(tmp_path) == {Path("a.glb"): [(2, 0, "p-a-002-00.tar")]}
    with pytest.raises(UserError, match="render_dataset"):
        rendered(tmp_path / "none")
