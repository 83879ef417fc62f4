"""Finished sequences in the browser through viser: side by side, on one timeline, with the cameras of the input."""

from __future__ import annotations

import importlib.util
import logging
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch.nn.functional as F

from core.cameras import FOVY, input_cameras
from core.errors import UserError, reason
from core.export.sequences import GaussianSequence, name_of
from core.gaussians import Gaussians
from core.images import load_image, to_uint8

if TYPE_CHECKING:
    import viser

_log = logging.getLogger(__name__)
SPACING = 1.2  # between two sequences, world units
_MAX_FPS = 30  # of updates that are sent
_FRUSTUM, _LINES = 0.1, 0.004  # depth of a drawn camera and its lines, world units


class Viewer:
    """Sequences on a viser server. Each plays at its own rate; those that end start again.

    Args:
        server: to show them on.
        sequences: from left to right.

    Attributes:
        seconds: duration of the longest.
    """

    def __init__(self, server: viser.ViserServer, sequences: Sequence[GaussianSequence]) -> None:
        self.server, self.sequences = server, sequences
        self.seconds = max(float(len(sequence) / sequence.rate) for sequence in sequences)
        self.shown = [-1] * len(sequences)  # frame of each
        places = [(SPACING * (k - (len(sequences) - 1) / 2), 0.0, 0.0) for k in range(len(sequences))]
        server.scene.set_up_direction("+y")
        server.initial_camera.position = (0.0, 0.7, 0.6 + len(sequences) ** 0.8)
        server.initial_camera.look_at = (0.0, 0.0, 0.0)
        self.splats = [
            server.scene.add_gaussian_splats(f"/{k}", **_arrays(sequence[0]), position=place)
            for k, (sequence, place) in enumerate(zip(sequences, places, strict=True))
        ]
        for k, (sequence, (x, y, z)) in enumerate(zip(sequences, places, strict=True)):
            server.scene.add_label(f"/names/{k}", name_of(sequence), position=(x, y - 0.6, z))
        self._add_cameras(places)
        self._add_controls()
        self.show(0.0)

    def _add_cameras(self, places: Sequence[tuple[float, float, float]]) -> None:
        import viser.transforms

        self.cameras = []
        poses = input_cameras().c2w.numpy().astype(np.float64)
        for k, (sequence, place) in enumerate(zip(self.sequences, places, strict=True)):
            for view, pose in enumerate(poses):
                frustum = self.server.scene.add_camera_frustum(
                    f"/cameras/{k}/{view}",
                    fov=np.deg2rad(FOVY),
                    aspect=1.0,
                    scale=_FRUSTUM,
                    thickness=_LINES,
                    image=_side_view(sequence.path, name_of(sequence), view),
                    wxyz=viser.transforms.SO3.from_matrix(pose[:3, :3]).wxyz,
                    position=pose[:3, 3] + place,
                )
                self.cameras.append(frustum)

    def _add_controls(self) -> None:
        gui = self.server.gui
        self.playing = gui.add_checkbox("play", len(self.sequences) > 0 and self.seconds > 0)
        self.time = gui.add_slider("time, s", min=0.0, max=round(self.seconds, 3), step=0.001, initial_value=0.0)
        self.speed = gui.add_slider("speed", min=0.1, max=2.0, step=0.1, initial_value=1.0)
        cameras = gui.add_checkbox("input cameras", True)
        self.time.on_update(lambda _: self.show(self.time.value))

        @cameras.on_update
        def _(_: object) -> None:
            for frustum in self.cameras:
                frustum.visible = cameras.value

    def show(self, seconds: float) -> None:
        """Show every sequence at a time."""
        for k, (sequence, splats) in enumerate(zip(self.sequences, self.splats, strict=True)):
            index = int(seconds * float(sequence.rate) + 1e-6) % len(sequence)
            if index != self.shown[k]:
                splats.set_gaussians(**_arrays(sequence[index]))
                self.shown[k] = index

    def play(self, seconds: float) -> None:
        """Let time pass, if play is on."""
        if self.playing.value:
            self.time.value = (self.time.value + seconds * self.speed.value) % self.seconds


def serve(sequences: Sequence[GaussianSequence], host: str, port: int) -> None:
    """Show sequences until Ctrl-C.

    Raises:
        UserError: viser is not installed, the address cannot be listened on, a frame cannot be read.
    """
    viewer = Viewer(start_server(host, port), sequences)
    last = time.monotonic()
    while True:
        time.sleep(1 / _MAX_FPS)
        now = time.monotonic()
        viewer.play(now - last)
        last = now


def start_server(host: str, port: int) -> viser.ViserServer:
    """A viser server, whose address is logged; raises as `serve`."""
    if importlib.util.find_spec("viser") is None:
        raise UserError("the viewer needs viser, which is not installed: pip install -e '.[viewer]' -c constraints.txt")
    import viser

    logging.getLogger("websockets").setLevel(logging.WARNING)  # it reports every connection
    try:  # viser waits for ever where it cannot listen
        with socket.create_server((host, port)):
            pass
    except (OSError, OverflowError) as error:
        raise UserError(f"cannot listen on {host}, port {port}: {reason(error)}; choose another --port") from error
    server = viser.ViserServer(host=host, port=port, label="L4GM", verbose=False)
    _log.info("open http://%s:%d in a browser; Ctrl-C ends", server.get_host(), server.get_port())
    return server


def _arrays(gaussians: Gaussians) -> dict[str, np.ndarray]:
    """What viser takes: centres, covariances, colours and opacities."""
    w, x, y, z = F.normalize(gaussians.quats, dim=-1).numpy().T
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    ).transpose(2, 0, 1)
    axes = rotation * gaussians.scales.numpy()[:, None]
    return {
        "centers": gaussians.means.numpy(),
        "covariances": (axes @ axes.transpose(0, 2, 1)).astype(np.float32),
        "rgbs": gaussians.colors.clamp(0, 1).numpy(),
        "opacities": gaussians.opacities[:, None].numpy(),
    }


def _side_view(path: Path, name: str, view: int) -> np.ndarray | None:
    """The view of frame 0 that infer_4d left beside a sequence."""
    try:
        return to_uint8(load_image(path.parent / f"{name}_{view:03d}.png"))
    except UserError:
        return None
