"""Gaussians to meshes: the density is the plain sum, surfaces are closed, coloured, oriented; bad input is named."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from core.errors import UserError
from core.gaussians import Gaussians
from core.meshing import build, grid
from core.meshing.build import build_mesh
from core.meshing.density import density
from core.meshing.files import write_animated_glb, write_glb, write_obj
from core.meshing.grid import Grid, grid_around
from core.meshing.inputs import find_jobs
from core.meshing.surface import Surface, largest_body
from core.options import MeshOptions
from core.ply import save_ply
from core.rendering import Renderer, make_renderer
from core.rotations import covariances
from tests.splat_scenes import random_gaussians
from tests.tiny import Call

pytest_plugins = ["tests.infer_place"]
pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = MeshOptions(mesh_resolution=32)
RADIUS = 0.4


def shell(count: int = 8000, radius: float = RADIUS, shift: tuple[float, float, float] = (0, 0, 0)) -> Gaussians:
    """A hollow ball, one layer of Gaussians thick; red above, blue in front, elsewhere green."""
    index = torch.arange(count) + 0.5
    height, angle = 1 - 2 * index / max(count, 1), index * math.pi * (3 - math.sqrt(5))
    ring = (1 - height.square()).sqrt()
    normals = torch.stack([ring * angle.cos(), height, ring * angle.sin()], dim=-1)
    colors = torch.tensor([0.0, 0.5, 0.0]).repeat(count, 1)
    colors[normals[:, 1] > 0.8] = torch.tensor([1.0, 0.0, 0.0])
    colors[normals[:, 2] > 0.8] = torch.tensor([0.0, 0.0, 1.0])
    quats = torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(count, 1)
    scales = torch.full((count, 3), radius / 40)
    return Gaussians(radius * normals + torch.tensor(shift), torch.full((count,), 0.8), scales, quats, colors)


def joined(*parts: Gaussians) -> Gaussians:
    names = ("means", "opacities", "scales", "quats", "colors")
    return Gaussians(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return make_renderer("numba", device=torch.device("cpu"))


@pytest.fixture(scope="module", params=["fusion", "density"])
def ball(request: pytest.FixtureRequest, renderer: Renderer, one_thread: None) -> Surface:
    return build_mesh(shell(), replace(SMALL, mesh_method=request.param), renderer)


def as_trimesh(surface: Surface) -> trimesh.Trimesh:
    return trimesh.Trimesh(surface.vertices.numpy(), surface.faces.numpy(), process=False)


def test_density_is_the_plain_sum() -> None:
    """Up to the 1e-4 of its peak below which a Gaussian is left out; anisotropic, turned, on a grid of three sides."""
    gaussians = random_gaussians(num=40, scale=0.2)
    points = Grid((-0.9, -0.7, -0.5), 0.11, (17, 14, 10))
    where = torch.stack(torch.meshgrid(*(torch.arange(n) for n in points.shape), indexing="ij"), dim=-1)
    offset = torch.tensor(points.low) + points.voxel * where[..., None, :] - gaussians.means
    squared = torch.einsum("...ni,nij,...nj->...n", offset, covariances(gaussians).inverse(), offset)
    plain = (gaussians.opacities * torch.exp(-squared / 2)).sum(-1)
    found = density(gaussians, points, thinnest=0).double()
    torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-4 * float(gaussians.opacities.sum()))
    assert plain.max() > 1


def test_thin_gaussians_do_not_fall_between_grid_points() -> None:
    flat = replace(shell(1), scales=torch.tensor([[0.2, 1e-5, 0.2]]))
    assert density(flat, Grid((-0.5, -0.5, -0.5), 0.03, (34, 34, 34))).max() > 0.2


def test_a_hollow_shell_becomes_one_closed_solid(ball: Surface) -> None:
    mesh = as_trimesh(ball)
    assert mesh.is_watertight and mesh.is_winding_consistent and mesh.body_count == 1 and mesh.euler_number == 2
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=0.25)  # positive: faces look outward
    distance = ball.vertices.norm(dim=-1)
    assert (distance - RADIUS).abs().max() < 2.5 * 2 * RADIUS / 31


def test_fusion_closes_a_shell_with_gaps(renderer: Renderer) -> None:
    """Which for the density is a heap of crumbs."""
    gappy = replace(shell(800), scales=torch.full((800, 3), RADIUS / 30))
    bodies = {m: as_trimesh(build_mesh(gappy, replace(SMALL, mesh_method=m), renderer)) for m in ("fusion", "density")}
    assert bodies["fusion"].is_watertight and bodies["fusion"].euler_number == 2
    assert bodies["fusion"].volume > 100 * bodies["density"].volume > 0


def test_fusion_keeps_the_size(renderer: Renderer) -> None:
    """The surface is where the pictures have it: around the centres, by at most a deviation and a point of the grid."""
    surface = build_mesh(shell(), replace(SMALL, mesh_resolution=64), renderer)
    excess = surface.vertices.norm(dim=-1).mean() - RADIUS
    assert 0 < excess < RADIUS / 40 + 2 * RADIUS / 63


def test_colors_are_where_they_were(ball: Surface) -> None:
    for axis, color in ((1, 0), (2, 2)):
        pole = ball.colors[ball.vertices[:, axis].argmax()]
        assert pole.argmax() == color and pole[color] > 0.9
    assert ball.colors[ball.vertices[:, 1].argmin()].tolist() == pytest.approx([0, 0.5, 0], abs=0.05)


def test_the_largest_body_stays_and_the_budget_holds(renderer: Renderer) -> None:
    two = joined(shell(), shell(800, 0.1, (0.7, 0.0, 0.0)))
    surface = build_mesh(two, replace(SMALL, max_faces=300), renderer)
    mesh = as_trimesh(surface)
    assert mesh.is_watertight and mesh.body_count == 1 and 100 < len(mesh.faces) <= 300
    assert mesh.bounds[1][0] < 0.5


def test_objects_may_fill_the_cube(renderer: Renderer) -> None:
    surface = build_mesh(shell(8000, 0.95), SMALL, renderer)
    assert as_trimesh(surface).extents == pytest.approx([1.9] * 3, abs=2 * 0.95 / 40 + 2 * 1.9 / 31)


def test_glb_has_y_up_outward_normals_and_linear_colors(ball: Surface, tmp_path: Path) -> None:
    grey = replace(ball, colors=torch.full_like(ball.colors, 0.5))
    write_glb(grey, tmp_path / "a.glb")
    tree, binary = read_glb(tmp_path / "a.glb")
    (part,) = tree["meshes"][0]["primitives"]
    assert "matrix" not in tree["nodes"][0] and set(part["attributes"]) == {"POSITION", "NORMAL", "COLOR_0"}
    colors = array(tree, binary, part["attributes"]["COLOR_0"])
    np.testing.assert_allclose(colors, 0.21404, atol=1e-4)  # linear of sRGB 0.5
    np.testing.assert_array_equal(array(tree, binary, part["attributes"]["POSITION"]), ball.vertices.numpy())
    normals = array(tree, binary, part["attributes"]["NORMAL"])
    assert (normals * ball.vertices.numpy()).sum(-1).min() > 0


def test_the_animated_glb_shows_one_frame_at_a_time(ball: Surface, tmp_path: Path) -> None:
    write_animated_glb([ball, ball, ball], Fraction(8), tmp_path / "a.glb")
    tree, binary = read_glb(tmp_path / "a.glb")
    (animation,) = tree["animations"]
    shown = []
    for channel in animation["channels"]:
        sampler = animation["samplers"][channel["sampler"]]
        assert sampler["interpolation"] == "STEP" and channel["target"]["path"] == "scale"
        assert array(tree, binary, sampler["input"])[:, 0].tolist() == [0, 0.125, 0.25, 0.375]
        shown.append((tree["nodes"][channel["target"]["node"]]["name"], array(tree, binary, sampler["output"])[:, 1]))
    assert [name for name, _ in shown] == ["frame0001", "frame0002", "frame0003"]
    assert np.stack([scales for _, scales in shown]).tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1]]
    assert len(trimesh.load(tmp_path / "a.glb").geometry) == 3


def test_obj_keeps_shape_and_colors(ball: Surface, tmp_path: Path) -> None:
    write_obj(ball, tmp_path / "a.obj")
    mesh = trimesh.load(tmp_path / "a.obj", process=False)
    np.testing.assert_allclose(mesh.vertices, ball.vertices.numpy(), atol=1e-6)
    np.testing.assert_array_equal(mesh.faces, ball.faces.numpy())
    np.testing.assert_allclose(mesh.visual.vertex_colors[:, :3] / 255, ball.colors.numpy(), atol=3e-3)


def read_glb(path: Path) -> tuple[dict, bytes]:
    data = path.read_bytes()
    length = struct.unpack_from("<I", data, 12)[0]
    return json.loads(data[20 : 20 + length]), data[28 + length :]


def array(tree: dict, binary: bytes, index: int) -> np.ndarray:
    accessor = tree["accessors"][index]
    view, width = tree["bufferViews"][accessor["bufferView"]], {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[accessor["type"]]
    assert accessor["componentType"] == 5126
    values = np.frombuffer(binary, "<f4", accessor["count"] * width, view["byteOffset"])
    return values.reshape(-1, width)


def faint(gaussians: Gaussians) -> Gaussians:
    return replace(gaussians, opacities=0.01 * gaussians.opacities)


@pytest.mark.parametrize(
    ("gaussians", "message"),
    [
        (shell(0), "none of the 0 Gaussians"),
        (faint(shell(50)), "none of the 50 Gaussians"),
        (shell(50, shift=(5, 0, 0)), r"lies within \[-1, 1\]"),
        (replace(shell(50), scales=torch.full((50, 3), torch.nan)), "NaN"),
    ],
    ids=["empty", "faint", "outside", "NaN"],
)
def test_what_is_no_object_is_refused(gaussians: Gaussians, message: str, renderer: Renderer) -> None:
    with pytest.raises(UserError, match=message):
        build_mesh(gaussians, SMALL, renderer)


def test_one_gaussian_is_an_object(renderer: Renderer) -> None:
    mesh = as_trimesh(build_mesh(replace(shell(1), scales=torch.full((1, 3), 0.1)), SMALL, renderer))
    assert mesh.is_watertight and mesh.euler_number == 2 and 0.05 < mesh.extents.max() < 0.8


def test_a_field_without_an_inside_is_refused() -> None:
    with pytest.raises(UserError, match="enclose nothing"):
        largest_body(torch.ones(8, 8, 8), Grid((0, 0, 0), 0.1, (8, 8, 8)), 100)


def test_a_grid_beyond_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "_machine_bytes", lambda: 2.0**30)
    with pytest.raises(UserError, match=r"--mesh_resolution 1000: .* GiB, more than half .* 1.0 GiB; \d+ fits"):
        grid_around(shell(50), 1000)
    monkeypatch.undo()
    with pytest.raises(UserError, match="must lie between 16 and 4096"):
        MeshOptions(mesh_resolution=100_000)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_PACKAGES", ("scipy", "no_such_package"))
    with pytest.raises(UserError, match=r"need no_such_package: pip install -e '.\[mesh\]'"):
        build.check_packages()


def clip(folder: Path, numbers: tuple[int, ...]) -> Path:
    for number in numbers:
        save_ply(shell(400), folder / f"frame{number:04d}.ply")
    return folder


def test_jobs_of_a_workspace(tmp_path: Path) -> None:
    clip(tmp_path / "b", (1, 2, 3))
    clip(tmp_path / "a", (7, 8))
    (tmp_path / "b_metadata.json").write_text('{"frame_rate": "45/2"}')
    (tmp_path / "empty").mkdir()
    first, second = find_jobs(tmp_path)
    assert (first.target.name, [ply.name for ply in first.plys]) == ("a_mesh", ["frame0007.ply", "frame0008.ply"])
    assert (second.target, second.rate, first.rate) == (tmp_path / "b_mesh", Fraction(45, 2), 15)
    save_ply(shell(400), tmp_path / "a" / "other.ply")
    assert [job.rate for job in find_jobs(tmp_path / "a")] == [None] * 3  # no frames: objects


def test_missing_frames_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="2 of the frames 1 to 5 are missing, the first is number 3"):
        find_jobs(clip(tmp_path / "x", (1, 2, 5)))
    (empty := tmp_path / "y").mkdir()
    with pytest.raises(UserError, match=r"there is no \.ply in"):
        find_jobs(empty)


def test_the_script(place: Path, call: Call) -> None:
    """A clip in both formats, a single file as LGM has it, and errors in one line."""
    clip(place / "results" / "x", (1, 2))
    size = "--mesh_resolution 16 --device cpu"
    assert call("convert", f"nano --test_path results/x {size}") == (0, "")
    assert sorted(path.name for path in Path("results/x_mesh").iterdir()) == ["frame0001.glb", "frame0002.glb"]
    assert call("convert", f"nano --test_path results --mesh_format obj {size}")[0] == 0
    assert sorted(path.name for path in Path("results/x_mesh").iterdir()) == ["frame0001.obj", "frame0002.obj"]
    assert call("convert", f"nano --test_path results/x --mesh_format animated {size}")[0] == 0
    assert Path("results/x_mesh.glb").is_file()
    assert call("convert", f"big --test_path results/x/frame0001.ply {size}")[0] == 0
    assert Path("results/x/frame0001.glb").is_file()
    Path("results/y.ply").write_bytes(b"ply\n")
    for line, message in (("results/y.ply", "y.ply"), ("none.ply", "no such file")):
        status, error = call("convert", f"nano --test_path {line}")
        assert status == 2 and message in error and error.count("\n") == 1


def test_objects_and_clips_of_one_workspace_are_all_found(tmp_path: Path) -> None:
    """infer_3d.py leaves NAME.ply beside the folder of infer_4d.py; compressed exports are no input."""
    clip(tmp_path / "cow", (1, 2))
    (tmp_path / "cow_metadata.json").write_text('{"frame_rate": "1e99999999"}')
    (tmp_path / "cow.ply").touch()
    (tmp_path / "cow_compressed-ply").mkdir()
    (tmp_path / "cow_compressed-ply" / "frame0001.compressed.ply").touch()
    assert [(job.target.name, job.rate) for job in find_jobs(tmp_path)] == [("cow", None), ("cow_mesh", Fraction(15))]
    (tmp_path / "cow.ply").unlink()
    assert [job.target.name for job in find_jobs(tmp_path)] == ["cow_mesh"]
