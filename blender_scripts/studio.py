"""Cycles settings of the published data set, suns and camera. Needs Blender."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import bpy
import numpy as np
from mathutils import Matrix

from blender_scripts.rig import LENS_MM, LIGHTS, SENSOR_MM, View, blender_camera
from core.errors import UserError


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress Blender's own output on stdout: it prints a line for every rendered image."""
    with open(os.devnull, "w") as null:
        stdout = os.dup(1)
        os.dup2(null.fileno(), 1)
        try:
            yield
        finally:
            os.dup2(stdout, 1)
            os.close(stdout)


def _use_gpu() -> str | None:
    """Enable the first GPU interface that has a device and return its name, or None."""
    preferences = bpy.context.preferences.addons["cycles"].preferences
    for kind in ("OPTIX", "CUDA", "HIP", "METAL", "ONEAPI"):
        try:
            preferences.compute_device_type = kind
        except TypeError:  # this build of Blender lacks the interface
            continue
        devices = preferences.get_devices_for_type(kind)
        for device in devices:
            device.use = device.type == kind
        if any(device.use for device in devices):
            return kind
    return None


def setup_render(resolution: int, samples: int, filter_width: float, device: str, threads: int) -> str:
    """Set Cycles up as published and return the device that renders."""
    scene = bpy.context.scene
    gpu = None if device == "cpu" else _use_gpu()
    if device == "gpu" and gpu is None:
        raise UserError("--device gpu: Cycles finds no GPU here; use --device cpu or auto")
    scene.render.engine = "CYCLES"
    cycles = scene.cycles
    cycles.device = "GPU" if gpu else "CPU"
    cycles.samples = samples
    cycles.use_adaptive_sampling = False
    cycles.use_denoising = gpu == "OPTIX"
    if gpu == "OPTIX":
        cycles.denoiser = "OPTIX"
    cycles.filter_width = filter_width
    cycles.diffuse_bounces = cycles.glossy_bounces = cycles.transmission_bounces = 1
    cycles.transparent_max_bounces = 1
    render = scene.render
    render.film_transparent = True
    render.use_persistent_data = True  # only the camera changes from view to view
    render.resolution_x = render.resolution_y = resolution
    render.resolution_percentage = 100
    render.image_settings.file_format = "PNG"
    render.image_settings.color_mode = "RGBA"
    render.image_settings.color_depth = "8"
    render.image_settings.compression = 0
    render.dither_intensity = 0.0
    if threads:
        render.threads_mode, render.threads = "FIXED", threads
    scene.view_settings.view_transform = "Standard"  # authored colours stay as they are
    return gpu or "CPU"


class Rig:
    """Suns and camera, added to the open scene.

    Args:
        lights: a name in `blender_scripts.rig.LIGHTS`.
    """

    def __init__(self, lights: str) -> None:
        scene = bpy.context.scene
        self._suns = LIGHTS[lights]
        self.camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
        self.camera.data.lens, self.camera.data.sensor_width = LENS_MM, SENSOR_MM
        self.camera.data.clip_start, self.camera.data.clip_end = 0.01, 100.0
        self._lamps = [bpy.data.objects.new(sun.name, bpy.data.lights.new(sun.name, "SUN")) for sun in self._suns]
        for obj in (self.camera, *self._lamps):
            scene.collection.objects.link(obj)
        scene.camera = self.camera
        self.light()

    def light(self, generator: np.random.Generator | None = None) -> None:
        """Place the suns; a generator moves them by up to 25 degrees and changes their energies by up to 30 %."""
        for lamp, sun in zip(self._lamps, self._suns, strict=True):
            around, above, factor = 0.0, 0.0, 1.0
            if generator is not None:
                around, above, factor = generator.uniform((-25.0, -25.0, 0.7), (25.0, 25.0, 1.3))
            lamp.data.energy, lamp.data.use_shadow = sun.energy * factor, sun.shadow
            highest = max(89.0, abs(sun.elevation))
            # A lamp shines along its local -z, as a camera looks, so it gets the pose of a camera.
            view = View(0, sun.azimuth + around, min(max(sun.elevation + above, -highest), highest))
            lamp.matrix_world = Matrix(blender_camera(view))

    def look(self, view: View) -> None:
        """Move the camera."""
        self.camera.matrix_world = Matrix(blender_camera(view))
