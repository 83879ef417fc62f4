"""Options of the mesh converter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from core.options.checks import within


@dataclass(frozen=True)
class MeshOptions:
    """Gaussians in, triangle meshes out."""

    mesh_format: Literal["glb", "obj", "animated"] = "glb"
    """glb, obj: one file a frame. animated: all frames in one .glb, which plays."""
    mesh_method: Literal["fusion", "density"] = "fusion"
    """fusion: from rendered depths. density: a level set of the sum of the Gaussians."""
    mesh_resolution: int = 128
    """Grid points along the longest side of the object."""
    max_faces: int = 50_000
    """Triangles of a mesh at most."""

    def __post_init__(self) -> None:
        within(self, 16, 4096, "mesh_resolution")
        within(self, 100, 10_000_000, "max_faces")
