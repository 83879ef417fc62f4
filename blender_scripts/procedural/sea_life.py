"""Soft bodies: fish, snakes and worms, jellyfish and octopuses, slimes."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from blender_scripts.procedural.blobs import Capsule, surface
from blender_scripts.procedural.creatures import X, Y, Z, eyes
from blender_scripts.procedural.mesh import Mesh, ellipsoid, extrude, lathe, rotation, tube
from blender_scripts.procedural.model import Model
from blender_scripts.procedural.textures import Palette


def chain(model: Model, parent: int, path: np.ndarray, name: str) -> list[int]:
    """A joint at every point of a path but the last."""
    joints = []
    for index, at in enumerate(path[:-1]):
        parent = model.joint(f"{name}{index}", parent, at)
        joints.append(parent)
    return joints


def chain_skin(mesh: Mesh, path: np.ndarray, joints: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Skinning weights: every point belongs to the two joints of the chain next to it."""
    steps = np.diff(path, axis=0)
    along = np.einsum("npi,pi->np", mesh.points[:, None] - path[:-1], steps) / (steps**2).sum(1)
    nearest = path[:-1] + np.clip(along, 0, 1)[..., None] * steps
    bone = np.linalg.norm(mesh.points[:, None] - nearest, axis=2).argmin(1)
    share = np.clip(along[np.arange(len(bone)), bone], 0, 1)
    other = np.clip(np.where(share < 0.5, bone - 1, bone + 1), 0, len(joints) - 1)
    weight = np.where(other == bone, 1.0, 0.5 + np.abs(share - 0.5))  # a joint stands once: Blender takes the last
    zeros, table = np.zeros(len(bone), int), np.array(joints)
    numbers = np.stack([table[bone], np.where(other == bone, 0, table[other]), zeros, zeros], axis=1)
    return numbers, np.stack([weight, 1.0 - weight, 0.0 * weight, 0.0 * weight], axis=1)


def fish(rng: Generator, palette: Palette) -> Model:
    """A fish, whale, eel or snake: a body that waves along its length, fins or none."""
    model = Model(int(rng.choice([1, 1, 2])))
    slender = rng.uniform() < 0.35
    length = rng.uniform(0.9, 1.6) if slender else rng.uniform(0.6, 1.1)
    tall = rng.uniform(0.03, 0.09) if slender else rng.uniform(0.12, 0.35)
    flat = rng.uniform(0.35, 1.1)
    count = 9 if slender else 6
    z = np.linspace(0.5, -0.5, count) * length
    path = np.stack([0 * z, 0.3 * tall * np.sin(3 * z + rng.uniform(0, 6)), z], axis=1)
    fine = np.linspace(0, 1, 28)
    curve = np.stack([np.interp(fine, np.linspace(0, 1, count), path[:, i]) for i in range(3)], axis=1)
    fullest = rng.uniform(0.2, 0.5)
    shape = np.where(fine < fullest, fine / fullest, (1 - fine) / (1 - fullest))
    radius = tall * (np.sin(0.5 * np.pi * shape) ** rng.uniform(0.5, 1.0) * 0.95 + 0.05)
    if rng.uniform() < 0.3:
        radius = radius * (1 + 0.12 * np.sin(fine * 40))  # ringed, as a worm
    body = tube(curve, radius, 16, float(rng.uniform(0.7, 1.2)), flat).with_uv_scale(2, 2)
    joints = chain(model, 0, path, "spine")
    sideways = Y if rng.uniform() < 0.75 else X
    swing = rng.uniform(6, 14) * (2.0 if slender else 1.0)
    for index, joint in enumerate(joints):
        model.swing(joint, sideways, swing * (0.4 + index / count), -1.0 * index)
    model.add(body, palette.get("body", 0.7), 0, chain_skin(body, path, joints))
    if rng.uniform() < 0.9:
        fork = np.array([[0, -0.15], [0.5, -1], [0.9, -0.8], [0.5, 0], [0.9, 0.8], [0.5, 1], [0, 0.15]])[:, ::1]
        size = rng.uniform(0.8, 1.6) * max(tall, 0.08)
        fin = extrude(fork * size, 0.03, 0.1).moved(turn=rotation(Y, 90))
        fin = fin if sideways is Y else fin.moved(turn=rotation(Z, 90))
        model.add(fin.moved(path[-1] + (0, 0, 0.1 * size)), palette.get("fin"), joints[-1])
    if not slender or rng.uniform() < 0.3:
        blade = np.array([[-0.5, 0], [0.5, 0], [0.1, 0.8], [-0.5, 1.0]]) * rng.uniform(0.5, 1.4) * tall
        top = extrude(blade, 0.03, 0.1).moved(turn=rotation(Y, -90))
        model.add(top.moved(path[count // 2] + (0, 0.75 * tall, 0)), palette.get("fin"), joints[count // 2])
        for side in (-1, 1):
            at = path[1] + (0.7 * side * tall * flat, -0.3 * tall, 0)
            joint = model.joint("fin", joints[1], at)
            leaf = ellipsoid((0.5 * tall, 0.05 * tall, 0.25 * tall), 12).moved((0.45 * side * tall, 0, -0.1 * tall))
            model.add(leaf.moved(at, rotation(Y, 25 * side)), palette.get("fin"), joint)
            model.swing(joint, Z, 30, 0.3 + np.pi * (side < 0), 2)
    eye = curve[3] + (0, 0.25 * radius[3], 0)
    eyes(model, palette, joints[0], eye, 0.85 * flat * radius[3], rng.uniform(0.12, 0.25) * max(radius[3], 0.04) + 0.01)
    return model


def tentacled(rng: Generator, palette: Palette) -> Model:
    """A jellyfish, octopus or squid: a dome that pulses and arms that wave."""
    model = Model(int(rng.choice([1, 2])))
    width, height = rng.uniform(0.2, 0.4), rng.uniform(0.15, 0.6)
    root = model.joint("body", 0, (0, 0, 0))
    model.bob(root, (0, rng.uniform(0.03, 0.1), 0))
    t = np.linspace(0, 0.5 * np.pi, 9)
    power = rng.uniform(0.5, 1.2)
    outer = np.stack([width * np.cos(t) ** power, height * np.sin(t)], axis=1)
    outer[-1, 0] = 0
    dome = lathe([(0, 0.1 * height), (0.8 * width, -0.02), *outer], 20).with_uv_scale(3, 1)
    flare = np.clip(1.0 - dome.points[:, 1:2] / height, 0, 1) ** 2
    pulse = dome.points * flare * (0.35, 0, 0.35)
    model.add(dome, palette.get("body", 0.7), root, morphs=((pulse, 0.5 + 0.5 * model.wave()),))
    count = int(rng.integers(3, 10))
    length, thick = rng.uniform(0.4, 1.0), rng.uniform(0.02, 0.07)
    curl, swing = rng.uniform(-0.2, 0.5), rng.uniform(8, 22)
    for index in range(count):
        turn = rotation(Y, 360 * index / count)
        s = np.linspace(0, 1, 6)[:, None]
        path = (turn @ (X * 0.65 * width + s * length * (Y * -1) + s**2 * curl * X).T.reshape(3, -1)).T
        joints = chain(model, root, path, f"arm{index}_")
        fine = np.linspace(0, 1, 16)
        curve = np.stack([np.interp(fine, s[:, 0], path[:, i]) for i in range(3)], axis=1)
        arm = tube(curve, thick * (1.05 - fine), 8)
        model.add(arm, palette.get("arms"), root, chain_skin(arm, path, joints))
        for order, joint in enumerate(joints):
            model.swing(joint, turn @ Z, swing, -0.9 * order)
            model.swing(joint, turn @ X, 0.4 * swing, 1.7 * index - 0.5 * order)
    if rng.uniform() < 0.6:
        eyes(model, palette, root, np.array([0, 0.35 * height, 0.85 * width]), 0.35 * width, 0.14 * width + 0.02)
    return model


def slime(rng: Generator, palette: Palette) -> Model:
    """A lump, potato or cloud that hops, squashes and wobbles; of one skin over random balls."""
    model = Model(int(rng.choice([1, 1, 2])))
    root = model.joint("body", 0, (0, 0, 0))
    balls = []
    for _ in range(int(rng.integers(1, 7))):
        at = rng.uniform((-0.35, 0.1, -0.3), (0.35, 0.7, 0.3))
        reach = rng.normal(0, 0.12, 3)
        balls.append(Capsule(at, at + reach, rng.uniform(0.1, 0.3), rng.uniform(0.08, 0.25), root))
    if rng.uniform() < 0.6:  # as alike as two halves
        balls += [Capsule(c.a * (-1, 1, 1), c.b * (-1, 1, 1), c.ra, c.rb, root) for c in balls]
    mesh = surface(balls, int(rng.integers(20, 40)), float(rng.uniform(0.1, 0.3)))
    y = mesh.points[:, 1] - mesh.points[:, 1].min()
    lean = np.stack([y**2, 0 * y, 0 * y], axis=1) * rng.uniform(0.1, 0.5)
    twist = np.stack([mesh.points[:, 2] * y, 0 * y, -mesh.points[:, 0] * y], axis=1) * rng.uniform(0.2, 0.9)
    ripple = mesh.points * np.sin(8 * y + rng.uniform(0, 6))[:, None] * (0.12, 0, 0.12)
    chosen = rng.permutation(3)[: rng.integers(1, 3)]
    morphs = tuple(([lean, twist, ripple][i], 0.5 + 0.5 * model.wave(rng.uniform(0, 6))) for i in chosen)
    model.add(mesh.box_mapped(rng.uniform(0.7, 2)), palette.get("body", 0.75), root, morphs=morphs)
    model.squash(root, rng.uniform(0.08, 0.3))
    if rng.uniform() < 0.5:
        model.bob(root, (0, rng.uniform(0.1, 0.4), 0), bounce=True)
    front = mesh.points[(np.abs(mesh.points[:, 0]) < 0.2)]
    if rng.uniform() < 0.6 and len(front):
        at = front[(front[:, 2] - 2 * np.abs(front[:, 1] - np.median(front[:, 1]))).argmax()]
        eyes(model, palette, root, np.array([0, at[1], at[2]]), rng.uniform(0.07, 0.14), rng.uniform(0.04, 0.08))
    for _ in range(int(rng.integers(0, 4))):
        at = mesh.points[rng.integers(len(mesh.points))]
        model.add(ellipsoid(3 * [rng.uniform(0.03, 0.08)], 10).moved(at), palette.get("accent"), root)
    return model
