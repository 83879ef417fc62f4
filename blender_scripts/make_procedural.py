"""Make an animated toy from a seed and write it as a GLB: a textured body with a head, legs, a tail and one odd arm.

    python blender_scripts/make_procedural.py --out toy.glb --seed 3

No Blender needed. The toy is made of boxes that swing on joints, so that where each corner is at any time is known in
closed form (``corners``); a test holds rendered silhouettes against it. World: y up, the front looks along +z.
"""

from __future__ import annotations

import argparse
import colorsys
import io
import json
import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

KEYS, FPS = 25, 24  # one second: the last key repeats the first pose
_CORNERS = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
# Faces as corner indices, counter-clockwise seen from outside, and their normals.
_FACES = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])
_NORMALS = np.repeat(np.eye(3), 2, axis=0) * np.array([[-1], [1]] * 3)
_FLOAT, _USHORT = 5126, 5123


@dataclass(frozen=True)
class Part:
    """A box on a joint. Lengths are world units, angles radians.

    The joint sits at ``joint`` in the parent's frame and turns about ``axis`` by
    ``swing * sin(2 pi frame / 24 + phase)``; the box is centred at ``offset`` in the joint's frame.
    """

    name: str
    parent: int | None
    joint: tuple[float, float, float]
    offset: tuple[float, float, float]
    size: tuple[float, float, float]
    colour: tuple[float, float, float]
    axis: tuple[float, float, float] = (1.0, 0.0, 0.0)
    swing: float = 0.0
    phase: float = 0.0

    def angle(self, frame: float) -> float:
        """The joint's angle at a frame, of 24 a second."""
        return self.swing * float(np.sin(2.0 * np.pi * frame / (KEYS - 1) + self.phase))


def make_toy(seed: int) -> list[Part]:
    """A toy of its own proportions, colours and gait for every seed; parents come before their children."""
    rng = np.random.default_rng(seed)

    def paint() -> tuple[float, float, float]:
        return colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(0.4, 0.9), rng.uniform(0.4, 0.8))

    width, height, length = rng.uniform((0.3, 0.25, 0.5), (0.6, 0.5, 1.0))
    head, leg, tail, arm = rng.uniform((0.25, 0.3, 0.3, 0.3), (0.45, 0.6, 0.7, 0.5))
    swing = rng.uniform(0.4, 0.7)
    legs, skin = paint(), paint()
    parts = [Part("body", None, (0, 0, 0), (0, 0, 0), (width, height, length), skin, (0, 1, 0), 0.2 * swing)]
    front, top = 0.5 * length, 0.5 * height
    parts.append(Part("head", 0, (0, top, front), (0, 0.4 * head, 0.3 * head), (head, head, head), paint(), swing=0.3))
    parts.append(Part("nose", 1, (0, 0.3 * head, 0.8 * head), (0, 0, 0.1), (0.1, 0.1, 0.2), paint()))
    parts.append(Part("tail", 0, (0, 0, -front), (0, 0, -0.5 * tail), (0.1, 0.1, tail), paint(), (0, 1, 0), swing, 1.0))
    for i, (side, end) in enumerate(((-1, 1), (1, -1), (1, 1), (-1, -1))):
        joint = (side * 0.4 * width, -0.8 * top, end * 0.7 * front)
        parts.append(
            Part(f"leg{i}", 0, joint, (0, -0.5 * leg, 0), (0.12, leg, 0.12), legs, swing=swing, phase=np.pi * (i > 1))
        )
    # On one side only: a mirrored picture of the toy is another toy.
    joint = (0.5 * width, 0.0, 0.3 * front)
    parts.append(Part("arm", 0, joint, (0.5 * arm, 0, 0), (arm, 0.1, 0.1), paint(), (0, 0, 1), swing, 2.0))
    return parts


def _rotation(axis: tuple[float, float, float], angle: float) -> np.ndarray:
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * cross @ cross


def corners(parts: list[Part], frame: float) -> np.ndarray:
    """World positions ``[P, 8, 3]`` of the box corners of every part at a frame (24 a second)."""
    poses: list[tuple[np.ndarray, np.ndarray]] = []
    boxes = []
    for part in parts:
        rotation, position = (np.eye(3), np.zeros(3)) if part.parent is None else poses[part.parent]
        position = position + rotation @ np.array(part.joint)
        rotation = rotation @ _rotation(part.axis, part.angle(frame))
        poses.append((rotation, position))
        boxes.append((_CORNERS * part.size + part.offset) @ rotation.T + position)
    return np.stack(boxes)


class _Buffer:
    """The binary chunk of a GLB and the JSON views and accessors that describe it."""

    def __init__(self) -> None:
        self.data, self.views, self.accessors = b"", [], []

    def add_view(self, data: bytes) -> int:
        self.views.append({"buffer": 0, "byteOffset": len(self.data), "byteLength": len(data)})
        self.data += data + b"\0" * (-len(data) % 4)
        return len(self.views) - 1

    def add(self, array: np.ndarray, kind: str, component: int = _FLOAT) -> int:
        flat = np.ascontiguousarray(array, np.float32 if component == _FLOAT else np.uint16)
        accessor = {"bufferView": self.add_view(flat.tobytes()), "componentType": component, "type": kind}
        rows = flat.reshape(len(flat), -1)
        self.accessors.append(accessor | {"count": len(flat), "min": rows.min(0).tolist(), "max": rows.max(0).tolist()})
        return len(self.accessors) - 1


def _texture(seed: int) -> bytes:
    """A small PNG of random grey patches, multiplied with the body's colour."""
    patches = np.random.default_rng([seed, 1]).integers(100, 256, (8, 8), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(patches).convert("RGB").resize((64, 64), Image.Resampling.NEAREST).save(buffer, format="PNG")
    return buffer.getvalue()


def write_glb(path: Path, parts: list[Part], seed: int) -> None:
    """Write the toy with its one animation of a second; ``seed`` draws the body's texture."""
    buffer = _Buffer()
    index = np.concatenate([np.array([0, 1, 2, 0, 2, 3]) + 4 * face for face in range(6)])
    shared = {"NORMAL": buffer.add(np.repeat(_NORMALS, 4, axis=0), "VEC3")}
    shared["TEXCOORD_0"] = buffer.add(np.tile([[0, 0], [1, 0], [1, 1], [0, 1]], (6, 1)), "VEC2")
    indices = buffer.add(index, "SCALAR", _USHORT)
    times = buffer.add(np.arange(KEYS) / FPS, "SCALAR")
    nodes, meshes, materials, samplers, channels = [], [], [], [], []
    for number, part in enumerate(parts):
        points = (_CORNERS * part.size + part.offset)[_FACES].reshape(24, 3)
        primitive = {"attributes": {"POSITION": buffer.add(points, "VEC3"), **shared}, "indices": indices}
        meshes.append({"primitives": [primitive | {"material": number}]})
        surface = {"baseColorFactor": [*part.colour, 1.0], "metallicFactor": 0.0, "roughnessFactor": 0.9}
        materials.append({"pbrMetallicRoughness": surface})
        children = [child for child, other in enumerate(parts) if other.parent == number]
        node = {"name": part.name, "mesh": number, "translation": list(map(float, part.joint))}
        nodes.append(node | ({"children": children} if children else {}))
        if part.swing:
            half = 0.5 * np.array([part.angle(frame) for frame in range(KEYS)])
            turns = np.concatenate([np.sin(half)[:, None] * part.axis, np.cos(half)[:, None]], axis=1)  # x y z w
            samplers.append({"input": times, "output": buffer.add(turns, "VEC4"), "interpolation": "LINEAR"})
            channels.append({"sampler": len(samplers) - 1, "target": {"node": number, "path": "rotation"}})
    materials[0]["pbrMetallicRoughness"]["baseColorTexture"] = {"index": 0}
    image = {"bufferView": buffer.add_view(_texture(seed)), "mimeType": "image/png"}
    document = {
        "asset": {"version": "2.0", "generator": "make_procedural.py"},
        "scene": 0,
        "scenes": [{"nodes": [number for number, part in enumerate(parts) if part.parent is None]}],
        "nodes": nodes,
        "meshes": meshes,
        "materials": materials,
        "textures": [{"source": 0}],
        "images": [image],
        "animations": [{"name": "walk", "samplers": samplers, "channels": channels}],
        "accessors": buffer.accessors,
        "bufferViews": buffer.views,
        "buffers": [{"byteLength": len(buffer.data)}],
    }
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    chunks = (
        struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(buffer.data), b"BIN\0") + buffer.data
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)
    os.replace(temporary, path)


def main() -> None:
    """Parse, build, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the .glb to write")
    parser.add_argument("--seed", type=int, default=0, help="shape, colours and gait")
    args = parser.parse_args()
    write_glb(args.out, make_toy(args.seed), args.seed)


if __name__ == "__main__":
    main()
