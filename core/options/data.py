"""Options of clips and samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from core.options.checks import within


@dataclass(frozen=True)
class DataOptions:
    """Which clips, and how a sample is made from one."""

    data_mode: Literal["3d", "4d", "4d_interp"] = "4d"
    """3d: single frames; 4d: reconstruction; 4d_interp: the interpolation model."""
    datalist: str = ""
    """Text file, one clip a line."""
    datalist_val: str = ""
    """List of validation clips; empty: the last batch_size groups of datalist."""
    data_home: str = ""
    """Folder of the clips; empty: the environment variable DATA_HOME."""
    data_home_val: str = ""
    """Folder of the validation clips; empty: as data_home."""
    num_frames: int = 8
    """T, frames seen at once."""
    num_views: int = 12
    """Views of one sample, inputs included."""
    num_input_views: int = 4
    """V, views the network sees."""
    input_views: Literal["random", "orthogonal"] = "random"
    """random: any of the ring, as published. orthogonal: 90 degrees apart from a random first one."""
    shuffle_input: bool = True
    """Draw input and supervision views at random when training."""
    output_size: int = 256
    """Side of the supervised images in pixels."""
    num_workers: int = 16
    """Loader processes."""
    prob_grid_distortion: float = 0.5
    """Probability of grid distortion on input views 1..3."""
    prob_cam_jitter: float = 0.5
    """Probability of jittered rays on input views 1..3."""
    prob_view_dropout: float = 0.0
    """Probability that a sample has its front video alone (side views `none`): trains single-view reconstruction."""
    prob_mirror: float = 0.0
    """Probability that a sample is mirrored; not published."""
    prob_color_swap: float = 0.0
    """Probability that a sample's colour channels are shuffled; not published."""
    frame_stride: int = 1
    """Largest step between a sample's frames, drawn from 1 on. Published: 1."""
    max_broken: float = 0.1
    """The run stops when more than this fraction of the clips is broken."""

    def __post_init__(self) -> None:
        within(self, 1, 1024, "frame_stride", "num_frames", "num_views", "num_input_views")
        within(self, 1, 2048, "output_size")
        within(self, 0, 1024, "num_workers")
        within(self, 0, 1, "prob_grid_distortion", "prob_cam_jitter", "prob_view_dropout", "prob_mirror")
        within(self, 0, 1, "prob_color_swap", "max_broken")
