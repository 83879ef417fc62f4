"""Things that drive and fly: cars, trucks and tanks; planes, helicopters, saucers and rockets; boats; robots."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from blender_scripts.procedural.creatures import X, Y, Z
from blender_scripts.procedural.mesh import (
    box,
    cylinder,
    ellipsoid,
    extrude,
    grid,
    lathe,
    rectangle,
    rotation,
    star,
    torus,
    tube,
)
from blender_scripts.procedural.model import Model
from blender_scripts.procedural.textures import Palette


def wheel(model: Model, palette: Palette, rng: Generator, at: np.ndarray, radius: float, width: float) -> None:
    """A wheel on an axle along x that turns, with a rim that shows it."""
    joint = model.joint("wheel", 0, at)
    sideways = rotation(Z, 90)
    tyre = cylinder(radius, width, 18, bevel=0.2 * width).moved(at, sideways)
    model.add(tyre, palette.plain("tyre", (0.09, 0.09, 0.1)), joint)
    spokes = extrude(star(int(rng.integers(4, 7)), 0.35) * 0.75 * radius, 1.1 * width).moved(at, rotation(Y, 90))
    model.add(spokes, palette.get("rim", 0.2), joint)
    model.spin(joint, X, 1 if model.seconds == 1 else 2)


def car(rng: Generator, palette: Palette) -> Model:
    """A chassis profile with a cabin on four or six wheels; a truck bed, a tank's turret, a crane or a load."""
    model = Model(int(rng.choice([1, 1, 2])))
    length, width, height = rng.uniform((0.8, 0.35, 0.15), (1.4, 0.65, 0.35))
    radius = rng.uniform(0.09, 0.2)
    floor = 0.9 * radius
    body = model.joint("chassis", 0, (0, floor, 0))
    model.bob(body, (0, rng.uniform(0.005, 0.025), 0), 0.0, 2)
    model.swing(body, X, rng.uniform(0.5, 2.5), 1.0)
    nose, back = rng.uniform(0.3, 1.0, 2)
    side = np.array([[-0.5, 0], [0.5, 0], [0.5, nose], [0.1, 1], [-0.3, 1], [-0.5, back]]) * (length, height)
    hull = extrude(side, width, rng.uniform(0.02, 0.12)).moved(turn=rotation(Y, -90))
    model.add(hull.box_mapped(rng.uniform(0.7, 2)).moved((0, floor, 0)), palette.get("body"), body)
    top = floor + height
    kind = rng.choice(["cabin", "cabin", "tank", "truck", "crane", "open"])
    if kind in ("cabin", "truck", "crane"):
        shift = rng.uniform(-0.15, 0.1) if kind == "cabin" else 0.28
        span = rng.uniform(0.35, 0.6) if kind == "cabin" else 0.3
        slope, rise = rng.uniform(0.5, 1.0), rng.uniform(0.18, 0.35)
        cabin = np.array([[-0.5, 0], [0.5, 0], [0.5 * slope, 1], [-0.45, 1]]) * (span * length, rise)
        glass = extrude(cabin * (1.02, 0.8), 0.86 * width).moved((0, top, shift * length), rotation(Y, -90))
        model.add(glass, palette.plain("glass", (0.25, 0.4, 0.5), roughness=0.3), body)
        for x in (-0.42, 0.42):
            pillar = extrude(cabin, 0.06 * width, 0.1).moved((x * width, top, shift * length), rotation(Y, -90))
            model.add(pillar, palette.get("frame"), body)
        roof = box((0.92 * width, 0.05, span * length * (0.45 + 0.5 * slope)), 0.02)
        model.add(roof.moved((0, top + rise, shift * length - 0.03)), palette.get("body"), body)
        if rng.uniform() < 0.3:
            lamp = cylinder(0.05, 0.07, 10).moved((0, top + rise + 0.05, shift * length))
            model.add(lamp, palette.get("accent"), body)
    if kind == "truck":
        load = box((0.95 * width, rng.uniform(0.2, 0.5), 0.55 * length), 0.02, 0.05)
        model.add(load.moved((0, top - load.points[:, 1].min(), -0.2 * length)), palette.get("load", 0.7), body)
    if kind in ("tank", "crane"):
        at = np.array([0, top, -0.12 * length])
        turret = model.joint("turret", body, at)
        model.swing(turret, Y, rng.uniform(15, 60))
        shell = cylinder(0.38 * width, 0.18, int(rng.integers(5, 16)), 0.28 * width).moved(at + (0, 0.09, 0))
        model.add(shell, palette.get("accent"), turret)
        barrel = model.joint("barrel", turret, at + (0, 0.1, 0.2 * width))
        reach = rng.uniform(0.3, 0.8)
        tip = at + (0, 0.1 + (0.5 * reach if kind == "crane" else 0.0), 0.2 * width + reach)
        model.add(tube([at + (0, 0.1, 0.1), tip], [0.05, 0.04], 10), palette.get("frame"), barrel)
        model.swing(barrel, X, rng.uniform(5, 15), 1.0, bias=-5)
        if kind == "crane":
            hook = model.joint("hook", barrel, tip)
            model.add(tube([tip, tip - (0, 0.35, 0)], 0.01, 6), palette.plain("black", (0.1, 0.1, 0.1)), hook)
            model.add(box(3 * [0.14]).moved(tip - (0, 0.4, 0)), palette.get("load", 0.8), hook)
            model.swing(hook, X, 20, 2.0)
    axles = int(rng.choice([2, 2, 3]))
    for z in np.linspace(-0.36, 0.36, axles) * length:
        for x in (-1, 1):
            wheel(model, palette, rng, np.array([0.5 * x * width, radius, z]), radius, 0.28 * width)
    for x in (-1, 1):
        lamp = cylinder(0.04, 0.03, 10).moved(
            (0.33 * x * width, floor + 0.5 * nose * height, 0.5 * length), rotation(X, 90)
        )
        model.add(lamp, palette.plain("lamp", (0.95, 0.9, 0.6)), body)
    return model


def aircraft(rng: Generator, palette: Palette) -> Model:
    """A plane, helicopter, drone, saucer or rocket in the air."""
    model = Model(int(rng.choice([1, 1, 2])))
    root = model.joint("body", 0, (0, 0, 0))
    model.bob(root, (0, rng.uniform(0.02, 0.08), 0))
    model.swing(root, Z, rng.uniform(2, 18), 0.7)
    kind = rng.choice(["plane", "plane", "helicopter", "saucer", "rocket"])
    if kind == "saucer":
        width = rng.uniform(0.35, 0.55)
        disc = model.joint("disc", root, (0, 0, 0))
        profile = [(0, -0.12), (0.5 * width, -0.1), (width, 0), (0.95 * width, 0.03), (0.4 * width, 0.1), (0, 0.12)]
        model.add(lathe(profile, int(rng.integers(8, 28))).with_uv_scale(4, 1), palette.get("body", 0.8), disc)
        model.spin(disc, Y, 1)
        dome = ellipsoid((0.4 * width, rng.uniform(0.1, 0.25), 0.4 * width), 16).moved((0, 0.09, 0))
        model.add(dome, palette.get("glass", 0.2), root)
        for index in range(int(rng.integers(3, 9))):
            turn = rotation(Y, 360 * index / 5)
            lamp = ellipsoid(3 * [0.045], 10).moved(turn @ (0, -0.03, 0.85 * width))
            model.add(lamp, palette.plain("lamp", (0.95, 0.85, 0.4)), disc)
        return model
    length, thick = rng.uniform(0.8, 1.3), rng.uniform(0.09, 0.18)
    t = np.linspace(0, 1, 9)
    radius = thick * np.clip(np.minimum(6 * t + 0.1, 1.15 - t ** rng.uniform(1, 5)), 0.05, 1)
    path = np.stack([0 * t, 0 * t, (0.5 - t) * length], axis=1)
    fuselage = tube(path[::-1], radius[::-1], int(rng.integers(6, 20)), float(rng.uniform(0.6, 1.0)))
    if kind == "rocket":
        upright = rotation(X, -90)
        model.add(fuselage.moved(turn=upright).with_uv_scale(2, 2), palette.get("body", 0.7), root)
        for index in range(int(rng.integers(3, 6))):
            fin = np.array([[0, 0.4], [0, 0], [0.25, -0.15], [0.22, 0.12]]) * length * rng.uniform(0.7, 1.2)
            plate = extrude(fin[::-1], 0.03, 0.1).moved((0.7 * thick, -0.42 * length, 0))
            model.add(plate.moved(turn=rotation(Y, 90 * index + 45)), palette.get("wing"), root)
        flame = model.joint("flame", root, (0, -0.5 * length, 0))
        cone = cylinder(0.6 * thick, 0.5 * length, 12, 0.0).moved(turn=rotation(X, 180)).moved((0, -0.72 * length, 0))
        model.add(cone, palette.plain("flame", (1.0, 0.55, 0.1), glow=0.5), flame)
        model.squash(flame, 0.3, 0, 3)
        return model
    model.add(fuselage.with_uv_scale(2, 2), palette.get("body", 0.6), root)
    glass = ellipsoid((0.6 * thick, 0.6 * thick, 0.16 * length), 14).moved((0, 0.65 * thick, 0.2 * length))
    model.add(glass, palette.plain("glass", (0.2, 0.35, 0.45), roughness=0.3), root)
    tail = np.array([[-0.5, 0], [0.5, 0], [0.0, 1.0], [-0.5, 1.0]]) * (0.2 * length, 0.25 * length)
    model.add(extrude(tail, 0.03).moved((0, 0, -0.45 * length), rotation(Y, -90)), palette.get("wing"), root)
    span, sweep = rng.uniform(0.4, 0.8) * length, rng.uniform(-0.1, 0.4)
    wings = [(span if kind == "plane" else 0.1, 0.0, 0.25), (0.3 * span, -0.45, 0.13)]
    for reach, place, chord in wings:
        for side in (-1, 1):
            shape = np.array([[0, -0.5], [1, -0.5 - sweep], [1, 0.1 - sweep], [0, 0.5]]) * (reach, chord * length)
            plate = extrude(shape, 0.035, 0.1).moved(turn=rotation(X, 90)).moved(scale=(side, 1, 1))
            model.add(plate.moved((0, 0, place * length)), palette.get("wing"), root)
    at = np.array([0, 0, 0.52 * length]) if kind == "plane" else np.array([0, 1.5 * thick, 0])
    axis, blade = (Z, rng.uniform(0.15, 0.25)) if kind == "plane" else (Y, 0.55 * length)
    rotor = model.joint("rotor", root, at)
    blades = int(rng.integers(2, 5))
    for index in range(blades):
        plate = box((0.18 * blade + 0.03, blade, 0.02)).moved((0, 0.5 * blade, 0))
        turn = rotation(Z, 360 * index / blades)
        plate = plate.moved(turn=turn) if kind == "plane" else plate.moved(turn=rotation(X, 90) @ turn)
        model.add(plate.moved(at), palette.get("rotor", 0.3), rotor)
    hub = ellipsoid(3 * [0.05], 10).moved(at)
    model.add(hub, palette.get("accent"), rotor)
    model.spin(rotor, axis, int(rng.choice([1, 2])))
    if kind == "helicopter":
        model.add(tube([(0, 0, 0), at], 0.03, 8), palette.get("rotor"), root)
        for side in (-1, 1):
            skid = tube([(side * 0.2, -1.4 * thick, -0.25), (side * 0.2, -1.4 * thick, 0.35)], 0.02, 8)
            strut = tube([(side * 0.2, -1.4 * thick, 0), (0, 0, 0)], 0.015, 6)
            for mesh in (skid, strut):
                model.add(mesh, palette.get("rotor"), root)
    return model


def boat(rng: Generator, palette: Palette) -> Model:
    """A hull that rocks, with masts and sails, or a cabin and a funnel."""
    model = Model(int(rng.choice([1, 2])))
    root = model.joint("hull", 0, (0, 0, 0))
    model.swing(root, Z, rng.uniform(4, 14))
    model.swing(root, X, rng.uniform(2, 8), 1.3)
    length, width, depth = rng.uniform((0.8, 0.25, 0.15), (1.3, 0.45, 0.3))
    t = np.linspace(0, 1, 10)
    half = width * 0.5 * (1 - np.abs(2 * t - 0.8).clip(0) ** rng.uniform(1.5, 4) / 1.2**2).clip(0.04)
    outline = np.concatenate([np.stack([half, (t - 0.5) * length], 1), np.stack([-half, (t - 0.5) * length], 1)[::-1]])
    layers = []
    for scale, y in ((0.0, -depth), (0.55, -depth), (1.0, 0), (0.88, 0), (0.8, -0.3 * depth), (0.0, -0.3 * depth)):
        layers.append(
            np.stack([outline[:, 0] * scale, np.full(20, y), -outline[:, 1] * (0.5 + 0.5 * scale) * (scale > 0)], 1)
        )
    model.add(grid(np.stack(layers)).box_mapped(2), palette.get("body"), root)
    if rng.uniform() < 0.55:
        for place in [0.0] if rng.uniform() < 0.5 else [-0.25, 0.15]:
            at, high = np.array([0, 0, -place * length]), rng.uniform(0.6, 1.0)
            mast = model.joint("mast", root, at)
            model.add(tube([at - (0, 0.3 * depth, 0), at + (0, high, 0)], 0.02, 8), palette.get("wood"), mast)
            model.swing(mast, Y, 12, place * 8)
            sail_shape = (
                np.array([[0, 0.1], [0.75, 0.1], [0, 0.95]]) if rng.uniform() < 0.5 else rectangle(0.9, 0.6) + (0, 0.6)
            )
            sail = extrude(sail_shape * high * (0.7, 1), 0.015)
            sail = sail.moved(turn=rotation(Y, 90)) if len(sail_shape) == 3 else sail
            model.add(sail.moved(at + (0, 0, 0.025)), palette.get("sail", 0.8), mast)
    else:
        cabin = box((0.6 * width, 0.25, 0.35 * length), 0.02, 0.1).moved((0, 0.05, 0))
        model.add(cabin, palette.get("cabin"), root)
        for place in range(int(rng.integers(1, 4))):
            at = np.array([0, 0.28, 0.1 - 0.14 * place])
            model.add(cylinder(0.05, 0.25, 12).moved(at), palette.get("accent"), root)
    flag = model.joint("flag", root, (0, 0, -0.5 * length))
    pole = np.array([0, 0, -0.48 * length])
    model.add(tube([pole, pole + (0, 0.35, 0)], 0.012, 6), palette.get("wood"), root)
    model.add(
        extrude(rectangle(0.2, 0.13) + (0.1, 0), 0.01).moved(pole + (0, 0.28, 0), rotation(Y, 90)),
        palette.get("sail"),
        flag,
    )
    model.swing(flag, Y, 20, 0.0, 2)
    return model


def spacecraft(rng: Generator, palette: Palette) -> Model:
    """A station, mine or probe: a core with rings, arms and dishes in rotational symmetry; its parts turn."""
    model = Model(int(rng.choice([1, 2])))
    root = model.joint("core", 0, (0, 0, 0))
    core = rng.choice(["ball", "cylinder", "box"])
    size = rng.uniform(0.15, 0.3)
    shapes = {
        "ball": ellipsoid(3 * [size], 18),
        "cylinder": cylinder(size, 3 * size, 12, bevel=0.05),
        "box": box(3 * [2 * size], 0.05, 0.1),
    }
    model.add(shapes[str(core)], palette.get("body", 0.7), root)
    model.swing(root, rng.normal(size=3), rng.uniform(4, 20))
    count = int(rng.integers(2, 7))
    wheel_joint = model.joint("ring", root, (0, 0, 0))
    model.spin(wheel_joint, Y, int(rng.choice([-1, 1])))
    reach = size + rng.uniform(0.2, 0.5)
    tip = rng.choice(["panel", "ball", "spike", "box"])
    for index in range(count):
        turn = rotation(Y, 360 * index / count)
        arm = tube([(0, 0, 0), turn @ (0, 0, reach)], 0.03, 8)
        model.add(arm, palette.get("arm", 0.2), wheel_joint)
        ends = {"panel": box((0.14, 0.02, 0.35)), "ball": ellipsoid(3 * [0.1], 12), "box": box(3 * [0.16], 0.02, 0.1)}
        end = ends.get(str(tip), cylinder(0.07, 0.3, 8, 0.0).moved(turn=rotation(X, 90)))
        model.add(end.moved((0, 0, reach)).moved(turn=turn), palette.get("tip", 0.6), wheel_joint)
    if rng.uniform() < 0.6:
        model.add(torus(reach, rng.uniform(0.03, 0.09), 28, 8), palette.get("accent"), wheel_joint)
    dish = model.joint("dish", root, (0, size, 0))
    bowl = lathe([(0, 0), (0.2, 0.08), (0.28, 0.2), (0.24, 0.2), (0, 0.04)], 16).moved(
        (0, 1.4 * size, 0), rotation(X, 40)
    )
    model.add(bowl, palette.get("dish"), dish)
    model.swing(dish, Y, 60, 1.0)
    return model
