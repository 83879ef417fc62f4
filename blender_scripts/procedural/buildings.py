"""Buildings and machines: houses, towers, windmills, clockworks, swings."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from blender_scripts.procedural.creatures import X, Y, Z
from blender_scripts.procedural.mesh import box, cylinder, ellipsoid, extrude, lathe, rectangle, rotation, star, tube
from blender_scripts.procedural.model import Model
from blender_scripts.procedural.textures import Palette


def _windows(model: Model, palette: Palette, rng: Generator, width: float, depth: float, floors: int, y: float) -> None:
    count = int(rng.integers(1, 4))
    size = np.array([0.45 * width / count, 0.13])
    for floor in range(floors):
        for x in (np.arange(count) - 0.5 * (count - 1)) * width / count:
            for side in (-1, 1):
                pane = box((size[0], size[1], 0.04)).moved((x, y + 0.3 * floor, 0.5 * side * depth))
                model.add(pane, palette.plain("window", tuple(palette.colours[0] * 0.4 + (0.2, 0.25, 0.3))))
            if rng.uniform() < 0.7:
                pane = box((0.04, size[1], size[0])).moved((0.5 * width, y + 0.3 * floor, x * depth / width))
                model.add(pane, palette.get("window"))


def house(rng: Generator, palette: Palette) -> Model:
    """A house or tower: storeys, a roof, windows, a door; a flag, a windmill's sails or a bell that moves."""
    model = Model(int(rng.choice([1, 2])))
    floors = int(rng.integers(1, 4))
    width, depth = rng.uniform(0.4, 0.9, 2) / (1.0 if floors < 3 else 1.5)
    height, is_round = 0.32 * floors + 0.1, rng.uniform() < 0.3
    walls = (
        cylinder(0.5 * width, height, int(rng.integers(6, 20)), rng.uniform(0.35, 0.5) * width).with_uv_scale(3, 2)
        if is_round
        else box((width, height, depth))
    )
    depth = width if is_round else depth
    model.add((walls if is_round else walls.box_mapped(2)).moved((0, 0.5 * height, 0)), palette.get("walls", 0.6))
    if not is_round:
        _windows(model, palette, rng, width, depth, floors, 0.25)
    door = box((0.16, 0.26, 0.05)).moved((rng.uniform(-0.2, 0.2) * width, 0.13, 0.5 * depth))
    model.add(door, palette.get("door"))
    rise = rng.uniform(0.15, 0.5)
    roof = rng.choice(["gable", "pyramid", "flat", "dome", "merlons"])
    if is_round and roof == "gable":
        roof = "pyramid"
    if roof == "gable":
        gable = np.array([[-0.58, 0], [0.58, 0], [0, 1]]) * (width, rise)
        model.add(extrude(gable, 1.12 * depth).box_mapped(2).moved((0, height, 0)), palette.get("roof", 0.6))
        model.add(box((0.1, 0.25, 0.1)).moved((0.25 * width, height + 0.6 * rise, 0)), palette.get("door"))
    elif roof == "pyramid":
        cone = lathe([(0, 0), (0.62, 0), (0.3, 0.5 * rng.uniform(0.7, 1.1)), (0, 1)], 16 if is_round else 4)
        scale = (width, rise * 1.5, depth) if is_round else (1.4 * width, rise * 1.3, 1.4 * depth)
        model.add(cone.moved((0, height, 0), scale=scale), palette.get("roof", 0.6))
    elif roof == "dome":
        model.add(ellipsoid((0.52 * width, rise, 0.52 * depth), 18).moved((0, height, 0)), palette.get("roof", 0.5))
    elif roof == "merlons":
        for index in range(8):
            at = rotation(Y, 45 * index) @ (0, 0, 0.47 * width)
            model.add(box(3 * [0.12]).moved(at + (0, height + 0.05, 0)), palette.get("walls"))
    top = np.array([0, height + (0.7 * rise if roof != "flat" else 0), 0])
    if rng.uniform() < 0.45:
        at = np.array([0, 0.85 * height, 0.5 * depth + 0.06])
        sails = model.joint("sails", 0, at)
        reach, count = rng.uniform(0.3, 0.55), int(rng.integers(3, 6))
        for index in range(count):
            blade = extrude(rectangle(0.14, reach) + (0.05, 0.5 * reach), 0.03).moved(
                turn=rotation(Z, 360 * index / count)
            )
            model.add(blade.moved(at), palette.get("sail", 0.6), sails)
        model.add(ellipsoid((0.06, 0.06, 0.08), 10).moved(at), palette.get("door"), sails)
        model.spin(sails, Z, 1)
    else:
        mast = top + (0, 0.5, 0)
        model.add(tube([top - (0, 0.2, 0), mast], 0.015, 6), palette.get("door"))
        cloth = np.linspace(0, 0.35, 5)
        joint = 0
        for index in range(4):
            joint = model.joint("cloth", joint, mast + (cloth[index], -0.1, 0))
            piece = extrude(rectangle(0.088, 0.18) + (0.044, 0), 0.012)
            model.add(piece.moved(mast + (cloth[index], -0.1, 0)), palette.get("sail", 0.7), joint)
            model.swing(joint, Y, 22, -1.2 * index)
    for index in range(int(rng.integers(0, 4))):
        angle = rng.uniform(0, 2 * np.pi)
        at = np.array([np.cos(angle), 0, np.sin(angle)]) * 0.75 * max(width, depth)
        bush = model.joint("bush", 0, at)
        model.add(ellipsoid(rng.uniform(0.06, 0.16, 3), 10).moved(at + (0, 0.08, 0)), palette.get("bush"), bush)
        model.squash(bush, 0.12, index)
    if rng.uniform() < 0.5:
        model.add(cylinder(0.8 * max(width, depth), 0.06, 20).moved((0, -0.03, 0)), palette.get("ground"))
    return model


def machine(rng: Generator, palette: Palette) -> Model:
    """Gears, pistons, pendulums and fans on a frame, all in step."""
    model = Model(int(rng.choice([1, 2])))
    width, height = rng.uniform((0.5, 0.4), (1.0, 0.9))
    model.add(
        box((width, height, 0.15), 0.05, 0.1).moved((0, 0.5 * height, -0.1)).box_mapped(1.5), palette.get("frame", 0.7)
    )
    model.add(box((1.1 * width, 0.08, 0.45), 0, 0.1), palette.get("base", 0.4))
    for index in range(int(rng.integers(2, 6))):
        at = np.array([rng.uniform(-0.45, 0.45) * width, rng.uniform(0.3, 1.05) * height, 0.06 + 0.05 * index])
        joint, size = model.joint(f"part{index}", 0, at), rng.uniform(0.08, 0.28)
        material = palette.get(f"moving{index % 3}", 0.5)
        kind = rng.choice(["gear", "gear", "pendulum", "piston", "fan"])
        if kind == "gear":
            teeth = int(rng.integers(5, 12))
            model.add(extrude(star(teeth, 0.78, True) * size, 0.06, 0.05).moved(at), material, joint)
            model.add(cylinder(0.3 * size, 0.1, 12).moved(at, rotation(X, 90)), palette.get("accent"), joint)
            model.spin(joint, Z, int(rng.choice([-1, 1])))
        elif kind == "pendulum":
            end = at - (0, 1.8 * size, 0)
            model.add(tube([at, end], 0.02, 8), palette.get("accent"), joint)
            model.add(cylinder(0.5 * size, 0.06, 18).moved(end, rotation(X, 90)), material, joint)
            model.swing(joint, Z, rng.uniform(15, 40), index)
        elif kind == "piston":
            model.add(cylinder(0.4 * size, 2 * size, 12, bevel=0.02).moved(at), material, joint)
            model.add(ellipsoid(3 * [0.5 * size], 12).moved(at + (0, size, 0)), palette.get("accent"), joint)
            model.bob(joint, (0, 0.8 * size, 0), index, 2)
        else:
            for blade in range(4):
                plate = box((0.35 * size, size, 0.03)).moved((0, 0.6 * size, 0), rotation(Y, 25))
                model.add(plate.moved(turn=rotation(Z, 90 * blade)).moved(at), material, joint)
            model.spin(joint, Z, 1)
    if rng.uniform() < 0.5:
        pipe = np.array([[0.5 * width, 0.2, -0.1], [0.7 * width, 0.2, -0.1], [0.7 * width, height + 0.2, -0.1]])
        model.add(tube(pipe, 0.05, 10), palette.get("accent"))
    return model
