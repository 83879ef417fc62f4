"""Options of the side views: where views 1, 2, ... come from, in training and inference (`core.data.side_views`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SideViews = Literal["first", "every", "previous"]
ChunkSideViews = Literal["previous", "first", "moved"]
InsertedSideViews = Literal["blend", "first"]
ViewGenerator = Literal["auto", "published", "files", "imagedream", "single-view"]


@dataclass(frozen=True)
class SideViewOptions:
    """Source of views 1..3, which a video does not show."""

    side_views: SideViews = "first"
    """Training: views 1..3 of later frames. first: those of the first frame, as published; every: ground truth;
    previous: renders of the network's own Gaussians of the frame before (autoregression)."""
    chunk_side_views: ChunkSideViews = "previous"
    """Side views of a chunk. previous: renders of the one before, as published. moved: the first frame's, moved."""
    inserted_side_views: InsertedSideViews = "blend"
    """Side views of inserted frames. blend: those of both neighbours, as published."""
    motion_resume: str = "pretrained/nano_motion.safetensors"
    """Motion network, for --chunk_side_views moved."""
    view_generator: ViewGenerator = "published"
    """published: image files, else ImageDream; auto: single-view where ImageDream is missing."""
    single_view_resume: str | None = "pretrained/nano_recon.safetensors"
    """Checkpoint (preset nano) that makes views from the front alone; None: the one of --resume can do so itself."""
