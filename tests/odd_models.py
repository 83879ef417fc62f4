"""GLB files with everything that a file from the internet can have wrong, made from a toy."""

from __future__ import annotations

import json
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np

from blender_scripts.procedural.families import make_model
from blender_scripts.procedural.glb import write_glb
from blender_scripts.procedural.toy import make_toy

MERGE = """
import bpy, sys
first, second, out, draco = sys.argv[1:]
bpy.ops.wm.read_factory_settings(use_empty=True)
for path in (first, second):
    if path: bpy.ops.import_scene.gltf(filepath=path)
bpy.ops.export_scene.gltf(filepath=out, export_draco_mesh_compression_enable=draco == "draco",
                          export_animation_mode="ACTIONS" if draco == "draco" else "NLA_TRACKS")
"""


def read_glb(path: Path) -> tuple[dict, bytes]:
    """The JSON of a GLB and its binary chunk."""
    data = path.read_bytes()
    size = struct.unpack_from("<I", data, 12)[0]
    return json.loads(data[20 : 20 + size]), data[28 + size :]


def save_glb(path: Path, content: dict, binary: bytes) -> None:
    text = json.dumps(content).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
    path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)


def accessor(content: dict, binary: bytearray, index: int) -> np.ndarray:
    """The numbers of a float accessor, writable in place."""
    entry = content["accessors"][index]
    start = content["bufferViews"][entry["bufferView"]]["byteOffset"]
    width = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}[entry["type"]]
    return np.frombuffer(memoryview(binary), np.float32, entry["count"] * width, start)


def positions(content: dict, binary: bytearray) -> list[np.ndarray]:
    return [accessor(content, binary, mesh["primitives"][0]["attributes"]["POSITION"]) for mesh in content["meshes"]]


def _not_a_number(content: dict, binary: bytearray) -> None:
    accessor(content, binary, content["animations"][0]["samplers"][0]["output"])[:] = np.nan


def _no_size(content: dict, binary: bytearray) -> None:
    for values in positions(content, binary):
        values[:] = 0.0
    for node in content["nodes"]:
        node.pop("translation", None)
    del content["animations"]


def _no_faces(content: dict, binary: bytearray) -> None:
    for mesh in content["meshes"]:
        del mesh["primitives"][0]["indices"]
        mesh["primitives"][0]["mode"] = 0  # points


def _no_mesh(content: dict, binary: bytearray) -> None:
    for node in content["nodes"]:
        node.pop("mesh", None)


def _stands_still(content: dict, binary: bytearray) -> None:
    for sampler in content["animations"][0]["samplers"]:
        values = accessor(content, binary, sampler["output"]).reshape(-1, 4)
        values[:] = values[0]


def _one_key(content: dict, binary: bytearray) -> None:
    for entry in {s[k] for s in content["animations"][0]["samplers"] for k in ("input", "output")}:
        content["accessors"][entry]["count"] = 1


def _long(content: dict, binary: bytearray) -> None:
    for entry in {s["input"] for s in content["animations"][0]["samplers"]}:
        accessor(content, binary, entry)[:] *= 10_000 / 24.0


def _second_scene(content: dict, binary: bytearray) -> None:
    content["nodes"].append({"name": "elsewhere", "mesh": 1, "scale": [50, 50, 50], "translation": [90, 0, 0]})
    content["scenes"].append({"nodes": [len(content["nodes"]) - 1]})


def _scaled(factor: float) -> Callable[[dict, bytearray], None]:
    def change(content: dict, binary: bytearray) -> None:
        content["nodes"].append(
            {"name": "far", "children": [0], "scale": [factor] * 3, "translation": [3 * factor] * 3}
        )
        content["scenes"][0]["nodes"] = [len(content["nodes"]) - 1]

    return change


def _lost_texture(content: dict, binary: bytearray) -> None:
    content["images"][0] = {"uri": "nowhere.png"}


CHANGES: dict[str, Callable[[dict, bytearray], None]] = {
    "not_a_number": _not_a_number,
    "no_size": _no_size,
    "no_faces": _no_faces,
    "no_mesh": _no_mesh,
    "stands_still": _stands_still,
    "one_key": _one_key,
    "long": _long,
    "second_scene": _second_scene,
    "tiny": _scaled(1e-6),
    "huge": _scaled(1e6),
    "lost_texture": _lost_texture,
}


def make_odd_models(folder: Path, blender_python: Path) -> None:
    """Write them all; each is named after what is odd about it."""
    folder.mkdir(parents=True)
    toy = folder / "toy.glb"
    write_glb(toy, make_toy(0))
    write_glb(folder / "no_animation.glb", make_toy(0), static=True)
    write_glb(folder / "morphs.glb", make_model(3, "slime")[1])
    write_glb(folder / "skin.glb", make_model(3, "fish")[1])
    for name, change in CHANGES.items():
        content, binary = read_glb(toy)
        writable = bytearray(binary)
        change(content, writable)
        save_glb(folder / f"{name}.glb", content, bytes(writable))
    data = toy.read_bytes()
    (folder / "cut.glb").write_bytes(data[: len(data) // 2])
    (folder / "empty.glb").touch()
    (folder / "noise.glb").write_bytes(np.random.default_rng(0).bytes(5000))
    (folder / "nothing.gltf").write_text(json.dumps({"asset": {"version": "2.0"}}))
    skin = str(folder / "skin.glb")
    for name, (first, second, how) in {
        "draco": (skin, "", "draco"),
        "two_rigs": (skin, str(folder / "morphs.glb"), ""),
    }.items():
        out = folder / f"{name}.glb"
        subprocess.run([blender_python, "-c", MERGE, first, second, out, how], check=True, capture_output=True)
