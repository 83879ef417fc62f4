"""Joints, parts and motion: everything is laid out in rest pose and model space, and turns about its joints.

All motion is periodic, so that every animation ends in the pose where it begins.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from blender_scripts.procedural.mesh import Mesh
from blender_scripts.procedural.textures import Material

FPS = 24


@dataclass
class Joint:
    """A joint at ``at`` (model space, rest pose), animated by keys of rotation (w, x, y, z), translation and scale."""

    name: str
    parent: int | None
    at: np.ndarray
    turn: np.ndarray | None = None  # [K, 4]
    shift: np.ndarray | None = None  # [K, 3]
    scale: np.ndarray | None = None  # [K, 3]


@dataclass(frozen=True)
class Part:
    """A mesh in model space that moves with a joint, or as a skin with several joints, and may change its shape.

    Attributes:
        skin: joints ``[N, 4]`` and weights ``[N, 4]`` of every point, or None.
        morphs: offsets ``[N, 3]`` and their weights ``[K]`` over time.
    """

    mesh: Mesh
    material: Material
    joint: int
    skin: tuple[np.ndarray, np.ndarray] | None = None
    morphs: tuple[tuple[np.ndarray, np.ndarray], ...] = ()


@dataclass
class Model:
    """An object: joint 0 is its root, in the origin.

    Attributes:
        seconds: whole seconds that its animation takes.
    """

    seconds: int = 1
    joints: list[Joint] = field(default_factory=lambda: [Joint("root", None, np.zeros(3))])
    parts: list[Part] = field(default_factory=list)

    @property
    def keys(self) -> int:
        """Key poses: one a frame, the last repeats the first."""
        return self.seconds * FPS + 1

    def joint(self, name: str, parent: int, at: object) -> int:
        """Add a joint and return its index."""
        self.joints.append(Joint(name, parent, np.asarray(at, float)))
        return len(self.joints) - 1

    def add(
        self,
        mesh: Mesh,
        material: Material,
        joint: int = 0,
        skin: tuple[np.ndarray, np.ndarray] | None = None,
        morphs: tuple[tuple[np.ndarray, np.ndarray], ...] = (),
    ) -> None:
        """Add a part."""
        self.parts.append(Part(mesh, material, joint, skin, morphs))

    # Motion

    def wave(self, phase: float = 0.0, cycles: int = 1) -> np.ndarray:
        """``sin(2 pi cycles t + phase)`` at the keys ``[K]``."""
        return np.sin(2.0 * np.pi * cycles * np.arange(self.keys) / (self.keys - 1) + phase)

    def swing(
        self, joint: int, axis: object, degrees: float, phase: float = 0.0, cycles: int = 1, bias: float = 0.0
    ) -> None:
        """Swing to and fro about an axis by ``degrees``, around ``bias`` degrees."""
        self._turn(joint, axis, np.deg2rad(bias + degrees * self.wave(phase, cycles)))

    def spin(self, joint: int, axis: object, turns: int) -> None:
        """Turn round and round."""
        self._turn(joint, axis, 2.0 * np.pi * turns * np.arange(self.keys) / (self.keys - 1))

    def _turn(self, joint: int, axis: object, angle: np.ndarray) -> None:
        axis = np.asarray(axis, float) / np.linalg.norm(axis)
        turn = np.concatenate([np.cos(0.5 * angle)[:, None], np.sin(0.5 * angle)[:, None] * axis], axis=1)
        old = self.joints[joint].turn
        self.joints[joint].turn = turn if old is None else multiply(old, turn)

    def bob(self, joint: int, direction: object, phase: float = 0.0, cycles: int = 1, bounce: bool = False) -> None:
        """Move to and fro along ``direction`` (its length is the amplitude); ``bounce`` stays on one side of rest."""
        wave = self.wave(phase, cycles)
        if bounce:
            wave = 0.5 + 0.5 * wave
        shift = wave[:, None] * np.asarray(direction, float)
        old = self.joints[joint].shift
        self.joints[joint].shift = shift if old is None else old + shift

    def squash(self, joint: int, amount: float, phase: float = 0.0, cycles: int = 1) -> None:
        """Grow taller and thinner and back: y by 1 + amount sin, x and z so that the volume stays."""
        y = 1.0 + amount * self.wave(phase, cycles)
        self.joints[joint].scale = np.stack([y**-0.5, y, y**-0.5], axis=1)

    # Where everything is

    def matrices(self, frame: int) -> np.ndarray:
        """Joint to model ``[J, 4, 4]`` at a frame; a joint's own frame has its origin at the joint."""
        key = frame % (self.keys - 1)
        out = np.empty((len(self.joints), 4, 4))
        for index, joint in enumerate(self.joints):
            matrix = np.eye(4)
            matrix[:3, 3] = self.offset(index) + (0.0 if joint.shift is None else joint.shift[key])
            if joint.turn is not None:
                matrix[:3, :3] = to_matrix(joint.turn[key])
            if joint.scale is not None:
                matrix[:3, :3] = matrix[:3, :3] * joint.scale[key]
            out[index] = matrix if joint.parent is None else out[joint.parent] @ matrix
        return out

    def offset(self, index: int) -> np.ndarray:
        """Position of a joint in its parent's frame, in rest pose."""
        joint = self.joints[index]
        return joint.at if joint.parent is None else joint.at - self.joints[joint.parent].at

    def points(self, frame: int) -> list[np.ndarray]:
        """Positions ``[N, 3]`` of the points of every part at a frame (24 a second), in model space."""
        matrices, out = self.matrices(frame), []
        rest = np.array([joint.at for joint in self.joints])
        for part in self.parts:
            points = part.mesh.points.astype(float)
            for offsets, weights in part.morphs:
                points = points + weights[frame % (self.keys - 1)] * offsets
            joints, weights = part.skin or (np.full((len(points), 1), part.joint), np.ones((len(points), 1)))
            local = points[:, None] - rest[joints]
            moved = np.einsum("nkij,nkj->nki", matrices[joints, :3, :3], local) + matrices[joints, :3, 3]
            out.append((weights[..., None] * moved).sum(1))
        return out


def multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Quaternion products ``[K, 4]`` (w, x, y, z): b is applied first."""
    aw, av, bw, bv = a[:, :1], a[:, 1:], b[:, :1], b[:, 1:]
    scalar = aw * bw - (av * bv).sum(1, keepdims=True)
    return np.concatenate([scalar, aw * bv + bw * av + np.cross(av, bv)], axis=1)


def to_matrix(quaternion: np.ndarray) -> np.ndarray:
    """Rotation matrix of a unit quaternion (w, x, y, z)."""
    w, vector = quaternion[0], quaternion[1:]
    x, y, z = vector
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + 2.0 * w * cross + 2.0 * cross @ cross
