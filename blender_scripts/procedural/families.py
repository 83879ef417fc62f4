"""The families of objects, how often each is drawn, and the model of a seed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from blender_scripts.procedural import buildings, creatures, people, plants, props, sea_life, vehicles
from blender_scripts.procedural.model import Model
from blender_scripts.procedural.textures import Palette

FAMILIES: dict[str, tuple[Callable[[Generator, Palette], Model], float]] = {
    "animal": (creatures.animal, 6),
    "person": (people.person, 4),
    "insect": (creatures.insect, 2),
    "fish": (sea_life.fish, 2.5),
    "tentacled": (sea_life.tentacled, 1),
    "slime": (sea_life.slime, 2),
    "car": (vehicles.car, 3),
    "aircraft": (vehicles.aircraft, 2),
    "boat": (vehicles.boat, 1),
    "spacecraft": (vehicles.spacecraft, 1),
    "tree": (plants.tree, 1.5),
    "flower": (plants.flower, 1),
    "cactus": (plants.cactus, 0.7),
    "mushroom": (plants.mushroom, 0.8),
    "vessel": (props.vessel, 2),
    "tool": (props.tool, 2),
    "chest": (props.chest, 1),
    "furniture": (props.furniture, 1.5),
    "assembly": (props.assembly, 3),
    "house": (buildings.house, 1.5),
    "machine": (buildings.machine, 1),
}
"""Name -> (the function that makes one, how often relative to the others)."""


def make_model(seed: int, family: str | None = None) -> tuple[str, Model]:
    """Make the model of a seed, identical on every run; return its family and the model."""
    rng = np.random.default_rng(seed)
    odds = np.array([weight for _, weight in FAMILIES.values()])
    drawn = str(rng.choice(list(FAMILIES), p=odds / odds.sum()))
    name = family or drawn
    return name, FAMILIES[name][0](rng, Palette(rng))
