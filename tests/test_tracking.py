"""Tracked 4D: fields, measures of motion, the fit and its file, tracks at any time and in a file."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from core.cameras import orbit_cameras
from core.errors import UserError
from core.gaussians import Gaussians
from core.losses import psnr
from core.options import CameraOptions
from core.options.refine import RefineOptions
from core.rendering import make_renderer
from core.rendering.orbit import render_in_parts
from core.rotations import turn
from core.tracking.deformation import arap_term, make_field, quaternion_of, rotation_matrix, velocity_term
from core.tracking.fit import Fit
from core.tracking.hexplane import HexPlaneField
from core.tracking.observations import observe
from core.tracking.state import load_state, save_state
from core.tracking.tracks import Tracks, load_tracks, save_tracks
from tests.tiny import lopsided_gaussians

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE, FRAMES = 32, 4
SMALL = RefineOptions(nodes=12, canonical_steps=2, track_steps=12, joint_steps=4, lambda_arap=0.5)
EVERY = torch.arange(FRAMES)


def rod() -> Gaussians:
    return lopsided_gaussians()[0]


def bend(field: torch.nn.Module, seed: int = 0) -> None:
    """Add random numbers to all parameters of a field."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in field.parameters():
        if parameter.requires_grad:
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


@pytest.mark.parametrize("name", ["nodes", "hexplane"])
@torch.no_grad()
def test_a_field_starts_at_rest_and_moves_centres_turns_and_nothing_constant(name: str) -> None:
    start = rod()
    field = make_field(name, start, FRAMES, 12)
    still = field(start, EVERY)
    for entry in fields(Gaussians):
        torch.testing.assert_close(
            getattr(still, entry.name), getattr(start, entry.name).expand_as(getattr(still, entry.name))
        )
    anchors = field.anchors(start, EVERY)
    assert float(arap_term(anchors)) < 1e-9 and float(velocity_term(anchors)) < 1e-9
    bend(field)
    moved = field(start, EVERY)
    assert not torch.allclose(moved.means[1], moved.means[2])
    assert not torch.allclose(moved.quats[1], moved.quats[2])
    assert torch.equal(moved.colors[1], start.colors) and torch.equal(moved.opacities[1], start.opacities)
    anchors = field.anchors(start, EVERY)
    assert float(arap_term(anchors)) > 1e-6 and float(velocity_term(anchors)) > 1e-6


@torch.no_grad()
def test_nodes_that_turn_together_turn_the_object_rigidly() -> None:
    """The law of skinning: one motion of all nodes is that motion of everything, and costs no rigidity."""
    start = rod()
    field = make_field("nodes", start, 2, 12)
    angle = torch.tensor([0.0, math.radians(30), 0.0])
    matrix = rotation_matrix(quaternion_of(angle))
    field.turns[1] = angle
    field.shifts[1] = field.rest @ matrix.T - field.rest
    moved, expected = field(start, torch.tensor([1]))[0], turn(start, 30)
    torch.testing.assert_close(moved.means, expected.means, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        rotation_matrix(F.normalize(moved.quats, dim=-1)), rotation_matrix(expected.quats), atol=1e-5, rtol=0
    )
    assert float(arap_term(field.anchors(start, torch.tensor([1])))) < 1e-9


@torch.no_grad()
def test_a_small_stretch_costs_rigidity_by_its_square_and_a_large_one_by_less() -> None:
    start = rod()
    field = make_field("nodes", start, 2, 12)
    costs = []
    for stretch in (0.01, 0.02, 2.0):
        field.shifts[1] = stretch * field.rest
        costs.append(float(arap_term(field.anchors(start, torch.tensor([1])))))
    assert costs[:2] == pytest.approx([1e-4, 4e-4], rel=0.02)
    assert costs[1] < costs[2] < 0.2 * 2.0**2


def published_keys() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the published state dict (DreamGaussian4D at bc229be, configuration 4d)."""
    keys = {"timenet.0.weight": (64, 9), "timenet.0.bias": (64,), "timenet.2.weight": (32, 64), "timenet.2.bias": (32,)}
    keys |= {"time_poc": (4,), "pos_poc": (10,), "rotation_scaling_poc": (2,), "opacity_poc": (2,)}
    keys["deformation_net.grid.aabb"] = (2, 3)
    for number, with_time in enumerate([False, False, True, False, True, True]):
        keys[f"deformation_net.grid.grids.0.{number}"] = (1, 32, 12 if with_time else 32, 32)
    keys |= {"deformation_net.feature_out.0.weight": (64, 32), "deformation_net.feature_out.0.bias": (64,)}
    for name, width in (("pos", 3), ("scales", 3), ("rotations", 4), ("opacity", 1)):
        head = f"deformation_net.{name}_deform.feature_out"
        keys |= {f"{head}.0.main_stream.weight": (64, 64), f"{head}.0.main_stream.bias": (64,)}
        keys |= {f"{head}.1.weight": (width, 64), f"{head}.1.bias": (width,)}
    return keys


def test_hexplane_has_the_published_tensors() -> None:
    field = HexPlaneField(14)
    assert {name: tuple(tensor.shape) for name, tensor in field.state_dict().items()} == published_keys()
    assert sum(parameter.numel() for parameter in field.parameters()) == 157_361
    field.load_state_dict({name: torch.zeros(shape) for name, shape in published_keys().items()})
    assert HexPlaneField(14, 22).state_dict()["deformation_net.grid.grids.0.5"].shape == (1, 32, 22, 32)


def test_hexplane_reads_its_planes_at_minus_p_over_the_bound() -> None:
    """The published bounds stand in an order that mirrors space: the node of plane xy with the smallest x and y is read
    at the largest."""
    field = HexPlaneField(2)
    grid = field.deformation_net.grid
    with torch.no_grad():
        for plane in grid.grids[0]:
            plane.fill_(1.0)
        grid.grids[0][0][..., 0, 0] = 7.0
    corners = torch.tensor([[1.6, 1.6, 0.3], [-1.6, -1.6, 0.3], [1.6, -1.6, 0.3]])
    read = grid(corners, torch.tensor([0.5]))
    assert read[0, :, 0].tolist() == pytest.approx([7.0, 1.0, 1.0])


def moving_scene() -> tuple[list[Gaussians], torch.Tensor, torch.Tensor]:
    """A rod that turns by 12 degrees a frame and slides; its front video and the side views of frame 0."""
    sets = [turn(rod(), 12.0 * t) for t in range(FRAMES)]
    sets = [replace(one, means=one.means + torch.tensor([0.04 * t, 0.0, 0.0])) for t, one in enumerate(sets)]
    joined = Gaussians(*(torch.stack([getattr(one, f.name) for one in sets]) for f in fields(Gaussians)))
    cameras = orbit_cameras(torch.tensor([0.0, 90.0, 180.0, 270.0]), size=(SIZE, SIZE)).expand(FRAMES, 4)
    images = render_in_parts(make_renderer("numba"), joined, cameras)[0].clone()
    return sets, images[:, 0], images[0, 1:]


def make_fit(options: RefineOptions = SMALL, seed: int = 0) -> Fit:
    """A fit whose feed-forward sequence is frame 0, frozen."""
    sets, front, sides = moving_scene()
    generator = torch.Generator().manual_seed(seed)
    renderer = make_renderer("numba")
    seen = observe(front, sides, [sets[0]] * FRAMES, renderer, CameraOptions(), generator, bank_views=2, bank_size=SIZE)
    return Fit(sets[0], seen, options, renderer, generator)


def front_psnr(fit: Fit) -> float:
    images = render_in_parts(fit.renderer, fit.frames(), fit.observations.front.cameras)[0]
    return float(psnr(images, fit.observations.front.images)[-1].mean())


@pytest.mark.parametrize(("name", "gain"), [("nodes", 5.0), ("hexplane", 0.5)])
def test_a_fit_follows_the_video(name: str, gain: float) -> None:
    fit = make_fit(replace(SMALL, deformation=name, joint_steps=4 if name == "nodes" else 40))
    before, stages = front_psnr(fit), []
    assert fit.run(lambda stage, step, steps: stages.append((stage, step, steps)))
    assert front_psnr(fit) > before + gain
    assert [stage for stage, step, steps in stages if step == steps] == (
        ["canonical", "track", "joint"] if name == "nodes" else ["canonical", "joint"]
    )


def test_trust_falls_where_the_sequence_leaves_the_video() -> None:
    trust = make_fit().observations.trust
    assert trust[0] == 1 and bool((trust.diff() <= 0).all()) and trust[-1] < 0.1


def test_the_same_seed_gives_the_same_result_and_another_one_does_not() -> None:
    results = []
    for seed in (0, 0, 1):
        fit = make_fit(replace(SMALL, track_steps=2), seed)
        fit.run()
        results.append(fit.frames().means)
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


@pytest.mark.parametrize("stop", [("track", 2), ("joint", 2)])
def test_ctrl_c_keeps_what_there_is_and_the_fit_goes_on_to_the_bit(
    stop: tuple[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = replace(SMALL, track_steps=2)
    monkeypatch.setattr("core.tracking.fit.SAVE_EVERY", 1)
    whole = make_fit(options)
    whole.run()
    path = tmp_path / "fit.safetensors"

    def interrupt(stage: str, step: int, steps: int) -> None:
        if (stage, step) == stop:
            raise KeyboardInterrupt

    first = make_fit(options)
    assert not first.run(interrupt, lambda fit: save_state(fit, path))
    assert first.frames().is_finite()
    second = make_fit(options)
    assert load_state(second, path)
    assert second.place.step or second.place.stage
    assert second.run()
    assert torch.equal(second.frames().means, whole.frames().means)
    other = make_fit(replace(options, trust=0.1))
    assert not load_state(other, path), "a file of another fit is not taken"
    path.write_bytes(b"broken")
    assert not load_state(make_fit(options), path)


def tracks() -> Tracks:
    sets = moving_scene()[0]
    return Tracks(Gaussians(*(torch.stack([getattr(one, f.name) for one in sets]) for f in fields(Gaussians))), 8.0)


def test_tracks_between_frames_follow_the_motion() -> None:
    """Halfway through an even turn the object has turned half as far, where a blend of the ends would shrink it."""
    moved = tracks()
    halfway = moved.at(1.5)
    expected = turn(rod(), 18.0).means + torch.tensor([0.06, 0.0, 0.0])
    assert float((halfway.means - expected).norm(dim=-1).max()) < 2e-3
    blend = (moved.at(1).means + moved.at(2).means) / 2
    assert float((blend - expected).norm(dim=-1).max()) > 2e-3
    assert torch.equal(moved.at(2).means, moved.gaussians.means[2])
    assert torch.equal(moved.at(99).means, moved.gaussians.means[-1])
    flipped = Tracks(
        replace(moved.gaussians, quats=moved.gaussians.quats * torch.tensor([1, -1, 1, -1.0])[:, None, None]), 8.0
    )
    torch.testing.assert_close(rotation_matrix(flipped.at(1.5).quats), rotation_matrix(halfway.quats))


def test_tracks_survive_their_file(tmp_path: Path) -> None:
    path = tmp_path / "x_tracks.npz"
    save_tracks(tracks(), path)
    with np.load(path) as file:
        assert file["means"].shape == (FRAMES, 60, 3) and file["colors"].shape == (60, 3)
    loaded = load_tracks(path)
    assert loaded.rate == 8
    for entry in fields(Gaussians):
        assert torch.equal(getattr(loaded.gaussians, entry.name), getattr(tracks().gaussians, entry.name))
    content = path.read_bytes()
    scrambled = [content[:k] + bytes([255 - content[k]]) + content[k + 1 :] for k in range(70, 110)]
    for broken in (*scrambled, b"", b"PK\x03\x04", content[: len(content) // 2]):
        path.write_bytes(broken)
        with pytest.raises(UserError, match="x_tracks"):
            load_tracks(path)
    np.savez(path, means=np.zeros((2, 5, 3)))
    with pytest.raises(UserError, match="x_tracks"):
        load_tracks(path)
