"""The Gaussians of one frame in the .ply layout of 3D Gaussian Splatting, which common viewers open.

One element ``vertex``, all properties float32, in the published order (`PROPERTIES`), binary little-endian. Values
are stored before activation: opacity as its logit, scales as natural logarithms, colour as the first spherical
harmonic, (rgb - 0.5) / 0.28209479177387814; the quaternion (w, x, y, z) as it is.

Layouts. ``standard``: these 14 properties; SuperSplat, Spark, mkkellogg's viewer, viser. ``full``: the 62 of the first
3DGS release, with normals and 45 higher harmonics of 0, for importers that require all of them (Blender add-ons).
``rgb``: the 14, then red, green, blue as bytes, for programs that read points (Open3D, MeshLab, Blender itself).

Orientation. Here y is up and the object faces +z. Most files come from COLMAP, where y points *down*, so viewers rotate
what they load: SuperSplat and other PlayCanvas viewers by 180 degrees about
z, viewers on three.js by the camera's up (0, -1, 0). ``orientation="viewer"`` (the default) therefore turns means and
quaternions by 180 degrees about z as they are written. About z and not x: z keeps its sign, so that after the viewer's
own rotation the front still faces +z. A comment in the header records it and `load_ply` undoes it.
``orientation="world"`` writes the axes unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from core.errors import UserError
from core.files import atomic_path, regular_file
from core.gaussians import Gaussians
from core.rotations import half_turn

PROPERTIES = (
    *("x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"),
    *("scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
)
_FULL = (
    *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"),
    *(f"f_rest_{i}" for i in range(45)),
    *PROPERTIES[6:],
)
_BYTES = ("red", "green", "blue")
LAYOUTS = {"standard": PROPERTIES, "full": _FULL, "rgb": (*PROPERTIES, *_BYTES)}
Layout = Literal["standard", "full", "rgb"]
SH_0 = 0.28209479177387814  # the constant spherical harmonic, 1 / (2 sqrt(pi))
# Stands for log(0), on which viewers may fail; exp(-104) and sigmoid(-104) are exactly 0 in float32.
LOG_ZERO = -104.0
ORIENTATIONS = {
    "viewer": "comment orientation viewer: up -y, front +z; the y-up world turned by 180 degrees about z",
    "world": "comment orientation world: up +y, front +z",
}
SCALAR_TYPES = {
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
}
BYTE_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": "="}


def save_ply(
    gaussians: Gaussians,
    path: str | Path,
    *,
    orientation: Literal["viewer", "world"] = "viewer",
    layout: Layout = "standard",
    min_opacity: float = 0.0,
    metadata: Mapping[str, object] | None = None,
) -> None:
    """Write one frame (no leading axes). Loading it gives the same values to float32 precision, 0 and 1 included.

    Args:
        gaussians: of one frame, any device and floating-point type.
        path: file to write.
        orientation: which axes the file has, see above.
        layout: which properties it has, see above.
        min_opacity: leave out Gaussians below it; 0 keeps all. (Published: 0.005.)
        metadata: goes into the header, one comment ``key: value`` each.

    Raises:
        UserError: a value is NaN, infinite or a negative scale; the file cannot be written.
        ValueError: the Gaussians have leading axes.
    """
    if gaussians.shape:
        raise ValueError(f"a .ply holds one frame, got leading axes {tuple(gaussians.shape)}; index them first")
    gaussians = gaussians.detach().to("cpu").to(torch.float64)
    if not gaussians.is_finite() or bool((gaussians.scales < 0).any()):
        raise UserError(f"cannot write {path}: the Gaussians hold NaN, infinite values or negative scales")
    gaussians = gaussians.select(gaussians.opacities >= min_opacity)
    if orientation == "viewer":
        gaussians = half_turn(gaussians)
    table = _table(gaussians, LAYOUTS[layout])
    comments = [f"comment {key}: {value}" for key, value in (metadata or {}).items()]
    header = ["ply", "format binary_little_endian 1.0", ORIENTATIONS[orientation]]
    header += [line.replace("\n", " ").replace("\r", " ") for line in comments]
    kinds = ((name, "uchar" if name in _BYTES else "float") for name in LAYOUTS[layout])
    header += [f"element vertex {len(table)}", *(f"property {kind} {name}" for name, kind in kinds), "end_header\n"]
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write("\n".join(header).encode("ascii", "backslashreplace"))
        file.write(table.tobytes())


def _table(gaussians: Gaussians, names: tuple[str, ...]) -> np.ndarray:
    """One row per Gaussian with these properties; normals and higher harmonics are 0."""
    # One minus 1e-9 is exactly 1 again after a float32 sigmoid.
    opacities = gaussians.opacities.clamp(0, 1 - 1e-9)
    logits = opacities.log().clamp_min(LOG_ZERO) - torch.log1p(-opacities)
    log_scales = gaussians.scales.log().clamp_min(LOG_ZERO)
    harmonics = (gaussians.colors - 0.5) / SH_0
    values = torch.cat([gaussians.means, harmonics, logits[:, None], log_scales, gaussians.quats], dim=-1)
    columns = dict(zip(PROPERTIES, values.numpy().T, strict=True))
    columns |= zip(_BYTES, (255 * gaussians.colors.clamp(0, 1)).round().numpy().T, strict=True)
    table = np.zeros(len(values), [(name, "u1" if name in _BYTES else "<f4") for name in names])
    for name in columns.keys() & set(names):
        table[name] = columns[name]
    return table


def load_ply(path: str | Path) -> Gaussians:
    """Read the Gaussians of a 3DGS .ply: of this module or another program, binary in either byte order or ASCII.

    Properties may come in any order and number type. What is not needed is ignored: normals, ``f_rest_*``
    (so the colour is the mean over directions), other elements. Files with this module's comment of the viewer
    orientation are rotated back; all others keep their axes.

    Returns:
        Gaussians without leading axes, float32, on the CPU. Quaternions are not normalised.

    Raises:
        UserError: the file is missing, truncated, not a .ply, or lacks one of `PROPERTIES`.
    """
    path = regular_file(path, ".ply")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; check the path") from error
    end = re.search(rb"^end_header\r?\n", data, re.MULTILINE)
    if not data.startswith(b"ply") or not end:
        raise UserError(f"cannot read {path}: it is not a .ply file, or its header is cut off; give a whole 3DGS .ply")
    header = data[: end.start()].decode("ascii", "replace").splitlines()
    try:
        table = _vertex_columns(header, data[end.end() :])
    except _Malformed as error:
        raise UserError(f"cannot read {path}: {error}; give a whole, uncompressed 3DGS .ply") from error
    with np.errstate(over="ignore"):  # values beyond float32 become infinite and are refused below
        columns = torch.from_numpy(np.stack([table[name].astype(np.float32) for name in PROPERTIES], axis=-1))
    means, colors, opacity, scales, quats = columns.split([3, 3, 1, 3, 4], dim=-1)
    gaussians = Gaussians(means, opacity.squeeze(-1).sigmoid(), scales.exp(), quats, colors * SH_0 + 0.5)
    if ORIENTATIONS["viewer"] in header:
        gaussians = half_turn(replace(gaussians, quats=-quats))
    if not gaussians.is_finite():
        raise UserError(f"cannot read {path}: it holds NaN or infinite values; export it again")
    return gaussians


class _Malformed(Exception):
    """A malformed .ply; the message does not name the file."""


def _vertex_columns(header: list[str], body: bytes) -> dict[str, np.ndarray]:
    """The vertex element as one array for each property."""
    try:
        storage, elements = _parse_header(header)
        count, dtype = elements.pop("vertex")
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise _Malformed("its header is broken or of an unknown kind") from error
    if missing := [name for name in PROPERTIES if name not in dtype.names]:
        raise _Malformed(f"property '{missing[0]}' is missing (it has: {' '.join(dtype.names)})")
    if storage == "ascii":
        return _ascii_columns(body, sum(rows for rows, _ in elements.values()), count, dtype.names)
    offset = sum(rows * kind.itemsize for rows, kind in elements.values())
    needed = offset + count * dtype.itemsize
    if len(body) < needed:
        raise _Malformed(f"it is truncated: {count} vertices take {needed} bytes, {len(body)} follow the header")
    table = np.frombuffer(body, dtype, count, offset)
    return {name: table[name] for name in dtype.names}


def _parse_header(header: list[str]) -> tuple[str, dict[str, tuple[int, np.dtype]]]:
    """The storage format, and name -> (rows, row type) for ``vertex`` and the elements before it."""
    storage = ""
    elements: dict[str, tuple[int, list[tuple[str, str]]]] = {}
    fields: list[tuple[str, str]] = []
    for words in filter(None, map(str.split, header)):
        if words[0] == "format":
            storage = words[1]
        elif words[0] == "element":
            if "vertex" in elements:
                break
            elements[words[1]] = (int(words[2]), fields := [])
            if int(words[2]) < 0:
                raise ValueError(f"{words[2]} rows")
        elif words[0] == "property":
            fields.append((words[-1], BYTE_ORDERS[storage] + SCALAR_TYPES[words[1]]))
    return storage, {name: (rows, np.dtype(fields)) for name, (rows, fields) in elements.items()}


def _ascii_columns(body: bytes, skip: int, count: int, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    lines = [line for line in body.decode("ascii", "replace").splitlines() if line.strip()][skip : skip + count]
    if len(lines) < count:
        raise _Malformed(f"it is truncated: {count} vertices are declared, {len(lines)} lines are there")
    try:
        values = np.loadtxt(lines, ndmin=2, comments=None) if lines else np.empty((0, len(names)))
    except ValueError as error:
        raise _Malformed(f"its text is not numbers ({error})") from error
    if values.shape[1] != len(names):
        raise _Malformed(f"its lines hold {values.shape[1]} numbers for {len(names)} properties")
    return dict(zip(names, values.T, strict=True))
