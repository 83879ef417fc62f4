"""The converter: for every .ply a mesh file, or one file for a clip; of tracks one mesh that moves."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from time import perf_counter

from core.devices import choose_device
from core.errors import UserError
from core.files import check_workspace, remove_stale_parts
from core.meshing.build import build_mesh, build_moving_mesh, check_packages
from core.meshing.files import write_animated_glb, write_glb, write_moving_glb, write_obj
from core.meshing.inputs import Job, find_jobs
from core.meshing.surface import Surface
from core.options import Options
from core.ply import load_ply
from core.rendering import make_renderer
from core.tracking.tracks import load_tracks

SUFFIXES = {".glb", ".obj"}
_log = logging.getLogger(__name__)


def convert(options: Options) -> None:
    """Convert what ``--test_path`` names; results stand beside it.

    Raises:
        UserError: no input, a file that is no Gaussian .ply, a missing frame or package, a full disk.
    """
    check_packages()
    if not options.infer.test_path:
        raise UserError("give --test_path: a .ply, NAME_tracks.npz, a folder of frames, or a workspace of infer_4d.py")
    converter, path = _Converter(options), Path(options.infer.test_path)
    if path.suffix == ".npz":
        converter.run_tracks(path)
        return
    for job in find_jobs(path):
        check_workspace(job.target.parent)
        converter.run(job)


class _Converter:
    """Renderer, device and options of one command."""

    def __init__(self, options: Options) -> None:
        self.options = options.mesh
        self.device = choose_device(options.run.device)
        # The classic mode, whatever the preset: its wider blur closes gaps between Gaussians.
        self.renderer = make_renderer(options.camera.renderer, device=self.device)

    def run(self, job: Job) -> None:
        """Write the meshes of one clip or object."""
        if job.rate is None:
            self._write(self._mesh(job.plys[0]), job.target)
        elif self.options.mesh_format == "animated":
            path = _with_suffix(job.target, ".glb")
            write_animated_glb([self._mesh(ply) for ply in job.plys], job.rate, path)
            _log.info("wrote %s: %d frames, %.1f MB", path, len(job.plys), path.stat().st_size / 1e6)
        else:
            self._run_clip(job)

    def run_tracks(self, path: Path) -> None:
        """One mesh that moves: a .glb, or .obj files of which all have the same faces.

        Raises:
            UserError: the file holds no tracks, or what `build_mesh` objects to.
        """
        tracks, target = load_tracks(path), path.with_suffix("")
        check_workspace(target.parent)
        with _named(path):
            surfaces = build_moving_mesh(tracks.gaussians.to(self.device), self.options, self.renderer)
        if self.options.mesh_format != "obj":
            path = _with_suffix(target, ".glb")
            write_moving_glb(surfaces, Fraction(tracks.rate).limit_denominator(1001), path)
            _log.info("wrote %s: %d frames, %.1f MB", path, len(surfaces), path.stat().st_size / 1e6)
            return
        folder = target.with_name(f"{target.name}_mesh")
        check_workspace(folder)
        _empty(folder)
        for number, surface in enumerate(surfaces, start=1):
            self._write(surface, folder / f"frame{number:04d}")

    def _run_clip(self, job: Job) -> None:
        """One file a frame."""
        _empty(job.target)
        for ply in job.plys:
            self._write(self._mesh(ply), job.target / ply.stem)

    def _mesh(self, ply: Path) -> Surface:
        start = perf_counter()
        gaussians = load_ply(ply).to(self.device)
        with _named(ply):
            surface = build_mesh(gaussians, self.options, self.renderer)
        _log.info("%s: %d triangles in %.1f s", ply, len(surface.faces), perf_counter() - start)
        return surface

    def _write(self, surface: Surface, target: Path) -> None:
        obj = self.options.mesh_format == "obj"
        path = _with_suffix(target, ".obj" if obj else ".glb")
        write_obj(surface, path) if obj else write_glb(surface, path)
        _log.info("wrote %s", path)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Errors name the file."""
    try:
        yield
    except UserError as error:
        raise UserError(f"cannot make a mesh of {path}: {error}") from error


def _empty(folder: Path) -> None:
    """The files of an earlier, perhaps longer clip go."""
    for path in folder.glob("frame*"):
        if path.suffix in SUFFIXES:
            path.unlink()
    remove_stale_parts(folder)


def _with_suffix(target: Path, suffix: str) -> Path:
    return target.with_name(target.name + suffix)  # not with_suffix: names may hold dots
