"""Meshes of tracked objects: vertices ride on the Gaussians, faces stay, files play."""

from __future__ import annotations

from dataclasses import fields, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from core.gaussians import Gaussians
from core.meshing.build import build_moving_mesh
from core.meshing.files import write_moving_glb
from core.meshing.surface import Surface
from core.options import MeshOptions
from core.rendering import make_renderer
from core.rotations import turn
from core.tracking.carried import carried
from core.tracking.tracks import Tracks, save_tracks
from tests.test_meshing import RADIUS, array, joined, read_glb, shell
from tests.tiny import Call

pytest_plugins = ["tests.infer_place"]
pytestmark = pytest.mark.usefixtures("one_thread")


def turning() -> Gaussians:
    """A ball that turns by 40 degrees a frame and rises; three frames."""
    return sequence(
        *(replace(g, means=g.means + torch.tensor([0, 0.1 * t, 0])) for t in range(3) for g in [turn(shell(), 40 * t)])
    )


def sequence(*frames: Gaussians) -> Gaussians:
    return Gaussians(*(torch.stack([getattr(frame, field.name) for frame in frames]) for field in fields(Gaussians)))


@pytest.fixture(scope="module")
def surfaces() -> list[Surface]:
    return build_moving_mesh(turning(), MeshOptions(mesh_resolution=32), make_renderer("numba"))


def test_points_follow_a_rigid_motion_exactly() -> None:
    """Inside, on and beside the object; quaternions of either sign and any length are the same rotation."""
    points = torch.tensor([[0.1, 0.2, 0.0], [0.0, RADIUS, 0.0], [0.5, 0.0, -0.3]])
    moved = turning()
    moved = replace(moved, quats=moved.quats * torch.tensor([1.0, -2.0, 0.5])[:, None, None])
    angle = torch.deg2rad(torch.tensor(80.0))
    x, y, z = points.unbind(-1)
    expected = torch.stack([angle.cos() * x + angle.sin() * z, y + 0.2, angle.cos() * z - angle.sin() * x], dim=-1)
    places = carried(points, moved)
    assert torch.equal(places[0], points)
    torch.testing.assert_close(places[2], expected, atol=1e-5, rtol=0)


def test_points_follow_what_is_near_and_solid() -> None:
    left, right = shell(500, 0.1, (-0.5, 0, 0)), shell(500, 0.1, (0.5, 0, 0))
    haze = replace(right, opacities=right.opacities * 0.1)
    up = torch.tensor([0.0, 0.3, 0.0])
    first = joined(left, right, haze)
    second = joined(left, replace(right, means=right.means + up), replace(haze, means=haze.means - 5 * up))
    places = carried(torch.tensor([[-0.4, 0.0, 0.0], [0.4, 0.0, 0.0]]), sequence(first, second))
    torch.testing.assert_close(places[1] - places[0], torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.3, 0.0]]))


def test_faces_and_colours_stay_while_the_mesh_moves(surfaces: list[Surface]) -> None:
    """The red top stays red where it rises to, the blue front turns to the side."""
    assert all(torch.equal(one.faces, surfaces[0].faces) for one in surfaces)
    assert all(torch.equal(one.colors, surfaces[0].colors) for one in surfaces)
    blue = surfaces[0].colors[:, 2] > 0.8
    heights = [float(one.vertices[:, 1].max()) for one in surfaces]
    assert heights == pytest.approx([RADIUS, RADIUS + 0.1, RADIUS + 0.2], abs=0.04)
    assert float(surfaces[0].vertices[blue].mean(0)[0].abs()) < 0.02
    assert float(surfaces[2].vertices[blue].mean(0)[0]) > 0.3


def test_the_moving_glb_reaches_each_frame_at_its_time(surfaces: list[Surface], tmp_path: Path) -> None:
    write_moving_glb(surfaces, Fraction(8), tmp_path / "a.glb")
    tree, binary = read_glb(tmp_path / "a.glb")
    (mesh,), (animation,) = tree["meshes"], tree["animations"]
    (part,), (sampler,), (channel,) = mesh["primitives"], animation["samplers"], animation["channels"]
    assert array(tree, binary, sampler["input"])[:, 0].tolist() == [0, 0.125, 0.25]
    weights = array(tree, binary, sampler["output"]).reshape(3, 2)
    assert sampler["interpolation"] == "LINEAR" and channel["target"]["path"] == "weights"
    assert tree["nodes"][channel["target"]["node"]]["mesh"] == 0
    for name, expected in (("POSITION", [s.vertices for s in surfaces]), ("NORMAL", [s.normals() for s in surfaces])):
        base = array(tree, binary, part["attributes"][name])
        targets = [array(tree, binary, target[name]) for target in part["targets"]]
        for frame, weight in enumerate(weights):
            places = base + sum(w * target for w, target in zip(weight, targets, strict=True))
            assert np.abs(places - expected[frame].numpy()).max() < 1e-3


def test_the_script_takes_tracks(place: Path, call: Call) -> None:
    path = Path("results/ball.one_tracks.npz")
    path.parent.mkdir(exist_ok=True)
    save_tracks(Tracks(turning(), 8.0), path)
    size = "--mesh_resolution 16 --device cpu"
    assert call("convert", f"nano --test_path {path} {size}") == (0, "")
    assert len(read_glb(Path("results/ball.one_tracks.glb"))[0]["meshes"][0]["primitives"][0]["targets"]) == 2
    (stale := Path("results/ball.one_tracks_mesh/frame0009.obj")).parent.mkdir()
    stale.touch()
    assert call("convert", f"nano --test_path {path} --mesh_format obj {size}")[0] == 0
    written = sorted(stale.parent.iterdir())
    assert [file.name for file in written] == ["frame0001.obj", "frame0002.obj", "frame0003.obj"]
    faces = [[line for line in file.read_text().splitlines() if line.startswith("f ")] for file in written]
    assert faces[0] and faces[0] == faces[1] == faces[2]
    path.write_bytes(b"PK")
    status, error = call("convert", f"nano --test_path {path}")
    assert status == 2 and "ball.one_tracks.npz" in error and error.count("\n") == 1
