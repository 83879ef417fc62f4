"""People and robots: two legs, two arms, a head; with hats, tools and packs."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from blender_scripts.procedural.creatures import Body, X, Y, Z, head, leg
from blender_scripts.procedural.mesh import Mesh, box, cylinder, ellipsoid, extrude, rotation, star
from blender_scripts.procedural.model import Model
from blender_scripts.procedural.textures import Palette


def person(rng: Generator, palette: Palette) -> Model:
    """Two legs, two arms, a head; a hat, something in the hand or on the back; walks, waves, cheers or squats."""
    model = Model(int(rng.choice([1, 1, 2])))
    body = Body(model, palette, rng, str(rng.choice(["skin", "tubes", "boxes", "boxes", "pebbles"])))
    legs, torso, width = rng.uniform(0.25, 0.6), rng.uniform(0.3, 0.5), rng.uniform(0.1, 0.24)
    limb, size = rng.uniform(0.045, 0.09), rng.uniform(0.11, 0.25)
    hips = np.array([0, legs + limb, 0])
    pelvis = model.joint("pelvis", 0, hips)
    shoulders = hips + (0, torso, 0)
    chest = model.joint("chest", pelvis, hips + (0, 0.4 * torso, 0))
    body.bone(pelvis, hips, hips + (0, 0.4 * torso, 0), width * rng.uniform(0.7, 1.1), width, "trousers")
    body.bone(chest, hips + (0, 0.4 * torso, 0), shoulders, width, width * rng.uniform(0.7, 1.2))
    act = str(rng.choice(["walk", "walk", "wave", "cheer", "dance"]))
    swing = rng.uniform(20, 40) * (1.0 if act in ("walk", "dance") else 0.15)
    for side in (-1, 1):
        at = hips + (0.6 * side * width, -0.3 * limb, 0)
        leg(body, pelvis, at, np.array([at[0] * 1.1, 0.5 * limb, 0]), limb, np.pi * (side > 0), swing, (0, 0, 0.03))
    reach = rng.uniform(0.25, 0.5)
    for side in (-1, 1):
        at = shoulders + (side * (width + 0.4 * limb), -0.2 * limb, 0)
        spread = np.deg2rad(rng.uniform(10, 50))
        down = np.array([side * np.sin(spread), -np.cos(spread), 0])
        elbow_at, hand_at = at + 0.5 * reach * down, at + reach * down + (0, 0, 0.05)
        upper = model.joint("shoulder", chest, at)
        lower = model.joint("elbow", upper, elbow_at)
        body.bone(upper, at, elbow_at, 0.9 * limb, 0.8 * limb, "body")
        body.bone(lower, elbow_at, hand_at, 0.8 * limb, 0.7 * limb, "head")
        if act in ("cheer", "wave") and (side > 0 or act == "cheer"):
            model.swing(upper, Z, 20 * side, 0.0, 2, bias=110 * side)
            model.swing(lower, Z, 25 * side, 1.0, 2, bias=15 * side)
        else:
            model.swing(upper, X, swing, np.pi * (side < 0))
            model.swing(lower, X, 15, np.pi * (side < 0), bias=-25)
        if side < 0 and rng.uniform() < 0.4:
            _held(model, palette, rng, lower, hand_at, reach)
    neck = shoulders + (0, 0.4 * limb + 0.5 * width * (body.style == "skin"), 0)
    top = head(body, chest, neck, size)
    if rng.uniform() < 0.4:
        hat = rng.choice(["cone", "cylinder", "helmet"])
        at = neck + (0, 1.35 * size, 0.2 * size)
        brim = cylinder(1.3 * size, 0.08 * size, 16).moved(at)
        shape = {"cone": cylinder(0.9 * size, 1.6 * size, 12, 0.0), "cylinder": cylinder(0.8 * size, size, 16)}
        crown = shape.get(str(hat), ellipsoid(3 * [1.05 * size], 14).moved((0, -0.5 * size, 0)))
        model.add(brim, palette.get("hat"), top)
        model.add(crown.moved(at + (0, 0.5 * size, 0)), palette.get("hat"), top)
    if rng.uniform() < 0.2:
        pack = box((1.5 * width, 0.7 * torso, 0.9 * width), 0.03, 0.1)
        model.add(pack.moved(shoulders + (0, -0.4 * torso, -1.2 * width)), palette.get("accent"), chest)
    model.bob(pelvis, (0, rng.uniform(0.01, 0.06), 0), 0.0, 2)
    model.swing(chest, Y, rng.uniform(2, 15), 0.5)
    if act == "dance":
        model.swing(pelvis, Z, rng.uniform(5, 14), 0.0)
    body.finish()
    return model


def _held(model: Model, palette: Palette, rng: Generator, joint: int, hand: np.ndarray, reach: float) -> None:
    """A sword, staff or hammer in the hand, pointing forwards."""
    length = reach * rng.uniform(0.8, 1.8)
    parts: list[tuple[Mesh, str]] = [(cylinder(0.02, length, 8), "handle")]
    kind = rng.choice(["sword", "staff", "hammer"])
    if kind == "sword":
        parts = [
            (extrude(np.array([[0.04, 0], [0.03, 0.8], [0, 1], [-0.03, 0.8], [-0.04, 0]]) * (1, length), 0.02), "blade")
        ]
        parts.append((box((0.18, 0.03, 0.05)), "handle"))
    elif kind == "hammer":
        parts.append((box((0.2, 0.12, 0.12), 0.02, 0.1).moved((0, 0.5 * length, 0)), "blade"))
    else:
        parts.append((extrude(star(5, 0.5) * 0.1, 0.05, 0.2).moved((0, 0.5 * length, 0)), "blade"))
    for mesh, name in parts:
        model.add(mesh.moved(turn=rotation(X, 70)).moved(hand), palette.get(name), joint)
