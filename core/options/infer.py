"""Options of inference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Handover = Literal["last", "first"]


@dataclass(frozen=True)
class InferOptions:
    """Inference on videos."""

    test_path: str | None = None
    """A video, or a folder of videos."""
    interpresume: str | None = None
    """Checkpoint of the interpolation model; None switches interpolation off."""
    interpolate_rate: int = 3
    """Gaussian sets per interval of two video frames after interpolation."""
    handover: Handover = "last"
    """Side views of a chunk: 'last': renders of the chunk before it, as published; what they lack adds up from chunk to
    chunk. 'first': those of the first frame for good; what has turned since then is never seen from the side."""
    chunk_lanes: int = 1
    """Chunks that run at once on a CPU, where --handover first leaves none waiting; memory grows with them."""
    interp_batch: int = 4
    """Frame pairs that the interpolation model handles at once."""
    target_fps: float = 15.0
    """Video frames are skipped evenly until the rate is near this one; slower videos keep theirs."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Type of the network's weights; auto: fp16 on a GPU, on a CPU bf16 where it is fast, otherwise fp32."""
    orientation: Literal["viewer", "world"] = "viewer"
    """Axes of the PLY files: 'viewer' opens upright in common viewers, 'world' keeps y up."""
    ply_layout: Literal["standard", "full", "rgb"] = "standard"
    """Properties of the PLY files. standard: viewers; full: importers that want all 62; rgb: point cloud programs."""
