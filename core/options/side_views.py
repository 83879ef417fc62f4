"""Options of the side views: where views 1, 2, ... come from, in training and inference (`core.data.side_views`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

SideViews = Literal["first", "every", "previous"]
ChunkSideViews = Literal["previous", "first"]
InsertedSideViews = Literal["blend", "first"]
ViewGenerator = Literal["auto", "files", "imagedream", "single-view"]


@dataclass(frozen=True)
class SideViewOptions:
    """Where views 1..3 come from, which a video does not show."""

    side_views: Annotated[SideViews, tyro.conf.arg(aliases=("--input-sides",))] = "first"
    """In training, views 1..3 of the later frames. Published: those of the first frame, repeated. every: each frame's
    ground truth. previous: autoregression, renders of the network's own Gaussians of the frame before."""
    chunk_side_views: Annotated[ChunkSideViews, tyro.conf.arg(aliases=("--handover",))] = "previous"
    """In inference, views 1..3 of a chunk. previous: renders of the chunk before, as published; errors accumulate over
    chunks. first: those of the first frame for good; what has turned since then is never seen from the side."""
    inserted_side_views: Annotated[InsertedSideViews, tyro.conf.arg(aliases=("--interp-sides",))] = "blend"
    """Views 1..3 of frames that an interpolation model inserts, in training and inference. blend: blends of those at
    the two ends, in inference renders, as published. first: those of the first frame for good, so that only the front
    video is blended; Gaussians at the video's own frames then stay those of the reconstruction model."""
    view_generator: Annotated[ViewGenerator, tyro.conf.arg(aliases=("--seeder",))] = "auto"
    """Who makes the first frame's side views. auto: image files if there, else ImageDream if its weights are, else the
    single-view model; it says why."""
    single_view_resume: str | None = "pretrained/nano_recon.safetensors"
    """Checkpoint (preset nano) that makes side views from the front alone, see --prob_view_dropout. None: the
    reconstruction model of --resume can do so itself."""
