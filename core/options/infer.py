"""Options of inference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from core.options.checks import within

ExportFormat = Literal["html", "packed", "compressed-ply", "sog", "spz", "glb", "4dgs", "usd"]


@dataclass(frozen=True)
class InferOptions:
    """Videos in, files out."""

    test_path: str | None = None
    """Videos or pictures: file, folder or pattern."""
    interpresume: str | None = None
    """Checkpoint of the interpolation model; None: no interpolation."""
    output_size: int = 512
    """Side of the turntables, pixels."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Of the weights. auto: fp16 on a GPU, on a CPU bf16 where fast, else fp32."""
    orientation: Literal["viewer", "world"] = "viewer"
    """Axes of the .ply files. viewer: upright in common viewers; world: y up."""
    ply_layout: Literal["standard", "full", "rgb"] = "standard"
    """full: all 62 properties; rgb: colour bytes."""
    export: tuple[ExportFormat, ...] = ("html",)
    """Beside the .ply files. html: a page that plays; packed: one small file."""
    interpolate_rate: int = 3
    """Steps from one frame to the next."""
    interp_batch: int = 4
    """Frame pairs interpolated at once."""
    chunk_workers: int = 1
    """Chunks at once on a CPU, with --chunk_side_views first; memory grows with them."""

    def __post_init__(self) -> None:
        within(self, 16, 4096, "output_size")
        within(self, 1, 64, "interpolate_rate")
        within(self, 1, 256, "interp_batch", "chunk_workers")
