"""Meshes as files: GLB, OBJ, and one GLB that plays a whole clip, of separate meshes or of one that moves.

glTF's world is ours: y up, front +z, so positions are written as they are. Its vertex colours are linear. The material
is rough and not metallic; what light the colours hold is that of the video.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from core.files import atomic_path
from core.meshing.surface import Surface

if TYPE_CHECKING:
    from trimesh import Scene, Trimesh

_MATERIAL = {"pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 1.0}}
_FLOAT = 5126  # glTF's name for float32


def write_glb(surface: Surface, path: Path) -> None:
    """One mesh with vertex colours, whole or not at all."""
    from trimesh import Scene

    scene = Scene()
    scene.add_geometry(_trimesh(surface), geom_name=path.stem, node_name=path.stem)
    _write(scene, path)


def write_obj(surface: Surface, path: Path) -> None:
    """One mesh; colours stand behind the positions, sRGB, as Blender and MeshLab read them."""
    vertices = np.concatenate([surface.vertices.numpy(), surface.colors.numpy()], axis=1)
    with atomic_path(path) as temporary, temporary.open("w") as file:
        np.savetxt(file, vertices, "v %.6f %.6f %.6f %.4f %.4f %.4f", header="y up, front +z; v x y z r g b")
        np.savetxt(file, surface.faces.numpy() + 1, "f %d %d %d")


def write_animated_glb(surfaces: Sequence[Surface], rate: Fraction, path: Path) -> None:
    """All frames in one file: a mesh each, of which the animation shows one at a time by its scale.

    Args:
        surfaces: the frames in order.
        rate: frames a second.
        path: the file.
    """
    from trimesh import Scene

    scene = Scene()
    for index, surface in enumerate(surfaces, start=1):
        name = f"frame{index:04d}"
        scene.add_geometry(_trimesh(surface), geom_name=name, node_name=name)
    _write(scene, path, lambda buffers, tree: _append_animation(buffers, tree, len(surfaces), rate))


def write_moving_glb(surfaces: Sequence[Surface], rate: Fraction, path: Path) -> None:
    """One mesh whose vertices move: a morph target for each frame after the first, blended linearly in time.

    Args:
        surfaces: the frames in order; faces and colours are those of the first.
        rate: frames a second.
        path: the file.
    """
    from trimesh import Scene

    scene = Scene()
    scene.add_geometry(_trimesh(surfaces[0]), geom_name=path.stem, node_name=path.stem)
    _write(scene, path, lambda buffers, tree: _append_morph(buffers, tree, surfaces, rate))


def _trimesh(surface: Surface) -> Trimesh:
    from trimesh import Trimesh

    normals = surface.normals().numpy()
    mesh = Trimesh(surface.vertices.numpy(), surface.faces.numpy(), vertex_normals=normals, process=False)
    mesh.vertex_attributes["_COLOR"] = linear(surface.colors).numpy().astype(np.float32)
    return mesh


def linear(colors: Tensor) -> Tensor:
    """sRGB in [0, 1] to linear RGB (IEC 61966-2-1)."""
    return torch.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)


def _write(scene: Scene, path: Path, animate: Callable[[dict, dict], None] | None = None) -> None:
    from trimesh.exchange.gltf import export_glb

    content = export_glb(scene, include_normals=True, tree_postprocessor=_finish, buffer_postprocessor=animate)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def _finish(tree: dict[str, Any]) -> None:
    """Give every mesh the material, and its colours glTF's name: the library writes those as bytes only.

    Animated nodes may have no matrix, and none needs one.
    """
    tree["materials"] = [_MATERIAL]
    for node in tree["nodes"]:
        node.pop("matrix", None)
    for mesh in tree["meshes"]:
        for part in mesh["primitives"]:
            part["attributes"]["COLOR_0"] = part["attributes"].pop("_COLOR")
            part["material"] = 0


def _append_animation(buffers: dict[str, bytes], tree: dict[str, Any], count: int, rate: Fraction) -> None:
    """Steps in the scale of every frame's node: 1 while it is shown, else 0."""
    times = np.arange(count + 1, dtype=np.float32) / float(rate)
    time = _append(buffers, tree, times[:, None], "SCALAR")
    nodes = {node["name"]: index for index, node in enumerate(tree["nodes"]) if "mesh" in node}
    channels, samplers = [], []
    for index in range(count):
        scales = np.zeros((count + 1, 3), np.float32)
        scales[index] = 1
        scales[-1] = float(index == count - 1)  # the last frame lasts as long as the others
        samplers.append({"input": time, "output": _append(buffers, tree, scales, "VEC3"), "interpolation": "STEP"})
        target = {"node": nodes[f"frame{index + 1:04d}"], "path": "scale"}
        channels.append({"sampler": index, "target": target})
    tree["animations"] = [{"name": "clip", "channels": channels, "samplers": samplers}]


def _append_morph(buffers: dict[str, bytes], tree: dict[str, Any], surfaces: Sequence[Surface], rate: Fraction) -> None:
    """Differences of positions and normals from the first frame, and weights of which one is 1 at each key."""
    first, mesh, count = surfaces[0], tree["meshes"][0], len(surfaces)
    if count < 2:
        return
    mesh["primitives"][0]["targets"] = [
        {
            "POSITION": _append(buffers, tree, (surface.vertices - first.vertices).numpy(), "VEC3"),
            "NORMAL": _append(buffers, tree, (surface.normals() - first.normals()).numpy(), "VEC3"),
        }
        for surface in surfaces[1:]
    ]
    mesh["weights"] = [0.0] * (count - 1)
    time = _append(buffers, tree, np.arange(count, dtype=np.float32)[:, None] / float(rate), "SCALAR")
    weights = _append(buffers, tree, np.eye(count, count - 1, -1, dtype=np.float32).reshape(-1, 1), "SCALAR")
    node = next(index for index, node in enumerate(tree["nodes"]) if "mesh" in node)
    channel = {"sampler": 0, "target": {"node": node, "path": "weights"}}
    sampler = {"input": time, "output": weights, "interpolation": "LINEAR"}
    tree["animations"] = [{"name": "clip", "channels": [channel], "samplers": [sampler]}]


def _append(buffers: dict[str, bytes], tree: dict[str, Any], values: np.ndarray, kind: str) -> int:
    """Add an array to the file; the number of its accessor. Each entry of ``buffers`` becomes a view of that number."""
    buffers[f"animation {len(buffers)}"] = values.astype("<f4").tobytes()
    bounds = {"min": values.min(0).tolist(), "max": values.max(0).tolist()}
    accessor = {"bufferView": len(buffers) - 1, "componentType": _FLOAT, "type": kind, "count": len(values)}
    tree["accessors"][f"animation {len(buffers)}"] = accessor | bounds
    return len(tree["accessors"]) - 1
