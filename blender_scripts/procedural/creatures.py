"""Creatures: animals on any number of legs, insects and birds; of one skin or of parts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator

from blender_scripts.procedural.blobs import Capsule, skin_weights, surface
from blender_scripts.procedural.mesh import (
    box,
    ellipsoid,
    extrude,
    lathe,
    rotation,
    towards,
    tube,
)
from blender_scripts.procedural.model import Model
from blender_scripts.procedural.textures import Palette

X, Y, Z = np.eye(3)


class Body:
    """Bones that become, all alike, one smooth skin, tubes, boxes or pebbles."""

    def __init__(self, model: Model, palette: Palette, rng: Generator, style: str | None = None) -> None:
        self.model, self.palette, self.rng = model, palette, rng
        self.style = style or str(rng.choice(["skin", "skin", "skin", "tubes", "boxes", "pebbles"]))
        self.capsules: list[Capsule] = []

    def bone(self, joint: int, a: object, b: object, ra: float, rb: float, material: str = "body") -> None:
        """A rounded limb from ``a`` to ``b`` that moves with a joint."""
        a, b = np.asarray(a, float), np.asarray(b, float)
        if self.style == "skin":
            self.capsules.append(Capsule(a, b, ra, rb, joint))
            return
        length = float(np.linalg.norm(b - a)) + 1e-6
        turn, middle = towards(b - a), 0.5 * (a + b)
        if self.style == "tubes":
            at, radius = np.array([0.0, 0.3, 0.7, 1.0])[:, None], np.array([0.55, 1.0, 1.0, 0.6])
            path = a - (b - a) / length * 0.6 * ra + at * ((b - a) * (1 + 0.6 * (ra + rb) / length))
            mesh = tube(path, radius * np.linspace(ra, rb, 4), 12).with_uv_scale(2, 1)
        elif self.style == "boxes":
            mesh = box((1.7 * ra, length + 0.9 * (ra + rb), 1.7 * ra), 0.0, 0.12).moved(middle, turn)
        else:
            mesh = ellipsoid((1.15 * ra, 0.5 * length + 0.5 * (ra + rb), 1.15 * rb), 14).moved(middle, turn)
        self.model.add(mesh, self.palette.get(material), joint)

    def finish(self) -> None:
        """Close the skin over the bones."""
        if self.style != "skin":
            return
        cells = int(self.rng.integers(30, 46))
        mesh = surface(self.capsules, cells, float(self.rng.uniform(0.04, 0.12)))
        repeat = float(self.rng.uniform(0.7, 2.0))
        skin = skin_weights(self.capsules, mesh.points, 0.035)
        self.model.add(mesh.box_mapped(repeat), self.palette.get("body", 0.65), 0, skin)


def leg(
    body: Body, hip: int, at: np.ndarray, foot: np.ndarray, thick: float, phase: float, swing: float, bend: Sequence
) -> None:
    """A leg of two bones and a foot, walking: it swings about x at the hip and bends at the knee."""
    model = body.model
    knee_at = 0.5 * (at + foot) + np.asarray(bend)
    upper = model.joint("hip", hip, at)
    lower = model.joint("knee", upper, knee_at)
    body.bone(upper, at, knee_at, thick, 0.8 * thick, "limbs")
    body.bone(lower, knee_at, foot, 0.8 * thick, 0.6 * thick, "limbs")
    body.bone(lower, foot, foot + (0, 0, 1.2 * thick), 0.7 * thick, 0.6 * thick, "feet")
    model.swing(upper, X, swing, phase)
    model.swing(lower, X, 0.5 * swing, phase + 1.8, bias=0.4 * swing)


def eyes(model: Model, palette: Palette, joint: int, at: np.ndarray, apart: float, size: float) -> None:
    """A pair of eyes that look along +z."""
    for side in (-1, 1):
        place = at + (side * apart, 0, 0)
        model.add(ellipsoid(3 * [size], 12).moved(place), palette.plain("white", (0.95, 0.95, 0.95)), joint)
        pupil = place + (0.15 * side * size, 0, 0.55 * size)
        model.add(ellipsoid(3 * [0.6 * size], 10).moved(pupil), palette.plain("black", (0.04, 0.04, 0.05)), joint)


def head(body: Body, neck: int, at: np.ndarray, size: float, name: str = "head") -> int:
    """A head with a snout, eyes and perhaps ears, horns, a crest or antennae; its joint."""
    model, palette, rng = body.model, body.palette, body.rng
    joint = model.joint(name, neck, at)
    snout = rng.uniform(0.2, 1.3) * size
    centre = at + (0, 0.5 * size, 0.2 * size)
    body.bone(joint, centre, centre + (0, 0, 0.1), size, 0.9 * size, "head")
    body.bone(joint, centre + (0, -0.3 * size, 0.5 * size), centre + (0, -0.35 * size, 0.6 * size + snout),
              0.55 * size, rng.uniform(0.3, 0.5) * size, "head")  # fmt: skip
    eyes(model, palette, joint, centre + (0, 0.35 * size, 0.75 * size), 0.5 * size, rng.uniform(0.15, 0.3) * size)
    top = centre + (0, 0.75 * size, -0.1 * size)
    kind = rng.choice(["ears", "ears", "long ears", "horns", "antennae", "crest", "none"])
    for side in (-1, 1) if kind != "crest" else ():
        base = top + (0.55 * side * size, 0, 0)
        if kind in ("ears", "long ears"):
            height = size * rng.uniform(0.5, 0.8) * (2.2 if kind == "long ears" else 1.0)
            ear = model.joint("ear", joint, base)
            cone = lathe([(0.3 * size, 0), (0.35 * size, 0.4 * height), (0, height)], 8, depth=0.4)
            model.add(cone.moved(base, rotation(Z, -20 * side)), palette.get("body"), ear)
            model.swing(ear, Z, 12, side, 2)
        elif kind == "horns":
            t = np.linspace(0, 1, 7)[:, None]
            curve = base + t * (0.8 * side * size, 0, 0) + t**2 * (0, 1.2 * size, rng.uniform(-0.5, 0.5) * size)
            model.add(tube(curve, 0.25 * size * (1.05 - t[:, 0]), 8), palette.get("horn", 0.3), joint)
        elif kind == "antennae":
            end = base + (0.4 * side * size, 1.3 * size, 0.3 * size)
            model.add(
                tube([base, 0.6 * base + 0.4 * end + (0, 0.1, 0), end], 0.06 * size, 6), palette.get("horn"), joint
            )
            model.add(ellipsoid(3 * [0.2 * size], 10).moved(end), palette.get("accent"), joint)
    if kind == "crest":
        for row in range(4):
            spike = lathe([(0.25 * size, 0), (0, 0.8 * size)], 6, depth=0.4).moved(
                top + (0, 0, (0.3 - 0.4 * row) * size)
            )
            model.add(spike, palette.get("accent"), joint)
    model.swing(joint, X, rng.uniform(5, 18), rng.uniform(0, 6), int(rng.integers(1, 3)))
    model.swing(joint, Y, rng.uniform(0, 25), rng.uniform(0, 6))
    return joint


def tail(body: Body, parent: int, at: np.ndarray, direction: np.ndarray, length: float, thick: float) -> None:
    """A chain of bones that waves."""
    rng, joint = body.rng, parent
    count = int(rng.integers(2, 5))
    swing, droop, phase = rng.uniform(8, 30), rng.uniform(-0.4, 0.5), rng.uniform(0, 6)
    for index in range(count):
        joint = body.model.joint(f"tail{index}", joint, at)
        end = at + direction * length / count
        width = thick * (1.0 - 0.85 * index / count), thick * (1.0 - 0.85 * (index + 1) / count)
        body.bone(joint, at, end, *width, "body")
        body.model.swing(joint, Y, swing, phase - 0.8 * index)
        at, direction = end, rotation(X, 30 * droop) @ direction


def wing(body: Body, parent: int, at: np.ndarray, side: int, span: float, phase: float, cycles: int) -> None:
    """A wing of two flaps."""
    model, rng = body.model, body.rng
    chord = span * rng.uniform(0.35, 0.7)
    inner, outer = model.joint("wing", parent, at), None
    half = 0.5 * span
    outer = model.joint("wingtip", inner, at + (side * half, 0, 0))
    shapes = [(0, -0.8), (half, -1.0), (half, 0.5), (0, 0.5)], [(0, -1.0), (half, -0.4), (0.9 * half, 0.3), (0, 0.5)]
    for joint, start, shape in ((inner, 0.0, shapes[0]), (outer, half, shapes[1])):
        outline = np.array(shape) * (1, chord)
        plate = extrude(outline, 0.03 * span, 0.1).moved(turn=rotation(X, 90)).moved(scale=(side, 1, 1))
        model.add(plate.moved(at + (side * start, 0, 0)), body.palette.get("wing", 0.6), joint)
    amplitude = rng.uniform(20, 50)
    model.swing(inner, Z, side * amplitude, phase, cycles)
    model.swing(outer, Z, side * 0.6 * amplitude, phase - 1.0, cycles)


def animal(rng: Generator, palette: Palette) -> Model:
    """Body, one to four pairs of legs, a neck and a head or two, a tail, perhaps wings or a back of spikes."""
    model = Model(int(rng.choice([1, 1, 2])))
    body = Body(model, palette, rng)
    length, thick = rng.uniform(0.5, 1.1), rng.uniform(0.13, 0.28)
    height = rng.uniform(0.15, 0.7) + thick
    pairs = int(rng.choice([2, 2, 2, 2, 1, 3, 4]))
    swing = rng.uniform(15, 40)
    root = model.joint("body", 0, (0, height, 0))
    model.bob(root, (0, rng.uniform(0.01, 0.05), 0), 0.0, 2)
    model.swing(root, Y, rng.uniform(0, 8))
    ends = np.array([0, height, -0.5 * length]), np.array([0, height + rng.uniform(-0.05, 0.2), 0.5 * length])
    chest = model.joint("chest", root, 0.5 * (ends[0] + ends[1]))
    model.swing(chest, Y, rng.uniform(0, 10), 1.0)
    slim = rng.uniform(0.6, 1.1, 2)
    body.bone(root, ends[0], 0.5 * (ends[0] + ends[1]), thick * slim[0], thick)
    body.bone(chest, 0.5 * (ends[0] + ends[1]), ends[1], thick, thick * slim[1])
    limb = thick * rng.uniform(0.25, 0.5)
    knee = rng.uniform(-0.12, 0.12)
    splay = rng.uniform(0.0, 0.5) if pairs > 2 else rng.uniform(-0.02, 0.1)
    for pair in range(pairs):
        share = 0.5 if pairs == 1 else pair / (pairs - 1)
        place = ends[0] * (1 - share) + ends[1] * share
        for side in (-1, 1):
            at = place + (0.75 * side * thick, -0.3 * thick, 0)
            foot = np.array([at[0] + side * splay * 0.6, 0.6 * limb, at[2]])
            phase = np.pi * ((pair + (side > 0)) % 2) + 0.3 * pair
            bend = (0.3 * side * splay, 0.25 * splay, knee if pair == pairs - 1 else -knee)
            leg(body, chest if share > 0.5 else root, at, foot, limb, phase, swing, bend)
    rise = np.deg2rad(rng.uniform(10, 80))
    reach = rng.uniform(0.05, 0.5)
    for side in (0,) if rng.uniform() < 0.93 else (-1, 1):
        neck = model.joint("neck", chest, ends[1])
        top = ends[1] + reach * np.array([0.6 * side, np.sin(rise), np.cos(rise)])
        body.bone(neck, ends[1], top, thick * 0.8 * slim[1], thick * 0.5)
        model.swing(neck, X, rng.uniform(2, 12), rng.uniform(0, 6))
        head(body, neck, top, rng.uniform(0.1, 0.24))
    if rng.uniform() < 0.85:
        angle = np.deg2rad(rng.uniform(-40, 70))
        direction = np.array([0, np.sin(angle), -np.cos(angle)])
        tail(body, root, ends[0], direction, rng.uniform(0.15, 0.9), thick * rng.uniform(0.2, 0.7))
    if rng.uniform() < 0.2:
        span = rng.uniform(0.4, 0.9)
        for side in (-1, 1):
            wing(body, chest, ends[1] * 0.6 + ends[0] * 0.4 + (0.4 * side * thick, 0.7 * thick, 0), side, span, 0.5, 1)
    elif rng.uniform() < 0.25:
        for share in np.linspace(0.1, 0.9, int(rng.integers(3, 8))):
            at = ends[0] * (1 - share) + ends[1] * share + (0, 0.8 * thick, 0)
            spike = lathe([(0.3 * thick, 0), (0, 1.2 * thick)], 6, depth=0.5).moved(at)
            model.add(spike, palette.get("accent"), root if share < 0.5 else chest)
    body.finish()
    return model


def insect(rng: Generator, palette: Palette) -> Model:
    """A bee, beetle, butterfly or bird in the air: a short body and wings that beat."""
    model = Model(1)
    body = Body(model, palette, rng)
    root = model.joint("body", 0, (0, 0, 0))
    model.bob(root, (0, rng.uniform(0.03, 0.1), 0), 1.5)
    length, thick = rng.uniform(0.3, 0.7), rng.uniform(0.08, 0.2)
    body.bone(root, (0, 0, -0.5 * length), (0, 0, 0.3 * length), thick * rng.uniform(0.4, 1.2), thick)
    head(body, root, np.array([0, 0.2 * thick, 0.5 * length]), rng.uniform(0.08, 0.18))
    cycles = int(rng.choice([1, 2]))
    for pair in range(int(rng.choice([1, 1, 2]))):
        for side in (-1, 1):
            at = np.array([0.5 * side * thick, 0.6 * thick, 0.1 * length - 0.3 * pair])
            wing(body, root, at, side, rng.uniform(0.4, 0.8) * (1 - 0.3 * pair), 0.6 * pair, cycles)
    if rng.uniform() < 0.6:
        tail(body, root, np.array([0, 0, -0.5 * length]), -Z, rng.uniform(0.1, 0.4), 0.5 * thick)
    for place in np.linspace(-0.2, 0.2, int(rng.integers(1, 4))) if rng.uniform() < 0.7 else ():
        for side in (-1, 1):
            at = np.array([0.6 * side * thick, -0.5 * thick, place * length])
            foot = at + (0.1 * side, -0.2, 0)
            leg(body, root, at, foot, 0.025, 3 * place, 10, (0.06 * side, 0.05, 0))
    body.finish()
    return model
