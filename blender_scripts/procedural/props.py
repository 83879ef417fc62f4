"""Things: vessels and lamps, tools, chests, furniture, houses and towers, machines, and assemblies of anything."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from blender_scripts.procedural.creatures import X, Y, Z
from blender_scripts.procedural.mesh import (
    Mesh,
    box,
    cylinder,
    ellipsoid,
    extrude,
    lathe,
    rectangle,
    rotation,
    star,
    torus,
    tube,
)
from blender_scripts.procedural.model import Model
from blender_scripts.procedural.textures import Palette


def random_motion(model: Model, joint: int, rng: Generator) -> None:
    """Any of the motions a thing may have as a whole."""
    kind = rng.choice(["swing", "bounce", "squash", "spin", "rock", "hop"])
    if kind == "spin":
        model.spin(joint, Y, int(rng.choice([-1, 1])))
    elif kind == "swing":
        model.swing(joint, rng.normal(size=3), rng.uniform(10, 35), rng.uniform(0, 6))
    elif kind == "rock":
        model.swing(joint, Z, rng.uniform(8, 25))
        model.swing(joint, X, rng.uniform(3, 12), 1.5)
    elif kind == "squash":
        model.squash(joint, rng.uniform(0.1, 0.35))
    else:
        model.bob(joint, (0, rng.uniform(0.15, 0.5), 0), bounce=True)
        if kind == "hop":
            model.squash(joint, 0.15, 2.0)


def any_shape(rng: Generator, size: np.ndarray) -> Mesh:
    """A primitive of about the half size ``[3]``: round, edged, turned or cut out."""
    n = int(rng.choice([3, 4, 5, 6, 8, 12, 20]))
    high = 2 * size[1]
    kind = rng.choice("ball cushion box bevelled cylinder cone torus lathe star gear prism tube".split())
    match kind:
        case "ball":
            return ellipsoid(size, max(n, 8))
        case "cushion":
            return ellipsoid(size, 20, rng.uniform(0.3, 0.7))
        case "box":
            return box(2 * size)
        case "bevelled":
            return box(2 * size, 0.4 * size.min(), 0.2)
        case "cylinder":
            return cylinder(1, 2, max(n, 5), bevel=rng.choice([0, 0.2])).moved(scale=size).with_uv_scale(2, 1)
        case "cone":
            return cylinder(1, 2, n, rng.uniform(0, 0.7)).moved(scale=size)
        case "torus":
            return torus(0.7, rng.uniform(0.15, 0.3), max(n, 6)).moved(
                turn=rotation(X, rng.choice([0, 90])), scale=size
            )
        case "lathe":
            return lathe(profile(rng), max(n, 6)).moved((0, -0.5 * high, 0), scale=(size[0], high, size[2]))
        case "star":
            return extrude(star(max(n, 4), rng.uniform(0.3, 0.8)) * size[:2], 2 * size[2], 0.15)
        case "gear":
            return extrude(star(max(n, 6), 0.75, True) * size[:2], 2 * size[2])
        case "prism":
            return cylinder(1, 2, max(min(n, 6), 3), 1.0).moved(scale=size).box_mapped(1.5)
        case _:
            t = np.linspace(-1, 1, 9)
            return tube(np.stack([0.5 * np.sin(3 * t), t, 0.5 * np.cos(3 * t)], 1) * size, 0.3 * size.min(), 8)


def profile(rng: Generator) -> np.ndarray:
    """An outline for the lathe, y from 0 to 1, closed on top and bottom; smooth or with steps."""
    count = int(rng.integers(3, 8))
    knots, radii = np.linspace(0, 1, count), rng.uniform(0.2, 1.0, count)
    if rng.uniform() < 0.6:
        y = np.linspace(0, 1, 24)
        wave = sum(
            a * np.cos(np.pi * k * y + p)
            for k, a, p in zip((1, 2, 3, 4), rng.normal(0, 1 / (1 + np.arange(4))), rng.uniform(0, 6, 4), strict=True)
        )
        radius = 0.25 + 0.75 * (wave - wave.min()) / max(np.ptp(wave), 1e-6)
    else:
        y, radius = np.repeat(knots, 2)[1:-1], np.repeat(radii[:-1], 2)
    radius = radius / radius.max()
    return np.stack([np.concatenate([[0], radius, [0]]), np.concatenate([y[:1], y, y[-1:]])], axis=1)


def vessel(rng: Generator, palette: Palette) -> Model:
    """A vase, bottle, lamp, pawn or spinning top: turned parts upon one another, handles, a lid that hops."""
    model = Model(int(rng.choice([1, 1, 2])))
    root = model.joint("body", 0, (0, 0, 0))
    y, segments = 0.0, int(rng.choice([6, 8, 12, 24, 24]))
    square = float(rng.choice([1.0, 1.0, 0.5]))
    for part in range(int(rng.integers(1, 4))):
        height, width = rng.uniform(0.2, 0.9), rng.uniform(0.12, 0.4)
        mesh = lathe(profile(rng) * (width, height), segments, square).with_uv_scale(*rng.integers(1, 5, 2))
        model.add(mesh.moved((0, y, 0)), palette.get(f"part{part % 2}", 0.65), root)
        if part == 0 and rng.uniform() < 0.4:
            for side in (-1, 1)[: rng.integers(1, 3)]:
                t = np.linspace(0, np.pi, 10)
                handle = np.stack(
                    [side * (0.6 * width + 0.7 * width * np.sin(t)), 0.5 * height - 0.3 * height * np.cos(t), 0 * t], 1
                )
                model.add(tube(handle + (0, y, 0), 0.035, 8), palette.get("handle"), root)
        y += height
    lid = model.joint("lid", root, (0, y, 0))
    knob = ellipsoid(rng.uniform(0.05, 0.15, 3), 12).moved((0, y + 0.04, 0))
    model.add(knob, palette.get("accent"), lid)
    model.bob(lid, (0, rng.uniform(0, 0.12), 0), 0, 2, bounce=True)
    random_motion(model, root, rng)
    return model


def tool(rng: Generator, palette: Palette) -> Model:
    """A sword, axe, hammer, key, shield, spade or wand that is swung."""
    model = Model(1)
    root = model.joint("grip", 0, (0, 0, 0))
    length, thick = rng.uniform(0.4, 1.1), rng.uniform(0.025, 0.06)
    shaft = lathe(profile(rng) * (0.4, 1) + (0.6, 0), 10).moved(scale=(thick, length, thick))
    kind = rng.choice(["sword", "axe", "hammer", "shield", "wand", "spade"])
    top = np.array([0, length, 0])
    if kind == "sword":
        shaft = shaft.moved(scale=(1, 0.25, 1))
        top = 0.25 * top
        wide, long = rng.uniform(0.05, 0.16), rng.uniform(0.6, 1.2)
        blade = np.array(
            [
                [wide, 0],
                [wide * rng.uniform(0.6, 1.4), 0.8 * long],
                [0, long],
                [-wide * rng.uniform(0.6, 1.3), 0.8 * long],
                [-wide, 0],
            ]
        )
        model.add(extrude(blade, 0.05, 0.6).moved(top), palette.get("blade", 0.4), root)
        model.add(box((rng.uniform(0.2, 0.5), 0.06, 0.08), 0.02, 0.1).moved(top), palette.get("accent"), root)
    elif kind == "axe":
        reach, high = rng.uniform(0.2, 0.4), rng.uniform(0.15, 0.3)
        outline = np.array(
            [
                [0, -0.07],
                [0.5 * reach, -0.08],
                [reach, -high],
                [1.15 * reach, 0],
                [reach, high],
                [0.5 * reach, 0.08],
                [0, 0.07],
            ]
        )
        for side in (1, -1)[: rng.integers(1, 3)]:
            model.add(extrude(outline, 0.06, 0.5).moved(0.85 * top, scale=(side, 1, 1)), palette.get("blade"), root)
    elif kind == "hammer":
        head = any_shape(rng, rng.uniform((0.15, 0.1, 0.1), (0.35, 0.2, 0.2)))
        model.add(head.moved(top), palette.get("blade"), root)
    elif kind == "shield":
        shape = (
            np.array([[0, -0.6], [0.35, -0.2], [0.4, 0.4], [0, 0.5], [-0.4, 0.4], [-0.35, -0.2]])
            if rng.uniform() < 0.5
            else star(16, 1.0) * 0.5
        )
        plate = extrude(shape * rng.uniform(0.7, 1.1, 2), 0.1, 0.25)
        model.add(plate.box_mapped(1.2), palette.get("blade", 0.8), root)
        model.add(ellipsoid((0.1, 0.1, 0.08), 14).moved((0, 0, 0.06)), palette.get("accent"), root)
        shaft = box((0.05, 0.4, 0.05)).moved((0, 0, -0.1))
    else:
        size = rng.uniform(0.1, 0.25, 3)
        model.add(any_shape(rng, size).moved(top + (0, 0.6 * size[1], 0)), palette.get("blade"), root)
        model.add(torus(0.8 * thick + 0.02, 0.02, 14, 6).moved(0.9 * top), palette.get("accent"), root)
    model.add(shaft.with_uv_scale(1, 4), palette.get("shaft"), root)
    model.swing(root, rng.choice([0, 1, 1]) * Z + rng.uniform(-0.4, 0.4, 3) + 0.01, rng.uniform(15, 60))
    if rng.uniform() < 0.4:
        model.swing(root, Y, 40, 1.0)
    return model


def chest(rng: Generator, palette: Palette) -> Model:
    """A box, barrel, book or shell that opens, with bands and something inside."""
    model = Model(int(rng.choice([1, 2])))
    width, height, depth = rng.uniform((0.5, 0.2, 0.3), (1.0, 0.5, 0.6))
    model.add(
        box((width, height, depth), 0, 0.03).moved((0, 0.5 * height, 0)).box_mapped(1.5), palette.get("body", 0.7)
    )
    hinge = np.array([0, height, -0.5 * depth])
    lid = model.joint("lid", 0, hinge)
    rise = rng.uniform(0.05, 0.3)
    round_lid = np.array([[0.5, 0], [0.45, 0.6], [0.2, 1], [-0.2, 1], [-0.45, 0.6], [-0.5, 0]]) * (depth, rise)
    top = extrude(round_lid if rng.uniform() < 0.6 else rectangle(depth, rise) + (0, 0.5 * rise), width)
    model.add(top.moved((0, height, 0), rotation(Y, 90)).box_mapped(1.5), palette.get("lid", 0.6), lid)
    model.swing(lid, X, rng.uniform(15, 40), -1.57, bias=-35)
    for x in np.linspace(-0.4, 0.4, int(rng.integers(2, 5))) * width:
        model.add(box((0.06, 1.02 * height, 1.04 * depth)).moved((x, 0.5 * height, 0)), palette.get("band"))
    model.add(box((0.12, 0.14, 0.06), 0.02).moved((0, 0.9 * height, 0.52 * depth)), palette.get("accent"))
    for index in range(int(rng.integers(0, 4))):
        at = np.array([rng.uniform(-0.3, 0.3) * width, height, rng.uniform(-0.2, 0.2) * depth])
        joint = model.joint("treasure", 0, at)
        model.add(any_shape(rng, rng.uniform(0.05, 0.13, 3)).moved(at), palette.get(f"gem{index % 2}"), joint)
        model.bob(joint, (0, 0.2, 0), index, bounce=True)
    return model


def furniture(rng: Generator, palette: Palette) -> Model:
    """A table, chair, bed, shelf or lamp; it shakes, and what lies on it hops."""
    model = Model(int(rng.choice([1, 2])))
    root = model.joint("body", 0, (0, 0, 0))
    width, depth, height = rng.uniform((0.4, 0.35, 0.25), (1.1, 0.8, 0.7))
    board = rng.uniform(0.04, 0.12)
    turned = rng.uniform() < 0.4
    for x in (-0.42, 0.42):
        for z in (-0.42, 0.42):
            at = np.array([x * width, 0, z * depth])
            post = (
                lathe(profile(rng) * (0.07, height), 10)
                if turned
                else box((0.07, height, 0.07)).moved((0, 0.5 * height, 0))
            )
            model.add(post.moved(at), palette.get("legs", 0.4), root)
    seat = box((width, board, depth), 0, 0.05) if rng.uniform() < 0.7 else cylinder(0.6 * width, board, 24)
    model.add(seat.moved((0, height, 0)).box_mapped(1.5), palette.get("body", 0.7), root)
    kind = rng.choice(["table", "chair", "shelf", "sofa"])
    if kind in ("chair", "sofa"):
        back = rng.uniform(0.3, 0.7)
        for x in np.linspace(-0.42, 0.42, 2 if kind == "sofa" else int(rng.integers(2, 6))) * width:
            model.add(box((0.06, back, 0.06)).moved((x, height + 0.5 * back, -0.45 * depth)), palette.get("legs"), root)
        panel = box((width, back * rng.uniform(0.2, 0.9), 0.07), 0.03, 0.1)
        model.add(panel.moved((0, height + 0.7 * back, -0.45 * depth)), palette.get("back", 0.6), root)
        if kind == "sofa":
            cushion = ellipsoid((0.48 * width, 0.12, 0.45 * depth), 20, 0.4).moved((0, height + 0.12, 0))
            model.add(cushion.box_mapped(1.5), palette.get("cushion", 0.8), root)
    if kind == "shelf":
        for level in range(1, int(rng.integers(2, 4))):
            model.add(box((width, board, depth)).moved((0, height + 0.3 * level, 0)), palette.get("body"), root)
            model.add(
                box((0.06, 0.3, depth)).moved((-0.47 * width, height + 0.3 * level - 0.15, 0)),
                palette.get("legs"),
                root,
            )
    for index in range(int(rng.integers(0, 4)) if kind in ("table", "shelf") else 0):
        size = rng.uniform(0.05, 0.13, 3)
        at = np.array([rng.uniform(-0.35, 0.35) * width, height + 0.5 * board, rng.uniform(-0.3, 0.3) * depth])
        joint = model.joint("thing", root, at)
        model.add(any_shape(rng, size).moved(at + (0, size[1], 0)), palette.get(f"thing{index}"), joint)
        model.bob(joint, (0, rng.uniform(0, 0.2), 0), index, bounce=True)
        model.spin(joint, Y, 1)
    model.swing(root, Z, rng.uniform(1, 10), 0, int(rng.choice([1, 2])))
    return model


def assembly(rng: Generator, palette: Palette) -> Model:
    """Random primitives on random joints: mirrored, in a ring, in a pile or branching."""
    model = Model(int(rng.choice([1, 1, 2])))
    kind = rng.choice(["mirror", "ring", "pile", "branch"])
    root = model.joint("body", 0, (0, 0, 0))
    core = rng.uniform(0.12, 0.4, 3)
    model.add(any_shape(rng, core), palette.get("part0", 0.65), root)
    if kind == "pile":
        y, joint = core[1], root
        for index in range(int(rng.integers(1, 5))):
            size = rng.uniform(0.1, 0.35, 3)
            joint = model.joint(f"layer{index}", joint, (0, y, 0))
            model.add(
                any_shape(rng, size).moved((0, y + 0.9 * size[1], 0)), palette.get(f"part{index % 3}", 0.6), joint
            )
            model.swing(joint, rng.normal(size=3), rng.uniform(5, 20), -0.7 * index)
            y += 1.8 * size[1]
    copies = {"mirror": 2, "ring": int(rng.integers(3, 8)), "branch": 1, "pile": 0}[str(kind)]
    joints = [root] * copies
    for level in range(int(rng.integers(1, 4))):
        size, name = rng.uniform(0.06, 0.28, 3), f"part{(level + 1) % 3}"
        at = np.array([0.8 * core[0] + 0.3 * level, rng.uniform(-0.3, 0.3), rng.uniform(-0.2, 0.2)])
        mesh, axis, phase = any_shape(rng, size), rng.normal(size=3), rng.uniform(0, 6)
        swing, spin = rng.uniform(10, 45), rng.uniform() < 0.25
        for copy in range(copies):
            turn = rotation(Y, 360 * copy / copies)
            place = at * (1 - 2 * copy, 1, 1) if kind == "mirror" else turn @ at
            shape = mesh.moved(scale=(1 - 2 * copy, 1, 1)) if kind == "mirror" else mesh.moved(turn=turn)
            joints[copy] = model.joint(f"limb{level}{copy}", joints[copy], place)
            model.add(shape.moved(place), palette.get(name, 0.6), joints[copy])
            own = axis * (1, 1 - 2 * copy, 1 - 2 * copy) if kind == "mirror" else turn @ axis
            if spin:
                model.spin(joints[copy], own, 1)
            else:
                model.swing(joints[copy], own, swing, phase)
    random_motion(model, root, rng)
    return model
