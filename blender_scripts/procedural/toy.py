"""A toy of swinging boxes: its silhouettes can be computed from the positions of its corners."""

from __future__ import annotations

import colorsys

import numpy as np

from blender_scripts.procedural.creatures import X, Y, Z
from blender_scripts.procedural.mesh import Mesh, from_quads
from blender_scripts.procedural.model import Model
from blender_scripts.procedural.textures import SIZE, Material

_CORNERS = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
# Faces as corner indices, counter-clockwise seen from outside.
_FACES = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])


def corner_box(size: object, centre: object) -> Mesh:
    """A box of eight points."""
    uv = np.tile(np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float), (6, 1, 1))
    return from_quads(_CORNERS * size + np.asarray(centre, float), _FACES, uv)


def make_toy(seed: int) -> Model:
    """A body with a head, legs, a tail and one odd arm; its own proportions, colours and gait for every seed.

    Every part is one box on a joint of its own, so ``Model.points`` gives the eight corners of each.
    """
    rng = np.random.default_rng(seed)
    model = Model()

    def paint() -> Material:
        return Material(colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(0.4, 0.9), rng.uniform(0.4, 0.8)), crease=0.0)

    def add(
        parent: int, at: object, offset: object, size: object, material: Material,
        axis: np.ndarray = X, swing: float = 0.0, phase: float = 0.0,
    ) -> int:  # fmt: skip
        place = model.joints[parent].at + at
        joint = model.joint(f"joint{len(model.joints)}", parent, place)
        model.add(corner_box(size, place + offset), material, joint)
        if swing:
            model.swing(joint, axis, np.rad2deg(swing), phase)
        return joint

    width, height, length = rng.uniform((0.3, 0.25, 0.5), (0.6, 0.5, 1.0))
    head, leg, tail, arm = rng.uniform((0.25, 0.3, 0.3, 0.3), (0.45, 0.6, 0.7, 0.5))
    swing = rng.uniform(0.4, 0.7)
    legs, skin = paint(), paint()
    grey = np.random.default_rng([seed, 1]).integers(100, 256, (8, 8), dtype=np.uint8)
    patches = np.repeat(np.kron(grey, np.ones((SIZE // 8, SIZE // 8), np.uint8))[..., None], 3, axis=2)
    body = add(
        0, (0, 0, 0), (0, 0, 0), (width, height, length), Material(skin.colour, patches, crease=0.0), Y, 0.2 * swing
    )
    front, top = 0.5 * length, 0.5 * height
    neck = add(body, (0, top, front), (0, 0.4 * head, 0.3 * head), (head, head, head), paint(), swing=0.3)
    add(neck, (0, 0.3 * head, 0.8 * head), (0, 0, 0.1), (0.1, 0.1, 0.2), paint())
    add(body, (0, 0, -front), (0, 0, -0.5 * tail), (0.1, 0.1, tail), paint(), Y, swing, 1.0)
    for i, (side, end) in enumerate(((-1, 1), (1, -1), (1, 1), (-1, -1))):
        hip = (side * 0.4 * width, -0.8 * top, end * 0.7 * front)
        add(body, hip, (0, -0.5 * leg, 0), (0.12, leg, 0.12), legs, X, swing, np.pi * (i > 1))
    # On one side only: a mirrored picture of the toy is another toy.
    add(body, (0.5 * width, 0.0, 0.3 * front), (0.5 * arm, 0, 0), (arm, 0.1, 0.1), paint(), Z, swing, 2.0)
    return model
