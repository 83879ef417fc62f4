"""A model as a GLB file: nodes, meshes with textures or vertex colours, skins, morph targets, one animation."""

from __future__ import annotations

import io
import json
import os
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from blender_scripts.procedural.model import FPS, Model, Part
from blender_scripts.procedural.textures import Material

_COMPONENTS = {"f": 5126, "H": 5123, "I": 5125}


class _Document:
    """A GLB under construction: its JSON and its binary chunk."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.json: dict[str, list] = {}
        self.images: dict[int, int] = {}
        self.materials: dict[int, int] = {}

    def append(self, name: str, item: dict) -> int:
        items = self.json.setdefault(name, [])
        items.append(item)
        return len(items) - 1

    def view(self, data: bytes) -> int:
        view = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(data)}
        self.data += data + b"\0" * (-len(data) % 4)
        return self.append("bufferViews", view)

    def array(self, values: np.ndarray, kind: str, code: str = "f") -> int:
        flat = np.ascontiguousarray(values, np.dtype(code).newbyteorder("<"))
        accessor = {"bufferView": self.view(flat.tobytes()), "componentType": _COMPONENTS[code], "type": kind}
        rows = flat.reshape(len(flat), -1)
        bounds = {} if code != "f" else {"min": rows.min(0).tolist(), "max": rows.max(0).tolist()}
        return self.append("accessors", accessor | {"count": len(flat)} | bounds)


def _linear(colour: object) -> np.ndarray:
    """sRGB -> linear RGB, the colour space of glTF's factors and vertex colours."""
    colour = np.asarray(colour, float)
    return np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)


def _add_material(document: _Document, material: Material) -> int:
    if id(material) in document.materials:
        return document.materials[id(material)]
    surface = {"baseColorFactor": [*_linear(material.colour).tolist(), 1.0]}
    surface |= {"metallicFactor": material.metallic, "roughnessFactor": material.roughness}
    if material.image is not None:
        buffer = io.BytesIO()
        Image.fromarray(material.image).save(buffer, format="PNG")
        image = document.append("images", {"bufferView": document.view(buffer.getvalue()), "mimeType": "image/png"})
        surface["baseColorTexture"] = {"index": document.append("textures", {"source": image})}
    entry: dict = {"pbrMetallicRoughness": surface, "doubleSided": True}
    if material.glow:
        entry["emissiveFactor"] = (_linear(material.colour) * material.glow).tolist()
    document.materials[id(material)] = document.append("materials", entry)
    return document.materials[id(material)]


def _corner_attributes(part: Part, origin: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Unique vertices by attributes, faces ``[F, 3]``, and the source point of every vertex."""
    mesh, material = part.mesh, part.material
    vertex = mesh.faces.reshape(-1)
    columns = {"POSITION": (mesh.points - origin)[vertex], "NORMAL": mesh.normals(material.crease).reshape(-1, 3)}
    if material.image is not None:
        columns["TEXCOORD_0"] = mesh.uv.reshape(-1, 2)
    if material.gradient is not None:
        low, high = mesh.points.min(0), mesh.points.max(0)
        axis = int((high - low).argmax())
        share = ((mesh.points[:, axis] - low[axis]) / max(high[axis] - low[axis], 1e-9))[:, None]
        colours = _linear(material.gradient[0]) * (1.0 - share) + _linear(material.gradient[1]) * share
        columns["COLOR_0"] = np.concatenate([colours, np.ones_like(share)], axis=1)[vertex]
    table = np.round(np.concatenate([vertex[:, None], *columns.values()], axis=1), 5)
    _, first, inverse = np.unique(table, axis=0, return_index=True, return_inverse=True)
    return {name: values[first] for name, values in columns.items()}, inverse.reshape(-1, 3), vertex[first]


def _add_mesh(document: _Document, part: Part, origin: np.ndarray) -> int:
    values, faces, source = _corner_attributes(part, origin)
    kinds = {"POSITION": "VEC3", "NORMAL": "VEC3", "TEXCOORD_0": "VEC2", "COLOR_0": "VEC4"}
    attributes = {name: document.array(array, kinds[name]) for name, array in values.items()}
    if part.skin:
        joints, weights = part.skin
        attributes["JOINTS_0"] = document.array(joints[source], "VEC4", "H")
        attributes["WEIGHTS_0"] = document.array(weights[source], "VEC4")
    code = "I" if len(source) > 65535 else "H"
    primitive = {"attributes": attributes, "indices": document.array(faces.reshape(-1), "SCALAR", code)}
    primitive["material"] = _add_material(document, part.material)
    if part.morphs:
        primitive["targets"] = [{"POSITION": document.array(offsets[source], "VEC3")} for offsets, _ in part.morphs]
    mesh = {"primitives": [primitive]}
    return document.append("meshes", mesh | ({"weights": [0.0] * len(part.morphs)} if part.morphs else {}))


def write_glb(path: Path, model: Model, static: bool = False) -> None:
    """Write a model, ``static`` without its animation; the file appears whole or not at all."""
    document = _Document()
    nodes: list[dict] = []
    for index, joint in enumerate(model.joints):
        children = [child for child, other in enumerate(model.joints) if other.parent == index]
        node = {"name": joint.name, "translation": model.offset(index).tolist()}
        nodes.append(node | ({"children": children} if children else {}))
    rest = np.repeat(np.eye(4)[None], len(nodes), axis=0)
    rest[:, 3, :3] = [-joint.at for joint in model.joints]  # column-major, as glTF has it
    channels: list[tuple[int, str, np.ndarray, str]] = []
    roots = [0]
    for number, part in enumerate(model.parts):
        skinned = part.skin is not None
        mesh = _add_mesh(document, part, np.zeros(3) if skinned else model.joints[part.joint].at)
        node = {"name": f"part{number:02d}", "mesh": mesh}
        if skinned:
            if "skins" not in document.json:
                inverse = document.array(rest.reshape(-1, 16), "MAT4")
                document.append("skins", {"joints": list(range(len(model.joints))), "inverseBindMatrices": inverse})
            node["skin"] = 0
            roots.append(len(nodes))
        else:
            nodes[part.joint].setdefault("children", []).append(len(nodes))
        if part.morphs:
            weights = np.stack([weights for _, weights in part.morphs], axis=1)
            channels.append((len(nodes), "weights", weights.reshape(-1), "SCALAR"))
        nodes.append(node)
    for index, joint in enumerate(model.joints):
        if joint.turn is not None:
            channels.append((index, "rotation", joint.turn[:, [1, 2, 3, 0]], "VEC4"))
        if joint.shift is not None:
            channels.append((index, "translation", joint.shift + model.offset(index), "VEC3"))
        if joint.scale is not None:
            channels.append((index, "scale", joint.scale, "VEC3"))
    if channels and not static:
        times = document.array(np.arange(model.keys) / FPS, "SCALAR")
        animation: dict = {"name": "motion", "samplers": [], "channels": []}
        for number, (node, what, values, kind) in enumerate(channels):
            animation["samplers"].append({"input": times, "output": document.array(values, kind)})
            animation["channels"].append({"sampler": number, "target": {"node": node, "path": what}})
        document.append("animations", animation)
    header = {"asset": {"version": "2.0", "generator": "make_procedural.py"}, "scene": 0, "scenes": [{"nodes": roots}]}
    _write(path, header | {"nodes": nodes, "buffers": [{"byteLength": len(document.data)}]} | document.json, document)


def _write(path: Path, content: dict, document: _Document) -> None:
    text = json.dumps(content).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(document.data), b"BIN\0")
    chunks += bytes(document.data)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)
    os.replace(temporary, path)
