"""Cameras and lights of a clip, without Blender: view numbers, poses, matrices, directions of the suns.

World: y up, the glTF convention; the front of an object (glTF +Z) faces azimuth 0. Angles are degrees. A positive
elevation is above the horizon; this is also what clips store (their readers negate it for the published orbit function,
which has positive elevations below).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

RADIUS = 1.5
LENS_MM, SENSOR_MM = 35.0, 32.0  # field of view 2 atan(16 / 35) = 49.13 degrees
ELEVATION_RANGE = (-5.0, 30.0)


@dataclass(frozen=True)
class Sun:
    """A directional light.

    Attributes:
        energy: W/m2, Blender's unit.
        azimuth, elevation: direction that the light comes from, degrees, as in `View`.
        shadow: whether objects cast shadows.
    """

    name: str
    energy: float
    azimuth: float
    elevation: float
    shadow: bool = True


LIGHTS = {
    # The published directions and energies. The published script turns shadows off; Cycles in Blender 3, the version
    # that it names, ignores that switch.
    "published": (
        Sun("key", 4.0, -45.0, 45.0, shadow=False),
        Sun("fill", 3.0, 135.0, 45.0, shadow=False),
        Sun("rim", 4.0, -45.0, 45.0, shadow=False),
        Sun("bottom", 2.0, 0.0, -90.0, shadow=False),
    ),
    # The same energies from all sides: no side of a white object is far above or below full exposure.
    "soft": (
        Sun("key", 4.0, -45.0, 30.0),
        Sun("fill", 3.0, 75.0, 10.0),
        Sun("rim", 4.0, 180.0, 30.0),
        Sun("bottom", 2.0, 0.0, -89.0),
    ),
}
"""Lights by name."""

# Blender's world is z up: its importer maps glTF (x, y, z) to (x, -z, y).
_Y_UP_TO_Z_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])


@dataclass(frozen=True)
class View:
    """One camera of a clip: its three-digit number in the tar, azimuth and elevation in degrees."""

    number: int
    azimuth: float
    elevation: float = 0.0


def fixed_views(count: int = 16, step: int = 1) -> list[View]:
    """Views ``0, step, 2 step, ...`` of ``count`` equally spaced ones on the horizon, numbered as in the full ring."""
    return [View(i, 360.0 / count * i) for i in range(0, count, step)]


def random_views(count: int, seed: int, name: str) -> list[View]:
    """Random cameras: azimuth uniform in [0, 360), elevation uniform in [-5, 30).

    The draw depends only on the seed and the clip's name, not on other clips; a smaller ``count`` gives a prefix of a
    larger one.
    """
    generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
    draws = generator.uniform((0.0, ELEVATION_RANGE[0]), (360.0, ELEVATION_RANGE[1]), size=(count, 2))
    return [View(i, float(azimuth), float(elevation)) for i, (azimuth, elevation) in enumerate(draws)]


def camera_to_world(view: View, radius: float = RADIUS) -> np.ndarray:
    """OpenGL camera-to-world ``[4, 4]`` (x right, y up, z backward): on the orbit, looking at the origin, y up.

    The centre is ``radius * (cos e sin a, sin e, cos e cos a)``.
    """
    a, e = np.deg2rad(view.azimuth), np.deg2rad(view.elevation)
    backward = np.array([np.cos(e) * np.sin(a), np.sin(e), np.cos(e) * np.cos(a)])
    right = np.array([np.cos(a), 0.0, -np.sin(a)])
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([right, np.cross(backward, right), backward], axis=1)
    matrix[:3, 3] = radius * backward
    return matrix


def world_to_camera(view: View, radius: float = RADIUS) -> np.ndarray:
    """OpenCV world-to-camera ``[3, 4]`` (x right, y down, z forward) in the y-up world: a clip's ``rt_matrix``."""
    c2w = camera_to_world(view, radius)
    rotation = c2w[:3, :3].T * np.array([[1.0], [-1.0], [-1.0]])
    return np.concatenate([rotation, -rotation @ c2w[:3, 3:]], axis=1)


def rigid_motion(frame: int, seed: int, name: str) -> np.ndarray:
    """Pose ``[4, 4]`` of a static object of unit size in the y-up world: rotation, rocking and translation.

    The motion has a period of one second (24 frames) and depends only on the seed and the clip's name.
    """
    generator = np.random.default_rng([seed, zlib.crc32(name.encode()), 1])
    turns = generator.choice([-1.0, 0.0, 0.0, 1.0])
    swing, rock, tilt = generator.uniform((0.2, 0.0, 0.0), (0.9, 0.35, 2.0 * np.pi))
    shift, phase = generator.uniform(-0.12, 0.12, 3), generator.uniform(0.0, 2.0 * np.pi, 3)
    time = 2.0 * np.pi * frame / 24
    matrix = np.eye(4)
    turn = _rotation(np.array([0.0, 1.0, 0.0]), turns * time if turns else swing * np.sin(time + phase[0]))
    matrix[:3, :3] = _rotation(np.array([np.cos(tilt), 0.0, np.sin(tilt)]), rock * np.sin(time + phase[1])) @ turn
    matrix[:3, 3] = shift * np.sin(time + phase[2])
    return matrix


def _rotation(axis: np.ndarray, angle: float) -> np.ndarray:
    x, y, z = axis
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * cross @ cross


def in_blender(matrix: np.ndarray) -> np.ndarray:
    """A motion ``[4, 4]`` of the y-up world as the same motion in Blender's z-up world."""
    change = np.eye(4)
    change[:3, :3] = _Y_UP_TO_Z_UP
    return change @ matrix @ change.T


def blender_camera(view: View, radius: float = RADIUS) -> np.ndarray:
    """The same camera in Blender's z-up world, ``[4, 4]`` as a ``matrix_world``; azimuth 0 is at (0, -radius, 0)."""
    matrix = camera_to_world(view, radius)
    matrix[:3] = _Y_UP_TO_Z_UP @ matrix[:3]
    return matrix
