"""Pictures with lens distortion, as nerfstudio and DL3DV have them, to pinhole pictures in LaCT's format.

    python -m core.nvs.undistort scenes/a/transforms.json converted/a
    python -m core.nvs.undistort DL3DV-10K/1K converted     # every transforms.json below a folder, and a list of them

Per scene it writes ``images_undistort/`` and ``opencv_cameras.json``; for a folder also the list
``dl3dv_sample_data_path.json``, which ``infer_nvs.py`` and ``train_nvs.py`` take. Portrait scenes of a folder are left
out, as published. Pictures are read from ``images_4`` or ``images_8`` where those are there (DL3DV), at whatever size.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from PIL import Image

from core.cameras import flip_opengl_opencv
from core.cli import run
from core.errors import UserError, reason
from core.files import atomic_path, read_json
from core.images import open_image
from core.nvs.scenes import nerfstudio_intrinsics, read_scene

_log = logging.getLogger(__name__)

LIST_FILE = "dl3dv_sample_data_path.json"
# DL3DV's world (from COLMAP by nerfstudio) turned back: rows 0 and 1 swapped, row 2 negated.
_WORLD = np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1]], np.float64)


@dataclass(frozen=True)
class UndistortOptions:
    """What to convert, and where to."""

    source: Annotated[Path, tyro.conf.Positional]
    """A transforms.json, or a folder with such files below it."""
    out: Annotated[Path, tyro.conf.Positional]
    """Folder for the result."""


def main(arguments: list[str] | None = None) -> None:
    """Parse, convert."""
    options = tyro.cli(UndistortOptions, description=__doc__, args=arguments)
    if options.source.is_dir():
        convert_folder(options.source, options.out)
    else:
        _log.info("wrote %s", convert_scene(options.source, options.out))


def convert_folder(source: Path, out: Path) -> Path:
    """Every scene below a folder that is no portrait; returns the list of their files.

    Raises:
        UserError: there is none, or one cannot be read.
    """
    files = sorted(source.rglob("transforms.json"))
    written = []
    for file in files:
        table = read_json(file, "scene")
        if _is_portrait(table):
            _log.info("%s is left out: it is a portrait", file)
            continue
        written.append(convert_scene(file, out / file.parent.relative_to(source)))
    if not written:
        raise UserError(f"{source} has no transforms.json of a landscape scene below it; check the folder")
    with atomic_path(out / LIST_FILE) as path:
        path.write_text(json.dumps([file.relative_to(out).as_posix() for file in written], indent=1))
    return out / LIST_FILE


def convert_scene(source: Path, out: Path) -> Path:
    """One scene; returns its ``opencv_cameras.json``.

    Raises:
        UserError: OpenCV is missing, or the file or a picture cannot be read.
    """
    cv2, table = _opencv(), read_json(source, "scene")
    frames = table.get("frames")
    if not isinstance(frames, list) or not frames:
        raise UserError(f"cannot read {source}: it has no frames; give a transforms.json of nerfstudio")
    (out / "images_undistort").mkdir(parents=True, exist_ok=True)
    cameras = []
    for number, frame in enumerate(frames):
        try:
            cameras.append(_convert_view(cv2, {**table, **frame}, source.parent, out, number))
        except (KeyError, OverflowError, TypeError, ValueError, cv2.error) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else reason(error)
            raise UserError(f"cannot read {source}: frame {number}: {what}") from error
    with atomic_path(out / "opencv_cameras.json") as path:
        path.write_text(json.dumps(cameras, indent=1))
    read_scene(out / "opencv_cameras.json")  # raises where a camera cannot be
    return out / "opencv_cameras.json"


def _convert_view(cv2: ModuleType, values: Mapping[str, Any], folder: Path, out: Path, number: int) -> dict[str, Any]:
    if "FISHEYE" in str(values.get("camera_model", "")):
        raise ValueError("its lens is a fisheye; undistort it with COLMAP's image_undistorter")
    picture = np.array(open_image(_picture(folder, str(values["file_path"]))).convert("RGB"))
    height, width = picture.shape[:2]
    size, intrinsics = nerfstudio_intrinsics(values)
    intrinsics = intrinsics * np.array([[width / size[0]], [height / size[1]], [1]])
    lens = np.array([float(values.get(name) or 0) for name in ("k1", "k2", "p1", "p2", "k3")])
    if not (np.isfinite(lens).all() and np.isfinite(intrinsics).all() and (np.diag(intrinsics) > 0).all()):
        raise ValueError("its lens or its focal length is NaN, infinite or not positive")
    if float(values.get("k4") or 0):
        raise ValueError("its lens has k4, which is not known here; undistort it with COLMAP's image_undistorter")
    # alpha 0: only pixels that the lens has seen. OpenCV's pixel centres are whole numbers, ours lie at +0.5.
    half = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    new, _ = cv2.getOptimalNewCameraMatrix(intrinsics - half, lens, (width, height), 0)
    straight = cv2.undistort(picture, intrinsics - half, lens, None, new)
    name = f"images_undistort/{number:05d}_{Path(str(values['file_path'])).stem}.png"
    with atomic_path(out / name) as path:
        Image.fromarray(straight).save(path)
    c2w = np.array(values["transform_matrix"], np.float64)
    if c2w.shape != (4, 4) or not np.isfinite(c2w).all():
        raise ValueError("its transform_matrix is no 4 x 4 matrix of finite numbers")
    pose = _WORLD @ flip_opengl_opencv(torch.from_numpy(c2w)).numpy()
    matrix = new + half
    return {
        **{"w": width, "h": height, "fx": matrix[0, 0], "fy": matrix[1, 1], "cx": matrix[0, 2], "cy": matrix[1, 2]},
        "w2c": np.linalg.inv(pose).tolist(),
        "file_path": name,
    }


def _is_portrait(table: Mapping[str, Any]) -> bool:
    try:
        return float(table.get("h", 0)) > float(table.get("w", 0))
    except (OverflowError, TypeError, ValueError):  # `convert_scene` says what is wrong
        return False


def _picture(folder: Path, name: str) -> Path:
    """The picture, or a smaller copy beside it: DL3DV has ``images_4`` (960P) or ``images_8`` (480P)."""
    smaller = (folder / name.replace("images/", f"{copies}/", 1) for copies in ("images_4", "images_8"))
    return next((path for path in smaller if path.exists()), folder / name)


def _opencv() -> ModuleType:
    try:
        import cv2
    except ImportError as error:
        raise UserError("undistortion needs OpenCV: pip install opencv-python-headless") from error
    return cv2


if __name__ == "__main__":
    run(main)
