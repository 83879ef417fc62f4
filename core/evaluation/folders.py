"""Images in folders: ground truth of other data sets, predictions of other systems.

    HOME/OBJECT/VIEW/FRAME.png       RGBA, or RGB on the protocol's background; frames in the order of their names

VIEW is the azimuth in degrees, relative to the input video: ``0`` is that video, ``90``, ``180`` and ``270`` are the
side views of frame 0, ``-75`` is a compared camera. Random cameras of clips are called ``random_00`` and so on.
OBJECT is the object's name without .tar, any / in it replaced by -.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from core.cameras import orbit_cameras
from core.errors import UserError
from core.evaluation.ground_truth import SIDE_AZIMUTHS, GroundTruth, Prediction, file_name
from core.evaluation.protocol import Protocol
from core.files import atomic_path, read_text
from core.images import open_image, resize_area, to_uint8
from core.options import CameraOptions

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
WHITE = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class FolderSource:
    """The objects of a protocol as folders of images; arguments as of `ClipSource`."""

    protocol: Protocol
    home: Path
    camera: CameraOptions
    size: int
    input_size: int

    def names(self) -> list[str]:
        """Objects: those of the protocol, of its list, or all folders in the order of their names.

        Raises:
            UserError: the list is missing, or there are no folders.
        """
        if self.protocol.objects:
            return list(self.protocol.objects)
        if self.protocol.list:
            return read_text(self.protocol.list, f"the list of the protocol {self.protocol.name}").split()
        found = sorted(path.name for path in self.home.iterdir() if path.is_dir() and not path.name.startswith("."))
        if not found:
            raise UserError(f"{self.home} holds no folders; it should hold OBJECT/VIEW/FRAME.png")
        return found

    def load(self, name: str) -> GroundTruth:
        """Read one object.

        Raises:
            UserError: a folder or a frame is missing, or an image cannot be used.
        """
        protocol, home = self.protocol, self.home / file_name(name)
        order = protocol.frame_numbers()
        frames = sorted(set(order))
        front = read_view(home / "0", self.input_size, WHITE)[0]
        views = tuple(f"{azimuth:g}" for azimuth in protocol.azimuths)
        images, alpha = read_views(home, views, self.size, protocol.background)
        for view, count in (("0", len(front)), *((view, len(images)) for view in views)):
            if count <= frames[-1]:
                raise UserError(f"{home / view} has {count} frames, protocol {protocol.name} asks for {frames[-1] + 1}")
        cameras = orbit_cameras(
            torch.tensor(protocol.azimuths, dtype=torch.float32),
            protocol.elevation,
            radius=self.camera.cam_radius,
            fovy=self.camera.fovy,
            size=(self.size, self.size),
        )
        sides = None
        if protocol.side_views == "first":
            names = (f"{azimuth:g}" for azimuth in SIDE_AZIMUTHS)
            sides = torch.stack([read_view(home / view, self.input_size, WHITE)[0][0] for view in names])
        return GroundTruth(
            name=name,
            front=front[order],
            cameras=cameras.expand(len(order), len(views)),
            images=images[order],
            alpha=None if alpha is None else alpha[order],
            views=views,
            frames=tuple(order),
            first_sides=sides,
        )


def read_prediction(home: Path, ground_truth: GroundTruth, background: Sequence[float]) -> Prediction:
    """Another system's images of an object.

    Raises:
        UserError: a view is missing, or its number of frames differs from the ground truth.
    """
    folder = home / file_name(ground_truth.name)
    images, alpha = read_views(folder, ground_truth.views, ground_truth.images.shape[-1], background)
    if len(images) != len(ground_truth.frames):
        raise UserError(f"{folder} has {len(images)} frames a view, the ground truth has {len(ground_truth.frames)}")
    return Prediction(images, alpha)


def save_prediction(prediction: Prediction, ground_truth: GroundTruth, home: Path, background: Sequence[float]) -> None:
    """Write what `read_prediction` reads: RGBA with straight alpha where there is an alpha, otherwise RGB."""
    images, alpha = prediction.images, prediction.alpha
    if alpha is not None:
        color = images.new_tensor(background)[:, None, None]
        images = ((images - (1 - alpha) * color) / alpha.clamp_min(1e-3)).clamp(0, 1)
        images = torch.cat([images, alpha], dim=-3)
    for v, view in enumerate(ground_truth.views):
        for t, pixels in enumerate(to_uint8(images[:, v])):
            with atomic_path(home / file_name(ground_truth.name) / view / f"{t:03d}.png") as path:
                Image.fromarray(pixels).save(path)


def read_views(
    home: Path, views: Sequence[str], size: int, background: Sequence[float]
) -> tuple[Tensor, Tensor | None]:
    """Images ``[T, V, 3, S, S]`` on a background, and their alpha where all have one.

    Raises:
        UserError: a view is missing, an image cannot be used, or views differ in their number of frames.
    """
    found = [read_view(home / view, size, background) for view in views]
    lengths = {view: len(images) for view, (images, _) in zip(views, found, strict=True)}
    if len(set(lengths.values())) > 1:
        raise UserError(f"the views of {home} differ in their number of frames: {lengths}")
    images, alphas = zip(*found, strict=True)
    alpha = None if any(alpha is None for alpha in alphas) else torch.stack(alphas, dim=1)
    return torch.stack(images, dim=1), alpha


def read_view(folder: Path, size: int, background: Sequence[float]) -> tuple[Tensor, Tensor | None]:
    """All images of a folder in the order of their names: ``[T, 3, S, S]`` on a background, and their alpha if any.

    Raises:
        UserError: the folder or its images are missing, or one cannot be read or is not square.
    """
    paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise UserError(f"there are no images in {folder}; a view is a folder of frames, 000.png and so on")
    layers = [_read(path) for path in paths]
    if any(len(layer) == 3 for layer in layers):
        images = torch.stack([resize_area(layer[:3], (size, size)) for layer in layers])
        if any(len(layer) == 4 for layer in layers):
            raise UserError(f"some images in {folder} have an alpha channel and some have none; make them alike")
        return images, None
    color = torch.tensor(background)[:, None, None]
    on_color = [layer[3:] * layer[:3] + (1 - layer[3:]) * color for layer in layers]
    return tuple(
        torch.stack([resize_area(x, (size, size)) for x in part]) for part in (on_color, [x[3:] for x in layers])
    )


def _read(path: Path) -> Tensor:
    """``[3 or 4, S, S]`` in [0, 1]."""
    pixels = np.array(open_image(path))
    if pixels.shape[0] != pixels.shape[1]:
        raise UserError(f"{path} has {pixels.shape[1]} x {pixels.shape[0]} pixels; compared images must be square")
    return rearrange(torch.from_numpy(pixels), "h w c -> c h w").float() / 255
