"""How far meshes of reconstructed validation objects are from the source meshes: Chamfer distance, both methods.

    .venv-render/bin/python blender_scripts/export_surface.py --obj Trex.glb --out sources/Trex.npz   # every object
    python infer_4d.py nano --test_path videos --workspace results
    python -m benchmarks.mesh --sources sources --results results --out mesh.json

``sources`` holds ``NAME.npz``, ``results`` the clip's folder ``NAME`` of .ply files; the first frame is measured. The
longest side of the object is 1 over the clip, so 0.01 is a hundredth of it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from time import perf_counter

import numpy as np
import torch
from scipy.spatial import cKDTree

from benchmarks.measure import Row, machine, table, write_json
from blender_scripts.export_points import followed
from core.gaussians import Gaussians
from core.meshing.build import build_mesh
from core.meshing.surface import Surface
from core.options import MeshOptions
from core.ply import load_ply
from core.rendering import make_renderer

POINTS = 30_000
METHODS = ("fusion", "density")


def sample(triangles: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Points ``[count, 3]`` uniform over the area of triangles ``[M, 3, 3]``."""
    return followed(triangles[None], count, seed)[0]


def chamfer(ours: np.ndarray, source: np.ndarray, count: int = POINTS) -> tuple[float, float]:
    """Mean distance from our surface to the source and back, triangles ``[M, 3, 3]`` each, world units."""
    here, there = sample(ours, count, 0), sample(source, count, 1)
    return float(cKDTree(there).query(here)[0].mean()), float(cKDTree(here).query(there)[0].mean())


def ideal(source: np.ndarray) -> Gaussians:
    """Small round Gaussians all over the source: what is left is the error of the mesher and of the sampling."""
    means = torch.from_numpy(sample(source, 2 * POINTS, 2)).float()
    round_ = torch.tensor([1.0, 0, 0, 0]).repeat(len(means), 1)
    sizes, colors = torch.full_like(means, 0.004), torch.full_like(means, 0.5)
    return Gaussians(means, torch.full((len(means),), 0.9), sizes, round_, colors)


def rows(sources: Path, results: Path | None) -> Iterator[Row]:
    """One row for each object and method; without ``results`` of ideal Gaussians."""
    renderer = make_renderer("numba")
    for path in sorted(sources.glob("*.npz")):
        source = np.load(path)["triangles"][0]
        gaussians = load_ply(results / path.stem / "frame0001.ply") if results else ideal(source)
        for method in METHODS:
            start = perf_counter()
            surface = build_mesh(gaussians, MeshOptions(mesh_method=method), renderer)
            yield {"object": path.stem, "method": method} | _row(surface, source, perf_counter() - start)


def _row(surface: Surface, source: np.ndarray, seconds: float) -> Row:
    to_source, from_source = chamfer(surface.vertices[surface.faces].numpy(), source)
    return {
        "to source": round(to_source, 5),
        "from source": round(from_source, 5),
        "Chamfer": round((to_source + from_source) / 2, 5),
        "faces": len(surface.faces),
        "s": round(seconds, 2),
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", type=Path, required=True, help="folder of NAME.npz")
    parser.add_argument("--results", type=Path, nargs="*", default=[], help="workspaces; ideal Gaussians come always")
    parser.add_argument("--out", type=Path, required=True, help="the .json to write")
    args = parser.parse_args()
    tables: dict[str, list[Row]] = {}
    for title, results in [("ideal Gaussians", None), *((folder.name, folder) for folder in args.results)]:
        tables[title] = found = list(rows(args.sources, results))
        for method in METHODS:
            mean = fmean(row["Chamfer"] for row in found if row["method"] == method)
            tables.setdefault("mean", []).append({"Gaussians": title, "method": method, "Chamfer": round(mean, 5)})
        print(f"\n{title}\n\n{table(found)}", flush=True)
    print(f"\nmean\n\n{table(tables['mean'])}")
    write_json(args.out, {"machine": machine(torch.device("cpu")), "tables": tables})


if __name__ == "__main__":
    main()
