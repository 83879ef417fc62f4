"""Scenes on disk: who took which picture from where.

| file                  | what it holds                                                                             |
|-----------------------|-------------------------------------------------------------------------------------------|
| ``opencv_cameras.json`` | LaCT's format: an array of {w, h, fx, fy, cx, cy, w2c, file_path}, OpenCV cameras         |
| ``transforms.json``   | nerfstudio's, also written from COLMAP: fl_x, ..., frames {file_path, transform_matrix}   |
| a JSON list           | an array of paths of such files, relative to the list                                     |
| a ``.txt`` list       | this project's clips, one a line, tars beside it; static views of one frame               |
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from core.cameras import Cameras, flip_opengl_opencv
from core.conventions import ORBIT_RADIUS
from core.data.clips import BrokenClip, Clip
from core.data.lists import read_groups
from core.errors import UserError, reason
from core.files import read_text
from core.images import open_image
from core.nvs.posed import PosedImages, check_cameras, cover, z_up
from core.places import find

_DISTORTION = ("k1", "k2", "k3", "k4", "p1", "p2")


class Scene(Protocol):
    """Views of one scene, read when they are asked for."""

    @property
    def name(self) -> str:
        """For messages and file names."""
        ...

    def __len__(self) -> int: ...

    def poses(self, views: Sequence[int]) -> Tensor:
        """Camera to world, float64 ``[v, 4, 4]``, of the first moment."""
        ...

    def load(self, views: Sequence[int], size: tuple[int, int], moment: float = 0.0) -> PosedImages:
        """Some views as images of ``size`` (height, width); moment: place in time, 0 to 1, where it moves."""
        ...


@dataclass(frozen=True)
class PictureScene:
    """Picture files with cameras.

    Attributes:
        path: the file that lists them.
        pictures: their files.
        c2w: float64 ``[v, 4, 4]``, OpenCV.
        intrinsics: ``[v, 3, 3]`` in pixels of ``sizes``.
        sizes: width and height of each view that the intrinsics are meant for.
    """

    path: Path
    pictures: tuple[Path, ...]
    c2w: np.ndarray
    intrinsics: np.ndarray
    sizes: np.ndarray

    @property
    def name(self) -> str:
        """The file."""
        return str(self.path)

    def __len__(self) -> int:
        return len(self.pictures)

    def poses(self, views: Sequence[int]) -> Tensor:
        """See `Scene.poses`."""
        return torch.from_numpy(self.c2w[list(views)])

    def load(self, views: Sequence[int], size: tuple[int, int], moment: float = 0.0) -> PosedImages:
        """See `Scene.load`. A picture of another size than its camera has is taken as the same view, scaled.

        Raises:
            UserError: a picture cannot be read, or its sides are in another proportion than the camera's.
        """
        images, intrinsics = zip(*(self._view(view, size) for view in views), strict=True)
        cameras = Cameras(self.poses(views), torch.from_numpy(np.stack(intrinsics)), size)
        return PosedImages(torch.stack(images), cameras)

    def _view(self, view: int, size: tuple[int, int]) -> tuple[Tensor, np.ndarray]:
        picture = open_image(self.pictures[view])
        factors = np.array(picture.size) / self.sizes[view]
        if abs(factors[0] - factors[1]) * max(self.sizes[view]) > 2:  # more than rounding to whole pixels
            raise UserError(
                f"image {self.pictures[view]} has {picture.width} x {picture.height} pixels, and its camera in "
                f"{self.path} {self.sizes[view][0]:g} x {self.sizes[view][1]:g}; the sides must be in one proportion"
            )
        return cover(picture, self.intrinsics[view] * np.array([*factors, 1.0])[:, None], size)


@dataclass(frozen=True)
class ClipScene:
    """The views of one frame of a clip, with cameras as LaCT has them: z up, radius 2.7."""

    home: Path
    name: str

    @cached_property
    def clip(self) -> Clip:
        """The tars, indexed."""
        try:
            return Clip(self.home, self.name)
        except BrokenClip as error:
            raise UserError(f"the clip {error} cannot be used; render it again or take it out of the list") from error

    def __len__(self) -> int:
        return len(self.clip.view_ids)

    def poses(self, views: Sequence[int]) -> Tensor:
        """See `Scene.poses`."""
        return self._cameras(views, 0, size=1).c2w

    def _cameras(self, views: Sequence[int], frame: int, size: int) -> Cameras:
        ids = [self.clip.view_ids[view] for view in views]
        cameras = self.clip.cameras(ids, [frame], size=size)[0]
        return replace(cameras, c2w=z_up(cameras.c2w, ORBIT_RADIUS))

    def load(self, views: Sequence[int], size: tuple[int, int], moment: float = 0.0) -> PosedImages:
        """See `Scene.load`; the images are square.

        Raises:
            UserError: an image cannot be decoded, or another than a square is asked for.
        """
        if size[0] != size[1]:
            raise UserError(f"clips have square images; --image_size {size[0]} {size[1]} is no square")
        ids = [self.clip.view_ids[view] for view in views]
        frame = min(int(moment * self.clip.num_frames), self.clip.num_frames - 1)
        try:
            images, _ = self.clip.read(ids, [frame], size[0])
        except BrokenClip as error:
            raise UserError(f"the clip {error} cannot be used; render it again or take it out of the list") from error
        return PosedImages(images[0], self._cameras(views, frame, size[0]))


def open_scenes(path: str | Path) -> list[Scene]:
    """All scenes that a file holds or lists; see the head of this file.

    Raises:
        UserError: the file is missing, of none of the formats, empty, or holds cameras that cannot be.
    """
    path = find(path)
    if path.suffix == ".txt":
        return [ClipScene(path.parent, line) for group in read_groups(str(path)) for line in group]
    content = _read_json(path)
    if isinstance(content, list) and content and all(isinstance(entry, str) for entry in content):
        return [read_scene(path.parent / entry) for entry in content]
    return [_parse_scene(path, content)]


def read_scene(path: Path) -> PictureScene:
    """An ``opencv_cameras.json`` or a ``transforms.json``; raises as `open_scenes`."""
    return _parse_scene(path, _read_json(path))


def _read_json(path: Path) -> Any:
    text = read_text(path, "the list of scenes")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"cannot read {path}: it is no JSON ({reason(error)}); write it again") from error


def _parse_scene(path: Path, content: Any) -> PictureScene:
    frames = content.get("frames") if isinstance(content, dict) else content
    if not isinstance(frames, list) or not frames or not all(isinstance(frame, dict) for frame in frames):
        raise UserError(f"cannot read {path}: it is no opencv_cameras.json, no transforms.json and no list of them")
    parse = _nerfstudio_view if isinstance(content, dict) else _opencv_view
    shared = content if isinstance(content, dict) else {}
    views = []
    for number, frame in enumerate(frames):
        try:
            views.append(parse(shared, frame, path.parent))
        except (KeyError, OverflowError, TypeError, ValueError) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else reason(error)
            raise UserError(f"cannot read {path}: view {number}: {what}") from error
    pictures, sizes, intrinsics, c2w = zip(*views, strict=True)
    scene = PictureScene(path, pictures, np.stack(c2w), np.stack(intrinsics), np.stack(sizes))
    cameras = Cameras(torch.from_numpy(scene.c2w), torch.from_numpy(scene.intrinsics), (1, 1))
    check_cameras(cameras, str(path))
    return scene


def _opencv_view(_: Mapping[str, Any], frame: Mapping[str, Any], folder: Path) -> tuple[Path, Any, Any, np.ndarray]:
    w2c = _matrix(frame["w2c"])
    if not np.isfinite(w2c).all() or abs(np.linalg.det(w2c)) < 1e-9:
        raise ValueError("w2c holds NaN or infinity, or cannot be inverted")
    size, intrinsics = _pinhole(*(frame[name] for name in ("w", "h", "fx", "fy", "cx", "cy")))
    return folder / frame["file_path"], size, intrinsics, np.linalg.inv(w2c)


def _nerfstudio_view(
    shared: Mapping[str, Any], frame: Mapping[str, Any], folder: Path
) -> tuple[Path, Any, Any, np.ndarray]:
    values = {**shared, **frame}
    if any(float(values.get(name) or 0) for name in _DISTORTION):
        raise ValueError(
            "it has lens distortion; undistort it first: python -m core.nvs.undistort TRANSFORMS.json OUT_FOLDER"
        )
    size, intrinsics = nerfstudio_intrinsics(values)
    picture = folder / frame["file_path"]
    if not picture.suffix:  # as the synthetic scenes of NeRF have it
        picture = picture.with_suffix(".png")
    return picture, size, intrinsics, flip_opengl_opencv(torch.from_numpy(_matrix(frame["transform_matrix"]))).numpy()


def nerfstudio_intrinsics(values: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Width and height, and intrinsics ``[3, 3]``, of a ``transforms.json``; raises KeyError, TypeError, ValueError."""
    width, height = values["w"], values["h"]
    if "fl_x" not in values:
        focal = 0.5 * float(width) / np.tan(0.5 * float(values["camera_angle_x"]))
        return _pinhole(width, height, focal, focal, width / 2, height / 2)
    fl_x = values["fl_x"]
    centre = (values.get("cx", width / 2), values.get("cy", height / 2))
    return _pinhole(width, height, fl_x, values.get("fl_y", fl_x), *centre)


def _pinhole(*numbers: Any) -> tuple[np.ndarray, np.ndarray]:
    width, height, fx, fy, cx, cy = (float(number) for number in numbers)
    if not (1 <= width < np.inf and 1 <= height < np.inf):
        raise ValueError(f"w and h are {width:g} and {height:g}")
    return np.array([width, height]), np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])


def _matrix(rows: Any) -> np.ndarray:
    matrix = np.array(rows, np.float64)
    if matrix.shape != (4, 4):
        raise ValueError(f"its matrix has shape {matrix.shape} and must be 4 x 4")
    return matrix
