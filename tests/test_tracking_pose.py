"""The pose of the whole object: found in depth too, carried by nodes, kept in the file of a fit."""

from __future__ import annotations

from dataclasses import replace

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
from core.tracking.observations import observe
from core.tracking.pose import Pose, centre_of, find_pose, follow_pose, posed, rotation_vector, still
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


def depth_fit(pose_steps: int) -> tuple[Fit, Gaussians]:
    """A fit to a rod that comes nearer to the only camera, and its true motion."""
    start = rod()
    truth = [start, posed(start, NEARER, centre_of(start))]
    joined = Gaussians(*(torch.stack(parts) for parts in zip(*(vars(one).values() for one in truth), strict=True)))
    renderer, cameras = make_renderer("numba"), orbit_cameras(torch.zeros(1), size=(64, 64)).expand(2, 1)
    front = render_in_parts(renderer, joined, cameras)[0][:, 0].clone()
    generator = torch.Generator().manual_seed(0)
    seen = observe(front, None, [start, start], renderer, CameraOptions(), generator, bank_views=2, bank_size=32)
    options = replace(SMALL, canonical_steps=0, joint_steps=0, pose_steps=pose_steps, trust=0.0, lambda_pose=0.1)
    return Fit(start, seen, options, renderer, generator), joined


def test_an_object_that_grows_in_the_image_comes_nearer() -> None:
    errors = []
    for pose_steps in (0, 30):
        fit, truth = depth_fit(pose_steps)
        fit.run()
        errors.append(float((carried(truth.means[0], fit.frames())[1] - truth.means[1])[:, 2].abs().mean()))
    assert errors[1] < 0.05 < 0.12 < errors[0]


def test_poses_are_part_of_the_file() -> None:
    fit = make_fit(replace(SMALL, track_steps=1, joint_steps=0))
    fit.run()
    assert bool((fit.motion.state_dict()["poses"][1:].abs().amax(-1) > 1e-3).all())


def test_a_pose_is_never_worse_than_its_starts() -> None:
    def loss(pose: Pose) -> torch.Tensor:
        return pose.away_from(TURNED) + pose.away_from(TURNED).sqrt()  # a cusp, which steps of Adam jump over

    assert all(torch.equal(a, b) for a, b in zip(find_pose(loss, [NEARER, TURNED], 3), TURNED, strict=True))
    assert loss(find_pose(loss, [NEARER], 30)) < 0.3 * loss(NEARER)
