"""Preview pictures of a batch."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from einops import rearrange
from torch import Tensor

from core.images import contact_sheet, save_image
from core.media import write_video

_FPS = Fraction(8)  # the rate of reconstruction clips
_SHEET_FRAMES = 3  # the first, the middle and the last


def save_preview(workspace: Path, kind: str, when: str, targets: Tensor, images: Tensor) -> None:
    """Write two videos, views side by side and frames ordered time, then sample, and a contact sheet of both.

    ``<kind>_gt_images_<when>.mp4``, ``<kind>_pred_images_<when>.mp4`` and ``<kind>_sheet_<when>.png``; the sheet shows
    the first sample.

    Args:
        targets, images: ``[B,T,V,3,H,W]`` in [0, 1].
    """
    for what, pictures in (("gt", targets), ("pred", images)):
        frames = rearrange(pictures, "b t v c h w -> (t b) c h (v w)").clamp(0, 1).cpu()
        with write_video(workspace / f"{kind}_{what}_images_{when}.mp4", _FPS, tuple(frames.shape[-2:])) as writer:
            for frame in frames:
                writer.write(frame)
    last = targets.shape[1] - 1
    chosen = sorted({round(last * i / (_SHEET_FRAMES - 1)) for i in range(_SHEET_FRAMES)})
    rows = [list(pictures[0, t].clamp(0, 1)) for t in chosen for pictures in (targets, images)]
    captions = [f"frame {t}, {what}" for t in chosen for what in ("ground truth", "render")]
    save_image(contact_sheet(rows, captions), workspace / f"{kind}_sheet_{when}.png")
