"""One GLB in Blender: import it, choose an animation, normalise, take the pictures of a clip. Needs Blender."""

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
            self.device = setup_render(resolution, samples, filter_width, device, threads)
            bpy.context.scene.render.fps = SCENE_FPS  # key times are seconds; the importer needs the rate
            gltf = bpy.context.preferences.addons["io_scene_gltf2"].preferences
            if not gltf.animation_ui:
                gltf.animation_ui = True  # then the importer leaves a list of the animations in the order of the file
            try:
                bpy.ops.import_scene.gltf(filepath=str(path), merge_vertices=True)
            except RuntimeError as error:  # an operator raises nothing else; the last line of its text is the cause
                raise UserError(f"{path}: not a readable glTF file ({str(error).strip().splitlines()[-1]})") from error
        objects = list(bpy.context.view_layer.objects)  # without the scenes of the file that are not its default one
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
        self.rig = Rig()
        self._animated = self._find_animated()
        self._rest = [(item, item.matrix_basis.copy()) for item in (*objects, *bones)]
        for key in (key for keys in bpy.data.shape_keys for key in keys.key_blocks):
            key.slider_min, key.slider_max = -10.0, 10.0  # glTF's weights have no bounds, Blender's end at 0 and 1
        self._shapes = [(key, key.value) for keys in bpy.data.shape_keys for key in keys.key_blocks]
        self._normal, self._motion = Matrix.Identity(4), None
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
        for key, value in self._shapes:
            key.value = value
        for owner, strip in self._strips(self._names[animation]):
            owner.animation_data.action = strip.action
            owner.animation_data.action_slot = strip.action_slot

    def move_rigidly(self, motion: Callable[[int], np.ndarray]) -> None:
        """Let a static object move as a whole: frame -> pose ``[4, 4]`` in the y-up world, at unit size, centred."""
        self._motion = None
        self.normalise([0], 1.0)
        still = self._normal
        self._motion = lambda frame: Matrix(in_blender(motion(frame))) @ still

    def _show(self, frame: int) -> None:
        """Evaluate the scene at a frame."""
        self._root.matrix_world = self._normal @ (self._motion(frame) if self._motion else Matrix.Identity(4))
        bpy.context.scene.frame_set(frame)

    def vertices(self, frame: int) -> np.ndarray:
        """World positions ``[N, 3]`` of all visible vertices at a scene frame, in Blender's axes."""
        with quiet():
            self._show(frame)
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
        """Whether the chosen animation ends in the pose where it begins, to 2 % of its size."""
        first, last = self.vertices(0), self.vertices(length - 1)
        size = float(np.ptp(first, axis=0).max())
        return first.shape == last.shape and float(np.linalg.norm(first - last, axis=1).max()) < 0.02 * size

    def render(self, jobs: dict[int, list[View]]) -> dict[tuple[View, int], tuple[bytes, bytes]]:
        """Take the pictures of the views that are wanted at each frame; encoded, by view and frame.

        The scene is evaluated once a frame, and all views of it are rendered then.
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
