"""Colours, procedural images and materials from a random generator."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator

SIZE = 128


@dataclass(frozen=True, eq=False)
class Material:
    """Appearance of a surface.

    Attributes:
        colour: RGB in [0, 1] as seen (sRGB); multiplied with image and vertex colours.
        image: uint8 ``[SIZE, SIZE, 3]`` that tiles, or None.
        gradient: two colours that blend over the part's longest side as vertex colours, or None.
        crease: degrees up to which neighbouring faces are shaded as one surface; 0 shades every face flat.
    """

    colour: tuple[float, float, float] = (1.0, 1.0, 1.0)
    image: np.ndarray | None = None
    gradient: np.ndarray | None = None
    metallic: float = 0.0
    roughness: float = 0.8
    crease: float = 40.0
    glow: float = 0.0


@dataclass
class Palette:
    """A few colours that go together and the materials made of them; parts that share a name share a material."""

    rng: Generator
    colours: np.ndarray = field(init=False)
    crease: float = field(init=False)
    _made: dict[str, Material] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rng = self.rng
        base, spread = rng.uniform(), rng.choice([0.03, 0.1, 0.2, 0.33, 0.5, 0.62])
        hues = base + spread * np.arange(5) + rng.normal(0, 0.03, 5)
        saturation = np.clip(rng.uniform(0.05, 0.95) + rng.normal(0, 0.3, 5), 0.0, 1.0)
        value = rng.uniform(0.08, 0.85, 5)  # not as bright as the white background
        self.colours = np.array([colorsys.hsv_to_rgb(*c) for c in zip(hues % 1, saturation, value, strict=True)])
        self.crease = float(rng.choice([0.0, 35.0, 35.0, 60.0]))

    def get(self, name: str, texture: float = 0.5) -> Material:
        """The material of that name; a new one is a textured one with the probability ``texture``."""
        if name not in self._made:
            self._made[name] = self._make(texture)
        return self._made[name]

    def plain(self, name: str, colour: tuple[float, float, float], **options: float) -> Material:
        """A material of a given colour: eyes, tyres, glass."""
        return self._made.setdefault(name, Material(colour, crease=self.crease, **options))

    def _make(self, texture: float) -> Material:
        rng = self.rng
        shuffled = rng.permutation(self.colours)
        options = {"crease": self.crease, "roughness": float(rng.uniform(0.3, 1.0))}
        if rng.uniform() < 0.08:
            options |= {"metallic": float(rng.uniform(0.3, 0.9)), "roughness": float(rng.uniform(0.3, 0.6))}
        draw = rng.uniform()
        if draw < texture:
            return Material(image=draw_image(rng, shuffled), **options)
        if draw < texture + 0.15:
            return Material(gradient=shuffled[:2], **options)
        return Material(tuple(map(float, shuffled[0])), **options)


def noise(rng: Generator, scale: int, octaves: int = 1) -> np.ndarray:
    """Smooth noise ``[SIZE, SIZE]`` in [0, 1] that tiles, with about ``scale`` waves over the image."""
    total, row = np.zeros((SIZE, SIZE)), np.fft.fftfreq(SIZE) * SIZE
    distance = np.hypot(row[:, None], row[None])
    for octave in range(octaves):
        width = scale * 2**octave
        spectrum = np.fft.fft2(rng.normal(size=(SIZE, SIZE))) * np.exp(-((distance / width) ** 2))
        wave = np.fft.ifft2(spectrum).real
        total += 0.6**octave * wave / wave.std()
    order = total.reshape(-1).argsort().argsort()  # by rank: every level takes its share of the area
    return (order / order.max()).reshape(SIZE, SIZE)


def _cells(rng: Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Index of the nearest of ``count`` random points, and the second-nearest distance minus the nearest one."""
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    delta = np.stack([x, y], -1)[..., None, :] - rng.uniform(size=(count, 2))
    distance = np.linalg.norm(delta - np.round(delta), axis=-1)
    two = np.partition(distance, 1, axis=-1)
    return distance.argmin(-1), two[..., 1] - two[..., 0]


def draw_levels(rng: Generator) -> np.ndarray:
    """A pattern ``[SIZE, SIZE]`` of levels 0 to 1: a palette's colours are laid over them."""
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    n, m = rng.integers(1, 7, 2)
    warp = rng.choice([0.0, 0.0, 0.3]) * (noise(rng, 3) - 0.5)
    kind = rng.choice(
        "checker stripes slant noise patches fine gradient spots cells borders bricks rings weave blocks dots".split()
    )
    match kind:
        case "checker":
            return (np.floor(2 * n * x + warp) + np.floor(2 * n * y)) % 2
        case "stripes":
            return np.where((y * 2 * n + 2 * warp) % 1 < rng.uniform(0.2, 0.8), 0.0, rng.choice([0.5, 1.0]))
        case "slant":
            return np.floor(((n * x + m * y + warp) % 1) * 3) / 2
        case "noise":
            return noise(rng, int(rng.integers(2, 6)), 3)
        case "patches":
            return np.floor(noise(rng, int(rng.integers(2, 8)), 2) * rng.integers(2, 5)) / 4
        case "fine":
            return noise(rng, 24, 2)
        case "gradient":
            return 0.5 - 0.5 * np.cos(2 * np.pi * (y + warp))
        case "spots":
            nearest = ((x * n + warp) % 1 - 0.5) ** 2 + ((y * n * rng.choice([1, 2])) % 1 - 0.5) ** 2
            return (nearest < rng.uniform(0.03, 0.15)).astype(float)
        case "cells":
            return rng.uniform(size=64)[_cells(rng, int(rng.integers(6, 40)))[0]]
        case "borders":
            return (_cells(rng, int(rng.integers(6, 30)))[1] < rng.uniform(0.01, 0.05)).astype(float)
        case "bricks":
            row = np.floor(y * 4 * n)
            joint = ((y * 4 * n) % 1 < 0.15) | ((x * 2 * n + 0.5 * (row % 2)) % 1 < 0.08)
            return np.where(joint, 1.0, 0.3 * rng.uniform(size=64)[(row + 7 * np.floor(x * 2 * n)).astype(int) % 64])
        case "rings":
            return np.floor(4 * ((np.hypot(x - 0.5, y - 0.5) * 2 * n + warp) % 1)) / 3
        case "weave":
            return np.maximum((x * 4 * n) % 1 < 0.4, ((y * 4 * m) % 1 < 0.4) * 0.5)
        case "blocks":
            return np.kron(rng.uniform(size=(8, 8)), np.ones((SIZE // 8, SIZE // 8)))
        case _:
            centres = rng.uniform(size=(int(rng.integers(8, 30)), 2))
            delta = np.stack([x, y], -1)[..., None, :] - centres
            nearest = np.linalg.norm(delta - np.round(delta), axis=-1) - rng.uniform(0.02, 0.12, len(centres))
            return (nearest.min(-1) < 0).astype(float)


def draw_image(rng: Generator, colours: np.ndarray) -> np.ndarray:
    """A tiling image uint8 ``[SIZE, SIZE, 3]`` of a pattern or two in the colours ``[C, 3]``."""
    levels = draw_levels(rng)
    stops = np.linspace(0.0, 1.0, min(len(colours), int(rng.integers(2, 5))))
    image = np.stack([np.interp(levels, stops, colours[: len(stops), i]) for i in range(3)], axis=-1)
    if rng.uniform() < 0.3:  # a second pattern shows through holes of the first
        other = draw_levels(rng)[..., None]
        hole = draw_levels(rng)[..., None] > 0.5
        image = np.where(hole, colours[-1] * (1 - other) + colours[-2] * other, image)
    if rng.uniform() < 0.4:  # dirt
        image = image * (0.75 + 0.25 * noise(rng, 8, 3)[..., None])
    return np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)
