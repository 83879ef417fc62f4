"""Options of clips and samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from core.options.checks import at_least


@dataclass(frozen=True)
class DataOptions:
    """Which clips, and how a sample is made from one."""

    data_mode: Literal["3d", "4d", "4d_interp"] = "4d"
    """3d: single frames; 4d: reconstruction; 4d_interp: the interpolation model."""
    datalist: str = ""
    """Text file, one clip a line."""
    datalist_val: str = ""
    """List of validation clips; empty: the last batch_size groups of datalist, as published."""
    data_home: str = ""
    """Folder of the clip tars; empty: the environment variable DATA_HOME."""
    data_home_val: str = ""
    """Folder of the validation tars; empty: as data_home."""
    num_frames: int = 8
    """T, frames of one sample (training) or of one chunk (inference)."""
    num_views: int = 12
    """Views of one sample: the inputs and the further supervision views."""
    num_input_views: int = 4
    """V, views the network sees."""
    input_views: Literal["random", "orthogonal"] = "random"
    """Published: any four of the fixed ring. Orthogonal: 0, 90, 180, 270 degrees from a random first view."""
    shuffle_input: bool = True
    """Draw input and supervision views at random when training."""
    output_size: int = 256
    """Side of the rendered and supervised images in pixels."""
    num_workers: int = 16
    """Loader processes."""
    prob_grid_distortion: float = 0.5
    """Probability of grid distortion on input views 1..3."""
    prob_cam_jitter: float = 0.5
    """Probability of jittered rays on input views 1..3."""
    prob_view_dropout: float = 0.0
    """Probability that a sample has its front video alone (side views `none`): trains single-view reconstruction."""
    prob_mirror: float = 0.0
    """Probability that a training sample is mirrored; not published, makes a small collection larger."""
    prob_color_swap: float = 0.0
    """Probability that a training sample's colour channels are shuffled; not published, likewise."""
    frame_stride: int = 1
    """Largest step between a training sample's frames, drawn from 1 on: larger motions. Published: 1."""
    max_broken: float = 0.1
    """The run stops when more than this fraction of the clips turned out to be broken."""

    def __post_init__(self) -> None:
        at_least(self, 1, "frame_stride", "num_frames", "num_views", "num_input_views", "output_size")
        at_least(self, 0, "num_workers", "max_broken")
