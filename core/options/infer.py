"""Options of inference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class InferOptions:
    """Inference on videos."""

    test_path: str | None = None
    """A video, or a folder of videos."""
    interpresume: str | None = None
    """Checkpoint of the interpolation model; None switches interpolation off."""
    interpolate_rate: int = 3
    """Gaussian sets per interval of two video frames after interpolation."""
    chunk_lanes: int = 1
    """Chunks that run at once on a CPU, where --chunk_side_views first leaves none waiting; memory grows with them."""
    interp_batch: int = 4
    """Frame pairs that the interpolation model handles at once."""
    target_fps: float = 15.0
    """Video frames are skipped evenly until the rate is near this one; slower videos keep theirs."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Type of the network's weights; auto: fp16 on a GPU, on a CPU bf16 where it is fast, otherwise fp32."""
    orientation: Literal["viewer", "world"] = "viewer"
    """Axes of the PLY files: 'viewer' opens upright in common viewers, 'world' keeps y up."""
