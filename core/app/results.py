"""What a run is asked for, and what it leaves: the command line, and the files that the page shows."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from core.app.runs import NAME, zip_results
from core.errors import UserError
from core.media import read_video
from core.options.side_views import ViewGenerator
from core.places import find

PUBLISHED = ("pretrained/recon.safetensors", "pretrained/interp.safetensors")
GENERATORS = get_args(ViewGenerator)
CHECKPOINTS = {"nano (shipped)": ("nano",), "L4GM, published": ("big", "--resume", PUBLISHED[0])}
SHOWN_FRAMES = 3
MAX_PROMPT = 300
_PLAYER = (
    '<iframe src="{source}" sandbox="allow-scripts" title="4D player" '
    'style="width:100%;height:560px;border:0"></iframe>'
)


def checkpoints() -> list[str]:
    """Names of the checkpoints that are there."""
    return [name for name in CHECKPOINTS if name.startswith("nano") or find(PUBLISHED[0]).is_file()]


def command(source: Path | None, prompt: str, checkpoint: str, generator: str) -> list[str]:
    """Arguments of ``l4gm``: a video or picture becomes 4D, a text 3D. Values cannot be taken for options.

    Raises:
        UserError: neither or both are given, or a choice does not exist.
    """
    if (source is None) == (not prompt.strip()):
        raise UserError("give either a video or picture, or a prompt")
    if len(prompt) > MAX_PROMPT or not prompt.strip().isprintable():
        raise UserError(f"a prompt is one line of at most {MAX_PROMPT} characters")
    if checkpoint not in checkpoints() or generator not in GENERATORS:
        raise UserError("there is no such checkpoint or view generator; reload the page")
    preset, *options = CHECKPOINTS[checkpoint]
    if options:
        options[-1] = str(find(options[-1]).absolute())
        if source and find(PUBLISHED[1]).is_file():
            options += ["--interpresume", str(find(PUBLISHED[1]).absolute())]
    program, given = ("infer-4d", f"--test_path={source}") if source else ("infer-3d", f"--prompt={prompt.strip()}")
    return [program, preset, *options, given, "--workspace=results", f"--view_generator={generator}"]


def preview(path: Path) -> list[Tensor]:
    """First, middle and last frame ``[3, H, W]`` of an input."""
    video = read_video(path)
    indices = sorted({round(index) for index in torch.linspace(0, video.num_frames - 1, SHOWN_FRAMES).tolist()})
    return list(video.frames(indices))


@dataclass(frozen=True)
class Shown:
    """Files of a finished run that the page shows; None where there is none.

    Attributes:
        player: the page that plays the clip.
        turntable: video.
        fixed: video from four sides.
        sheet: picture of input and result.
        archive: everything as .zip.
    """

    player: Path | None
    turntable: Path | None
    fixed: Path | None
    sheet: Path | None
    archive: Path


def collect(folder: Path) -> Shown:
    """Find the results of a run and pack them.

    Raises:
        UserError: the archive cannot be written.
    """
    results = folder / "results"

    def first(*patterns: str) -> Path | None:
        return next((path for pattern in patterns for path in sorted(results.glob(pattern))), None)

    return Shown(
        first(f"{NAME}.html"),
        first(f"w_interp_{NAME}.mp4", f"wo_interp_{NAME}.mp4", "*.mp4"),
        first(f"w_interp_{NAME}_fixed.mp4", f"wo_interp_{NAME}_fixed.mp4"),
        first("*_contact_sheet.png", "*_000.png"),
        zip_results(results, folder / "results.zip"),
    )


def player_frame(run: str) -> str:
    """HTML that shows a run's player, without access to this page."""
    return _PLAYER.format(source=escape(f"/runs/{run}/player"))
