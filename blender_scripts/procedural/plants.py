"""Plants that sway in the wind: trees, palms, flowers, cactuses, mushrooms."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from blender_scripts.procedural.blobs import Capsule, surface
from blender_scripts.procedural.creatures import X, Y, Z
from blender_scripts.procedural.mesh import Mesh, cylinder, ellipsoid, extrude, lathe, rotation, tube
from blender_scripts.procedural.model import Model
from blender_scripts.procedural.sea_life import chain, chain_skin
from blender_scripts.procedural.textures import Palette


def stem(model: Model, palette: Palette, rng: Generator, path: np.ndarray, radii: np.ndarray, sway: float) -> list[int]:
    """A skinned stem along a path that bends in the wind; its joints."""
    joints = chain(model, 0, path, "stem")
    mesh = tube(path, radii, int(rng.integers(5, 12)))
    if len(path) < 12:
        fine = np.linspace(0, len(path) - 1, 14)
        dense = np.stack([np.interp(fine, np.arange(len(path)), path[:, i]) for i in range(3)], axis=1)
        mesh = tube(dense, np.interp(fine, np.arange(len(path)), radii), int(rng.integers(6, 12)))
    model.add(mesh.with_uv_scale(1, 3), palette.get("stem", 0.4), 0, chain_skin(mesh, path, joints))
    axis = rng.normal(size=3) * (1, 0, 1) + 1e-6
    for index, joint in enumerate(joints):
        model.swing(joint, axis, sway / len(joints) * (0.5 + index), -0.5 * index)
    return joints


def bent(rng: Generator, height: float, count: int) -> np.ndarray:
    """A stem that leans a little, ``[count, 3]``, from the ground up."""
    t = np.linspace(0, 1, count)[:, None]
    lean = rng.normal(0, 0.15, 3) * (1, 0, 1)
    return t * height * Y + t**2 * height * lean


def leaf(length: float, width: float, tip: float = 0.5) -> Mesh:
    """A flat leaf in x and y from the origin upwards."""
    outline = np.array([[0.1, 0], [1, tip], [0.5, 0.85], [0, 1], [-0.5, 0.85], [-1, tip], [-0.1, 0]])
    return extrude(outline * (0.5 * width, length), 0.06 * width, 0.2)


def tree(rng: Generator, palette: Palette) -> Model:
    """A trunk with a crown: balls, cones, one cloud, or palm leaves."""
    model = Model(int(rng.choice([1, 2])))
    height = rng.uniform(0.5, 1.1)
    path = bent(rng, height, 5)
    thick = rng.uniform(0.03, 0.1)
    joints = stem(model, palette, rng, path, thick * np.linspace(1.4, 0.7, 5), rng.uniform(6, 20))
    kind = rng.choice(["balls", "cones", "cloud", "palm", "bare"])
    top, last = path[-1], joints[-1]
    if kind == "cones":
        size, layers = rng.uniform(0.25, 0.45), int(rng.integers(2, 5))
        for layer in range(layers):
            share = 1 - 0.22 * layer
            cone = cylinder(size * share, 0.9 * size, int(rng.integers(5, 16)), 0.0)
            at = path[1] + (top - path[1]) * (layer + 1) / layers + (0, 0.2 * size, 0)
            model.add(cone.moved(at), palette.get("leaves"), joints[min(layer + 1, 3)])
    elif kind == "cloud":
        size = rng.uniform(0.2, 0.35)
        balls = [Capsule(top + rng.normal(0, 0.7 * size, 3) * (1, 0.6, 1), top, size * rng.uniform(0.5, 1), 0.1, last)
                 for _ in range(int(rng.integers(2, 7)))]  # fmt: skip
        crown = surface(balls, 26, 0.08)
        model.add(crown.box_mapped(2), palette.get("leaves", 0.6), last)
    elif kind == "palm":
        count = int(rng.integers(5, 10))
        for index in range(count):
            turn = rotation(Y, 360 * index / count + rng.uniform(-15, 15))
            joint = model.joint("leaf", last, top)
            blade = leaf(rng.uniform(0.35, 0.6), 0.2, 0.4).moved(turn=turn @ rotation(X, rng.uniform(60, 120)))
            model.add(blade.moved(top), palette.get("leaves"), joint)
            model.swing(joint, turn @ X, 10, index)
        return model
    count = {"balls": int(rng.integers(3, 9)), "bare": int(rng.integers(4, 9)), "cloud": 0, "cones": 0}[str(kind)]
    for index in range(count):
        level = int(rng.integers(2, 5))
        turn = rotation(Y, 137.5 * index + rng.uniform(0, 30))
        start = path[level]
        end = start + turn @ (0, rng.uniform(0.05, 0.3), rng.uniform(0.15, 0.4))
        joint = model.joint("branch", joints[min(level, 3)], start)
        model.swing(joint, turn @ X, rng.uniform(4, 14), index)
        model.add(tube([start, end], [0.5 * thick, 0.25 * thick], 7), palette.get("stem"), joint)
        size = rng.uniform(0.1, 0.22) if kind == "balls" else 0.05
        ball = ellipsoid((size, size * rng.uniform(0.6, 1.0), size), int(rng.choice([8, 12, 16])))
        model.add(ball.moved(end), palette.get("leaves" if rng.uniform() < 0.8 else "fruit"), joint)
    return model


def flower(rng: Generator, palette: Palette) -> Model:
    """One to five stems with petals round a middle, and leaves; perhaps in a pot."""
    model = Model(int(rng.choice([1, 2])))
    count = int(rng.choice([1, 1, 3, 5]))
    for number in range(count):
        foot = rng.uniform(-0.2, 0.2, 3) * (1, 0, 1) * (count > 1)
        path = bent(rng, rng.uniform(0.5, 1.0), 5) + foot
        joints = stem(model, palette, rng, path, np.full(5, 0.025), rng.uniform(10, 30))
        tilt = rotation(X, rng.uniform(0, 80)) if number == 0 else rotation(rng.normal(size=3) * (1, 0, 1), 40)
        top = model.joint("bloom", joints[-1], path[-1])
        petals, size = int(rng.integers(4, 12)), rng.uniform(0.15, 0.35)
        opening, wide, point = rng.uniform(30, 100), rng.uniform(0.4, 0.9), rng.uniform(0.3, 0.8)
        for index in range(petals):
            turn = tilt @ rotation(Y, 360 * index / petals)
            joint = model.joint("petal", top, path[-1])
            model.add(
                leaf(size, wide * size, point).moved(path[-1], turn @ rotation(X, opening)), palette.get("petal"), joint
            )
            model.swing(joint, turn @ X, 14, 0.3 * index)
        middle = ellipsoid((0.35 * size, 0.18 * size, 0.35 * size), 14).moved(turn=tilt).moved(path[-1])
        model.add(middle, palette.get("middle"), top)
        for index in range(int(rng.integers(0, 4))):
            turn = rotation(Y, 140 * index) @ rotation(X, 50)
            model.add(leaf(0.25, 0.12).moved(path[1 + index % 2], turn), palette.get("leaves"), joints[1])
    if rng.uniform() < 0.5:
        pot = lathe([(0, -0.25), (0.15, -0.25), (0.24, 0), (0.27, 0), (0.27, 0.05), (0.22, 0.05), (0.2, 0), (0, 0)], 16)
        model.add(pot.with_uv_scale(3, 1), palette.get("pot", 0.7))
    return model


def cactus(rng: Generator, palette: Palette) -> Model:
    """A ribbed column with arms, or balls upon balls."""
    model = Model(int(rng.choice([1, 2])))
    height, thick = rng.uniform(0.5, 1.0), rng.uniform(0.1, 0.2)
    path = np.linspace(0, 1, 5)[:, None] * (0, height, 0)
    joints = chain(model, 0, path, "column")
    t = np.linspace(0, 1, 20)
    ribs = rng.uniform() < 0.7
    profile = np.stack(
        [thick * np.sqrt(np.clip(1 - (2 * t - 1) ** 8, 0, 1)) * (1 + 0.1 * np.cos(6 * t)), t * height], 1
    )
    mesh = lathe(profile, 32)
    if ribs:
        angle = np.arctan2(mesh.points[:, 2], mesh.points[:, 0])
        grow = 1 + rng.uniform(0.08, 0.2) * np.cos(rng.integers(6, 10) * angle)
        mesh = Mesh(mesh.points * np.stack([grow, 0 * grow + 1, grow], 1), mesh.faces, mesh.uv)
    model.add(mesh.with_uv_scale(4, 3), palette.get("body", 0.6), 0, chain_skin(mesh, path, joints))
    for index, joint in enumerate(joints):
        model.swing(joint, Z, rng.uniform(2, 8), -0.6 * index)
    for number in range(int(rng.integers(0, 4))):
        turn, level = rotation(Y, 180 * number + rng.uniform(-40, 40)), rng.uniform(0.3, 0.7)
        at = np.array([0, level * height, 0])
        out, up = rng.uniform(0.2, 0.35), rng.uniform(0.15, 0.4)
        bend = np.array(
            [at, at + turn @ (out, 0, 0), at + turn @ (1.15 * out, 0.4 * up, 0), at + turn @ (1.15 * out, up, 0)]
        )
        joint = model.joint("arm", joints[int(level * 4)], at)
        model.add(tube(bend, 0.5 * thick, 12), palette.get("body"), joint)
        model.add(ellipsoid(3 * [0.5 * thick], 12).moved(bend[-1]), palette.get("body"), joint)
        model.swing(joint, turn @ Z, 10, number)
    bloom = ellipsoid((0.5 * thick, 0.3 * thick, 0.5 * thick), 10).moved((0, height, 0))
    model.add(bloom, palette.get("petal"), joints[-1])
    model.add(cylinder(1.8 * thick, 0.12, 14).moved((0, -0.02, 0)), palette.get("pot"))
    return model


def mushroom(rng: Generator, palette: Palette) -> Model:
    """Caps on stems that nod and breathe."""
    model = Model(int(rng.choice([1, 2])))
    count = int(rng.choice([1, 1, 2, 4]))
    for number in range(count):
        path = bent(rng, rng.uniform(0.3, 0.8), 4) + (number > 0) * rng.uniform(-0.35, 0.35, 3) * (1, 0, 1)
        thick = rng.uniform(0.05, 0.15)
        joints = stem(model, palette, rng, path, thick * np.array([1.3, 1.0, 0.85, 0.8]), rng.uniform(8, 20))
        width, high = rng.uniform(0.18, 0.4), rng.uniform(0.12, 0.4)
        cap = model.joint("cap", joints[-1], path[-1])
        t = np.linspace(0, 0.5 * np.pi, 8)
        curve = np.stack([width * np.cos(t) ** rng.uniform(0.5, 1.3), high * np.sin(t)], axis=1)
        curve[-1, 0] = 0
        lower = [(0, 0.02), (0.85 * width, rng.uniform(-0.06, 0.02))]
        model.add(lathe([*lower, *curve], 20).with_uv_scale(3, 1).moved(path[-1]), palette.get("cap", 0.7), cap)
        model.squash(cap, rng.uniform(0.05, 0.2), number)
        for _ in range(int(rng.integers(0, 8))):
            angle, lift = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 1.3)
            spot = path[-1] + (
                width * np.cos(lift) * np.cos(angle),
                high * np.sin(lift),
                width * np.cos(lift) * np.sin(angle),
            )
            model.add(ellipsoid(3 * [rng.uniform(0.02, 0.05)], 8).moved(spot), palette.get("spot"), cap)
    return model
