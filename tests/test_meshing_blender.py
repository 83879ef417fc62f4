"""What Blender makes of the mesh files: upright, front towards -y, colours in the material, a clip that plays."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from core.meshing.build import build_mesh
from core.meshing.files import write_animated_glb, write_glb, write_moving_glb, write_obj
from core.options import MeshOptions
from core.rendering import make_renderer
from tests.test_architecture import ROOT
from tests.test_meshing import RADIUS, shell

RENDER_PYTHON = ROOT / ".venv-render/bin/python"
LOOK = """
import bpy, json, sys
from pathlib import Path
found = {}
for path in map(Path, sys.argv[1:]):
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.context.scene.render.fps = 24
    glb = path.suffix == ".glb"
    (bpy.ops.import_scene.gltf if glb else bpy.ops.wm.obj_import)(filepath=str(path))
    objects = sorted((o for o in bpy.data.objects if o.type == "MESH"), key=lambda o: o.name)
    shown, heights = [], []
    for frame in (0, 4, 7):
        bpy.context.scene.frame_set(frame)
        posed = objects[0].evaluated_get(bpy.context.evaluated_depsgraph_get())
        heights.append(max((posed.matrix_world @ v.co).z for v in posed.data.vertices))
        shown.append([o.name for o in objects if o.matrix_world.to_scale().x > 0.5])
    mesh = objects[0].data
    colors = mesh.color_attributes[0].data
    if mesh.color_attributes[0].domain == "POINT":
        color_of = lambda index: colors[index].color
    else:
        corner_of = {loop.vertex_index: number for number, loop in enumerate(mesh.loops)}
        color_of = lambda index: colors[corner_of[index]].color
    bpy.context.scene.frame_set(0)
    places = [objects[0].matrix_world @ v.co for v in mesh.vertices]
    ends = {}
    for name, key in (("top", lambda p: p.z), ("front", lambda p: -p.y)):
        index = max(range(len(places)), key=lambda i: key(places[i]))
        ends[name] = [key(places[index]), *color_of(index)[:3]]
    nodes = [n.bl_idname for m in mesh.materials if m for n in m.node_tree.nodes]
    found[path.name] = {"objects": len(objects), "shown": shown, "heights": heights, "nodes": nodes, **ends}
print("FOUND" + json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.skipif(not RENDER_PYTHON.exists(), reason="needs Blender: make render-env")
def test_blender_imports_single_meshes_and_clips(tmp_path: Path) -> None:
    ball = build_mesh(shell(), MeshOptions(mesh_resolution=32), make_renderer("numba", device=torch.device("cpu")))
    write_glb(ball, tmp_path / "frame0001.glb")
    write_obj(ball, tmp_path / "frame0001.obj")
    write_animated_glb([ball, ball, ball], Fraction(8), tmp_path / "clip.glb")
    rising = [replace(ball, vertices=ball.vertices + torch.tensor([0, 0.3 * k, 0])) for k in range(3)]
    write_moving_glb(rising, Fraction(8), tmp_path / "moving.glb")
    (script := tmp_path / "look.py").write_text(LOOK)
    line = [str(RENDER_PYTHON), str(script), *(str(tmp_path / name) for name in NAMES)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.partition("FOUND")[2].splitlines()[0])
    assert [found[name]["objects"] for name in NAMES] == [1, 1, 3, 1]
    for name in NAMES:
        (top, *red), (front, *blue) = found[name]["top"], found[name]["front"]
        assert top == pytest.approx(RADIUS, rel=0.1) and front == pytest.approx(RADIUS, rel=0.1)
        assert red == pytest.approx([1, 0, 0], abs=0.1) and blue == pytest.approx([0, 0, 1], abs=0.1)
    assert "ShaderNodeVertexColor" in found["frame0001.glb"]["nodes"]
    assert found["clip.glb"]["shown"] == [["frame0001"], ["frame0002"], ["frame0003"]]
    rises = [height - found["moving.glb"]["heights"][0] for height in found["moving.glb"]["heights"]]
    assert rises == pytest.approx([0, 0.4, 0.6], abs=1e-3), (
        "24 frames a second: 4/24 s is 4/3 frames of the clip, 7/24 s its end"
    )


NAMES = ("frame0001.glb", "frame0001.obj", "clip.glb", "moving.glb")
