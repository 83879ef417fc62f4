"""The pose of the whole object: found in depth too, carried by nodes, kept in the file of a fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from core.cameras import orbit_cameras
from core.gaussians import Gaussians
from core.options import CameraOptions
from core.rendering import make_renderer
from core.rendering.orbit import render_in_parts
from core.tracking.carried import carried
from core.tracking.deformation import quaternion_of, rotation_matrix
from core.tracking.fit import Fit
from core.tracking.motion_network import VideoMotion
from core.tracking.observations import observe
from core.tracking.pose import Pose, centre_of, find_pose, follow_pose, posed, rotation_vector, still
from core.tracking.prediction import no_motion
from core.tracking.state import load_state, save_state
from tests.test_tracking import SMALL, make_fit, rod

pytestmark = pytest.mark.usefixtures("one_thread")

NEARER = Pose(torch.zeros(3), torch.tensor([0.0, 0.0, 0.2]))
TURNED = Pose(torch.tensor([0.3, -0.2, 0.4]), torch.tensor([0.05, 0.1, -0.1]))


def test_rotation_vectors_and_quaternions_are_inverses() -> None:
    turns = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    turns = torch.cat([F.normalize(turns, dim=-1) * torch.linspace(0.01, 3.1, 50)[:, None], torch.zeros(1, 3)])
    for quats in (quaternion_of(turns), -quaternion_of(turns)):
        torch.testing.assert_close(rotation_vector(quats), turns, atol=2e-5, rtol=0)


def test_what_follows_a_pose_moves_as_the_object_does() -> None:
    """From no motion a pose carries places as it carries Gaussians; back again nothing has moved."""
    start = rod()
    centre = centre_of(start)
    turns = torch.zeros_like(start.means)
    places, turned = follow_pose(start.means, turns, still(centre), TURNED, centre)
    moved = posed(start, TURNED, centre)
    torch.testing.assert_close(places, moved.means)
    torch.testing.assert_close(
        rotation_matrix(quaternion_of(turned)), rotation_matrix(quaternion_of(TURNED.turn)).expand(len(turned), 3, 3)
    )
    back, none = follow_pose(places, turned, TURNED, still(centre), centre)
    torch.testing.assert_close(back, start.means, atol=1e-5, rtol=0)
    torch.testing.assert_close(none, turns, atol=1e-5, rtol=0)


def depth_fit(pose_steps: int, motions: VideoMotion | None = None) -> tuple[Fit, Gaussians]:
    """A fit to a rod that comes nearer to the only camera, and its true motion."""
    start = rod()
    truth = [start, posed(start, NEARER, centre_of(start))]
    joined = Gaussians(*(torch.stack(parts) for parts in zip(*(vars(one).values() for one in truth), strict=True)))
    renderer, cameras = make_renderer("numba"), orbit_cameras(torch.zeros(1), size=(64, 64)).expand(2, 1)
    front = render_in_parts(renderer, joined, cameras)[0][:, 0].clone()
    generator = torch.Generator().manual_seed(0)
    seen = observe(front, None, [start, start], renderer, CameraOptions(), generator, bank_views=2, bank_size=32)
    options = replace(SMALL, canonical_steps=0, joint_steps=0, pose_steps=pose_steps, trust=0.0, lambda_pose=0.1)
    return Fit(start, seen, options, renderer, generator, motions=motions), joined


def test_an_object_that_grows_in_the_image_comes_nearer() -> None:
    errors = [depth_error(*depth_fit(pose_steps)) for pose_steps in (0, 30)]
    assert errors[1] < 0.05 < 0.12 < errors[0]


def depth_error(fit: Fit, truth: Gaussians) -> float:
    """Mean of what the fitted rod lacks in the last frame."""
    fit.run()
    return float((carried(truth.means[0], fit.frames())[1] - truth.means[1])[:, 2].abs().mean())


def motions_of(pose: Pose) -> VideoMotion:
    """One later frame, without a bend."""
    centre = centre_of(rod())
    none = no_motion(centre)
    return VideoMotion(centre, [none.with_pose(pose)])


def test_a_fit_stays_near_the_motion_that_is_known() -> None:
    """Also in depth, where steps on the nodes alone bring a rod little of the way."""
    errors = [depth_error(*depth_fit(0, motions_of(pose))) for pose in (NEARER, still(torch.zeros(3)))]
    assert errors[0] < 0.07 < 0.12 < errors[1]


def test_a_pose_is_never_worse_than_its_starts() -> None:
    def loss(pose: Pose) -> torch.Tensor:
        return (pose.turn - TURNED.turn).abs().sum() + (pose.shift - TURNED.shift).abs().sum()  # steps jump over it

    assert all(torch.equal(a, b) for a, b in zip(find_pose(loss, [NEARER, TURNED], 3), TURNED, strict=True))
    assert loss(find_pose(loss, [NEARER], 30)) < 0.5 * loss(NEARER)


def test_a_known_bend_reaches_the_nodes() -> None:
    """A bend that is the same at all corners is a shift."""
    known = motions_of(still(torch.zeros(3)))
    shift = torch.tensor([0.0, 0.0, 0.2])[:, None, None, None].expand_as(known.later[0].bend)
    bent = VideoMotion(known.centre, [known.later[0]._replace(bend=shift.clone())])
    assert depth_error(*depth_fit(0, bent)) < 0.07


def test_near_the_known_motion_the_image_decides() -> None:
    """Of a rod that is thought to stand still, and comes nearer."""
    assert depth_error(*depth_fit(30, motions_of(still(torch.zeros(3))))) < 0.05


def test_a_fit_that_is_stopped_early_has_the_known_motion() -> None:
    fit, truth = depth_fit(0, motions_of(NEARER))
    torch.testing.assert_close(carried(truth.means[0], fit.frames())[1], truth.means[1], atol=1e-4, rtol=0)


def test_only_files_of_fits_with_the_same_motions_are_taken(tmp_path: Path) -> None:
    """To the accuracy with which a GPU repeats them."""
    known, path = motions_of(NEARER), tmp_path / "fit.safetensors"
    save_state(depth_fit(0, known)[0], path)

    def taken(change: float, part: str) -> bool:
        changed = known.later[0]._replace(**{part: getattr(known.later[0], part) + change})
        return load_state(depth_fit(0, VideoMotion(known.centre, [changed]))[0], path)

    assert taken(0.0, "bend") and taken(1e-6, "bend")
    assert not taken(0.01, "bend") and not taken(0.01, "reach")
    assert not load_state(depth_fit(0, motions_of(TURNED))[0], path)
    assert not load_state(depth_fit(0)[0], path)


def test_poses_are_part_of_the_file() -> None:
    fit = make_fit(replace(SMALL, track_steps=1, joint_steps=0))
    fit.run()
    assert bool((fit.motion.state_dict()["poses"][1:].abs().amax(-1) > 1e-3).all())
