"""Numbers that options, cameras and file formats share; no torch."""

from __future__ import annotations

ORBIT_RADIUS = 1.5
"""World units from the origin to every orbit camera."""
FOVY = 49.1
"""Vertical field of view of every orbit camera in degrees."""
INPUT_AZIMUTHS = (0.0, 90.0, 180.0, 270.0)
"""Azimuths of the four input views in degrees."""
NUM_VIEWS = len(INPUT_AZIMUTHS)
"""Input views of the published network, of the files ``NAME_000.png`` ... and of multi-view diffusion."""
NEAR, FAR = 0.05, 10.0
"""Clipping planes in world units: every point of the cube [-1, 1]^3 lies between them. The published 0.5 and 2.5 cut
its corners off."""
