"""One GLB in Blender: import, choose an animation, normalise, render the images of a clip. Needs Blender."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import bpy
import numpy as np
from mathutils import Matrix
from PIL import Image

from blender_scripts.clips import SCENE_FPS, encode
from blender_scripts.rig import View, in_blender
from blender_scripts.studio import Rig, quiet, setup_render
from core.errors import UserError


def _is_helper(obj: bpy.types.Object, bone_shapes: set[bpy.types.Object]) -> bool:
    """Whether a mesh was added by the importer or is hidden in the file; such meshes are not rendered."""
    imported_aside = any(collection.name.startswith("glTF_not_exported") for collection in obj.users_collection)
    return imported_aside or obj in bone_shapes or obj.hide_render or obj.hide_viewport or obj.hide_get()


def _corners(mesh: bpy.types.Mesh) -> np.ndarray:
    """Indices ``[M, 3]`` of the corners of a mesh's triangles."""
    corners = np.empty(len(mesh.loop_triangles) * 3, dtype=np.int32)
    mesh.loop_triangles.foreach_get("vertices", corners)
    return corners.reshape(-1, 3)


class ClipScene:
    """One GLB in Blender, ready to render.

    Args:
        path: a .glb or .gltf file.
        resolution: width and height of the images in pixels.
        samples: Cycles samples a pixel.
        filter_width: pixel filter in pixels.
        device: ``auto``, ``cpu`` or ``gpu``.
        threads: Cycles threads; 0 takes all cores.
        lights: ``published`` or ``soft``, see `blender_scripts.rig.LIGHTS`.

    Raises:
        UserError: the file cannot be imported, has no visible mesh, or the GPU asked for does not exist.
    """

    def __init__(
        self,
        path: Path,
        resolution: int,
        samples: int,
        filter_width: float,
        device: str = "auto",
        threads: int = 0,
        lights: str = "soft",
    ) -> None:
        with quiet():
            bpy.ops.wm.read_factory_settings(use_empty=True)
            self.device = setup_render(resolution, samples, filter_width, device, threads)
            bpy.context.scene.render.fps = SCENE_FPS  # key times are seconds; the importer needs the rate
            gltf = bpy.context.preferences.addons["io_scene_gltf2"].preferences
            if not gltf.animation_ui:
                gltf.animation_ui = True  # makes the importer list the animations in file order
            try:
                bpy.ops.import_scene.gltf(filepath=str(path), merge_vertices=True)
            except RuntimeError as error:  # the last line of an operator's message is the cause
                raise UserError(f"{path}: not a readable glTF file ({str(error).strip().splitlines()[-1]})") from error
        objects = list(bpy.context.view_layer.objects)  # those of the file's default scene
        bones = [bone for obj in objects if obj.pose for bone in obj.pose.bones]
        bone_shapes = {bone.custom_shape for bone in bones if bone.custom_shape}
        for obj in objects:
            obj.hide_render = obj.type == "LIGHT" or _is_helper(obj, bone_shapes)
        self._meshes = [obj for obj in objects if obj.type == "MESH" and not obj.hide_render]
        if not any(obj.data.polygons for obj in self._meshes):
            raise UserError(f"{path}: holds no visible mesh; there is nothing to render")
        self._root = bpy.data.objects.new("normalised", None)
        for obj in objects:
            if obj.parent is None:
                obj.parent = self._root
        bpy.context.scene.collection.objects.link(self._root)
        self.rig = Rig(lights)
        self._animated = self._find_animated()
        self._rest = [(item, item.matrix_basis.copy()) for item in (*objects, *bones)]
        for key in (key for keys in bpy.data.shape_keys for key in keys.key_blocks):
            key.slider_min, key.slider_max = -10.0, 10.0  # glTF weights are unbounded, Blender clamps to [0, 1]
        self._shapes = [(key, key.value) for keys in bpy.data.shape_keys for key in keys.key_blocks]
        self._normal, self._motion = Matrix.Identity(4), None
        self.lengths = self._find_lengths()

    @staticmethod
    def _find_animated() -> list[bpy.types.ID]:
        owners = [*bpy.data.objects, *bpy.data.shape_keys]
        owners += [material.node_tree for material in bpy.data.materials if material.node_tree]
        return [owner for owner in owners if owner.animation_data and owner.animation_data.nla_tracks]

    def _strips(self, name: str) -> Iterator[tuple[bpy.types.ID, bpy.types.NlaStrip]]:
        """Strips of an animation: the importer stores it as one NLA track of that name per animated object."""
        for owner in self._animated:
            for track in owner.animation_data.nla_tracks:
                if track.name == name and track.strips:
                    yield owner, track.strips[0]

    def _find_lengths(self) -> dict[int, int]:
        """Number of scene frames of every animation, by its index in the file; empty for a static object."""
        self._names = [track.name for track in bpy.data.scenes[0].gltf2_animation_tracks]
        lengths = {}
        for index, name in enumerate(self._names):
            ends = [strip.action.frame_range[1] for _, strip in self._strips(name)]
            if ends:
                lengths[index] = int(np.floor(max(ends) + 1e-3)) + 1
        return lengths

    def play(self, animation: int) -> None:
        """Select an animation by index; objects that it does not animate return to their rest pose."""
        for owner in self._animated:
            owner.animation_data.action = None
            for track in owner.animation_data.nla_tracks:
                track.mute = True
        for item, basis in self._rest:
            item.matrix_basis = basis
        for key, value in self._shapes:
            key.value = value
        for owner, strip in self._strips(self._names[animation]):
            owner.animation_data.action = strip.action
            owner.animation_data.action_slot = strip.action_slot

    def move_rigidly(self, motion: Callable[[int], np.ndarray]) -> None:
        """Move a static object rigidly.

        Args:
            motion: frame -> pose ``[4, 4]`` in the y-up world of the centred object of unit size.
        """
        self._motion = None
        self.normalise([0], 1.0)
        normal = self._normal
        self._motion = lambda frame: Matrix(in_blender(motion(frame))) @ normal

    def _show(self, frame: int) -> None:
        """Evaluate the scene at a frame."""
        self._root.matrix_world = self._normal @ (self._motion(frame) if self._motion else Matrix.Identity(4))
        bpy.context.scene.frame_set(frame)

    def vertices(self, frame: int) -> np.ndarray:
        """World positions ``[N, 3]`` of all visible vertices at a scene frame, in Blender's axes."""
        return np.concatenate([points for points, _ in self._evaluated(frame)])

    def triangles(self, frame: int) -> np.ndarray:
        """Corners ``[M, 3, 3]`` of all visible triangles at a scene frame, in Blender's axes."""
        return np.concatenate([points[_corners(mesh)] for points, mesh in self._evaluated(frame)])

    def _evaluated(self, frame: int) -> Iterator[tuple[np.ndarray, bpy.types.Mesh]]:
        """World positions of the vertices of every visible mesh at a scene frame, and the mesh."""
        with quiet():
            self._show(frame)
        depsgraph = bpy.context.evaluated_depsgraph_get()
        for obj in self._meshes:
            evaluated = obj.evaluated_get(depsgraph)
            points = np.empty(len(evaluated.data.vertices) * 3, dtype=np.float32)
            evaluated.data.vertices.foreach_get("co", points)
            matrix = np.array(evaluated.matrix_world)
            yield points.reshape(-1, 3) @ matrix[:3, :3].T + matrix[:3, 3], evaluated.data

    def normalise(self, frames: list[int], longest_side: float) -> float:
        """Scale and centre so that the bounding box over ``frames`` is centred and has the longest side given.

        Returns:
            largest distance of a vertex from its position in the first frame, over the longest side.

        Raises:
            UserError: the bounding box is empty or not finite.
        """
        self._normal = Matrix.Identity(4)
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
        self._normal = centre @ Matrix.Scale(scale, 4)
        return motion / side

    def is_cyclic(self, length: int) -> bool:
        """Whether the animation's last pose equals its first one to 2 % of the object's size."""
        first, last = self.vertices(0), self.vertices(length - 1)
        size = float(np.ptp(first, axis=0).max())
        return first.shape == last.shape and float(np.linalg.norm(first - last, axis=1).max()) < 0.02 * size

    def render(self, jobs: dict[int, list[View]]) -> dict[tuple[View, int], tuple[bytes, bytes]]:
        """Render views of frames and encode them.

        The scene is evaluated once per frame, for all its views.

        Args:
            jobs: frame -> views to render.

        Returns:
            (view, frame) -> JPEG and PNG bytes, see `blender_scripts.clips.encode`.
        """
        images: dict[tuple[View, int], tuple[bytes, bytes]] = {}
        render = bpy.context.scene.render
        memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
        with tempfile.TemporaryDirectory(dir=memory) as folder, quiet():
            render.filepath = str(Path(folder) / "view.png")
            for frame, views in sorted(jobs.items()):
                self._show(frame)
                for view in views:
                    self.rig.look(view)
                    bpy.ops.render.render(write_still=True)
                    images[view, frame] = encode(np.asarray(Image.open(render.filepath)))
        return images
