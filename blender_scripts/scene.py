"""The part that needs Blender: import a GLB, choose its animation, normalise, light and render it with Cycles."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bpy
import numpy as np
from mathutils import Matrix
from PIL import Image

from blender_scripts.clips import SCENE_FPS
from blender_scripts.rig import LENS_MM, SENSOR_MM, View, blender_camera
from core.errors import UserError

# Name, energy, azimuth and elevation (degrees) of where the light comes from. Energies are the published ones; the
# directions spread them over the sides, so that no side of a white object is far above or below full exposure.
SUNS = (("key", 4.0, -45.0, 30.0), ("fill", 3.0, 75.0, 10.0), ("rim", 4.0, 180.0, 30.0), ("bottom", 2.0, 0.0, -89.0))


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what Blender prints from C on standard output: a line for every rendered image."""
    with open(os.devnull, "w") as null:
        kept = os.dup(1)
        os.dup2(null.fileno(), 1)
        try:
            yield
        finally:
            os.dup2(kept, 1)
            os.close(kept)


def _use_gpu() -> str | None:
    """Switch on the first GPU interface that has a device; its name, or None."""
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


def _setup_render(resolution: int, samples: int, filter_width: float, device: str, threads: int) -> str:
    """Set Cycles as the data set has it; return the device that renders."""
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


def _add_rig() -> bpy.types.Object:
    """Add the four suns and the camera; return the camera."""
    scene = bpy.context.scene
    for name, energy, azimuth, elevation in SUNS:
        light = bpy.data.objects.new(f"sun_{name}", bpy.data.lights.new(f"sun_{name}", "SUN"))
        light.data.energy = energy
        # A sun shines along its local -z, as a camera looks: it stands where a camera of that azimuth would.
        light.matrix_world = Matrix(blender_camera(View(0, azimuth, elevation)))
        scene.collection.objects.link(light)
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    camera.data.lens, camera.data.sensor_width = LENS_MM, SENSOR_MM
    camera.data.clip_start, camera.data.clip_end = 0.01, 100.0
    scene.collection.objects.link(camera)
    scene.camera = camera
    return camera


def _is_helper(obj: bpy.types.Object, bone_shapes: set[bpy.types.Object]) -> bool:
    """Whether a mesh is the importer's own, or hidden in the file: neither drawn nor measured."""
    imported_aside = any(collection.name.startswith("glTF_not_exported") for collection in obj.users_collection)
    return imported_aside or obj in bone_shapes or obj.hide_render or obj.hide_viewport or obj.hide_get()


class ClipScene:
    """One GLB in Blender, ready to render.

    Args:
        path: a .glb or .gltf file.
        resolution: width and height of the images in pixels.
        samples: Cycles samples a pixel.
        filter_width: pixel filter in pixels.
        device: ``auto``, ``cpu`` or ``gpu``.
        threads: Cycles threads; 0 takes all cores.

    Raises:
        UserError: the file cannot be imported or holds no visible mesh; or no GPU where one is asked for.
    """

    def __init__(
        self, path: Path, resolution: int, samples: int, filter_width: float, device: str = "auto", threads: int = 0
    ) -> None:
        with quiet():
            bpy.ops.wm.read_factory_settings(use_empty=True)
            self.device = _setup_render(resolution, samples, filter_width, device, threads)
            bpy.context.scene.render.fps = SCENE_FPS  # key times are seconds; the importer needs the rate
            gltf = bpy.context.preferences.addons["io_scene_gltf2"].preferences
            if not gltf.animation_ui:
                gltf.animation_ui = True  # then the importer leaves a list of the animations in the order of the file
            try:
                bpy.ops.import_scene.gltf(filepath=str(path), merge_vertices=True)
            except RuntimeError as error:  # an operator raises nothing else; the last line of its text is the cause
                raise UserError(f"{path}: not a readable glTF file ({str(error).strip().splitlines()[-1]})") from error
        scene = bpy.context.scene
        bones = [bone for obj in scene.objects if obj.pose for bone in obj.pose.bones]
        bone_shapes = {bone.custom_shape for bone in bones if bone.custom_shape}
        for obj in scene.objects:
            obj.hide_render = obj.type == "LIGHT" or _is_helper(obj, bone_shapes)
        self._meshes = [obj for obj in scene.objects if obj.type == "MESH" and not obj.hide_render]
        if not self._meshes:
            raise UserError(f"{path}: holds no visible mesh; there is nothing to render")
        self._root = bpy.data.objects.new("normalised", None)
        for obj in list(scene.objects):
            if obj.parent is None:
                obj.parent = self._root
        scene.collection.objects.link(self._root)
        self._camera = _add_rig()
        self._animated = self._find_animated()
        self._rest = [(item, item.matrix_basis.copy()) for item in (*scene.objects, *bones)]
        self.lengths = self._find_lengths()

    @staticmethod
    def _find_animated() -> list[bpy.types.ID]:
        owners = [*bpy.data.objects, *bpy.data.shape_keys]
        owners += [material.node_tree for material in bpy.data.materials if material.node_tree]
        return [owner for owner in owners if owner.animation_data and owner.animation_data.nla_tracks]

    def _strips(self, name: str) -> Iterator[tuple[bpy.types.ID, bpy.types.NlaStrip]]:
        """The importer stores every animation as NLA tracks of its name on all that it moves."""
        for owner in self._animated:
            for track in owner.animation_data.nla_tracks:
                if track.name == name and track.strips:
                    yield owner, track.strips[0]

    def _find_lengths(self) -> dict[int, int]:
        """Scene frames of every animation, by its index in the file; empty for a static object."""
        self._names = [track.name for track in bpy.data.scenes[0].gltf2_animation_tracks]
        lengths = {}
        for index, name in enumerate(self._names):
            ends = [strip.action.frame_range[1] for _, strip in self._strips(name)]
            if ends:
                lengths[index] = int(np.floor(max(ends) + 1e-3)) + 1
        return lengths

    def play(self, animation: int) -> None:
        """Choose the animation by index; what it does not move returns to its rest pose."""
        for owner in self._animated:
            owner.animation_data.action = None
            for track in owner.animation_data.nla_tracks:
                track.mute = True
        for item, basis in self._rest:
            item.matrix_basis = basis
        for owner, strip in self._strips(self._names[animation]):
            owner.animation_data.action = strip.action
            owner.animation_data.action_slot = strip.action_slot

    def vertices(self, frame: int) -> np.ndarray:
        """World positions ``[N, 3]`` of all visible vertices at a scene frame, in Blender's axes."""
        with quiet():
            bpy.context.scene.frame_set(frame)
        depsgraph = bpy.context.evaluated_depsgraph_get()
        parts = []
        for obj in self._meshes:
            evaluated = obj.evaluated_get(depsgraph)
            points = np.empty(len(evaluated.data.vertices) * 3, dtype=np.float32)
            evaluated.data.vertices.foreach_get("co", points)
            matrix = np.array(evaluated.matrix_world)
            parts.append(points.reshape(-1, 3) @ matrix[:3, :3].T + matrix[:3, 3])
        return np.concatenate(parts)

    def normalise(self, frames: list[int], longest_side: float) -> float:
        """Scale and centre so that the bounding box over ``frames`` is centred and has the longest side given.

        Returns:
            how far any vertex moves from where it is in the first frame, over the longest side.

        Raises:
            UserError: the bounding box is empty or not finite.
        """
        self._root.matrix_world = Matrix.Identity(4)
        first = self.vertices(frames[0])
        low, high, motion = first.min(0), first.max(0), 0.0
        for frame in sorted(set(frames[1:])):
            points = self.vertices(frame)
            low, high = np.minimum(low, points.min(0)), np.maximum(high, points.max(0))
            if points.shape == first.shape:
                motion = max(motion, float(np.linalg.norm(points - first, axis=1).max()))
        side = float((high - low).max())
        if not np.isfinite(side) or side <= 0.0:
            raise UserError(f"its bounding box has the size {side}: nothing can be rendered")
        scale = longest_side / side
        centre = Matrix.Translation([float(-c * scale) for c in 0.5 * (low + high)])
        self._root.matrix_world = centre @ Matrix.Scale(scale, 4)
        return motion / side

    def is_cyclic(self, length: int) -> bool:
        """Whether the chosen animation ends in the pose where it begins, to 2 % of its size."""
        first, last = self.vertices(0), self.vertices(length - 1)
        size = float(np.ptp(first, axis=0).max())
        return first.shape == last.shape and float(np.linalg.norm(first - last, axis=1).max()) < 0.02 * size

    def render(self, frames: list[int], views: list[View]) -> dict[View, list[np.ndarray]]:
        """Render every view of every frame; straight-alpha uint8 RGBA ``[H, W, 4]``, by view.

        The scene is evaluated once a frame, and all views of it are rendered then.
        """
        images: dict[View, list[np.ndarray]] = {view: [] for view in views}
        render = bpy.context.scene.render
        memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
        with tempfile.TemporaryDirectory(dir=memory) as folder, quiet():
            render.filepath = str(Path(folder) / "view.png")
            for frame in frames:
                bpy.context.scene.frame_set(frame)
                for view in views:
                    self._camera.matrix_world = Matrix(blender_camera(view))
                    bpy.ops.render.render(write_still=True)
                    images[view].append(np.asarray(Image.open(render.filepath)))
        return images
