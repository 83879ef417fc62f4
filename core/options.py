"""Typed options in sections, and the presets. No torch in here.

Command lines are flat: ``python main.py big --lr 1e-4 --num_frames 8``. Every option's name is therefore unique over
all sections (a test holds this). A module receives its own section only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from core.errors import UserError


def _at_least(options: object, least: float, *names: str) -> None:
    """Raise UserError for the first of these options that is smaller."""
    for name in names:
        if not getattr(options, name) >= least:
            raise UserError(f"--{name} is {getattr(options, name)} and must be at least {least}")


@dataclass(frozen=True)
class ModelOptions:
    """The asymmetric U-Net and how its 14 channels become Gaussians."""

    input_size: int = 256
    """Side of the square input images in pixels. The network is convolutional: other sizes work if they divide."""
    down_channels: tuple[int, ...] = (64, 128, 256, 512, 1024, 1024)
    """Encoder widths; the resolution halves between levels."""
    down_attention: tuple[bool, ...] = (False, False, False, True, True, True)
    """Which encoder levels attend across views and time."""
    mid_attention: bool = True
    """Attention in the middle block."""
    up_channels: tuple[int, ...] = (1024, 1024, 512, 256)
    """Decoder widths; number i must equal encoder width (last - i)."""
    up_attention: tuple[bool, ...] = (True, True, True, False)
    """Which decoder levels attend; values beyond the last level are ignored, as published."""
    splat_size: int = 64
    """Side of the Gaussian grid of one view; must equal what the network's levels give."""
    gaussian_perpixel: int = 1
    """Gaussians per output pixel."""
    use_temp_attn: bool = True
    """Temporal attention after every view attention; off gives LGM's tensors."""
    num_heads: int = 16
    """Attention heads at every level."""
    norm_groups: int = 32
    """Groups of every group normalisation."""
    head: Literal["published", "ray"] = "published"
    """'published': absolute clamped positions. 'ray': depth along the pixel's ray, the pixel's own colour plus a
    residual, size in pixels, opacity biased by 'not white'."""
    temporal_residual: Literal["published", "identity"] = "published"
    """'published': temporal layers give (attention + x) sqrt(1/2) from PyTorch's initialisation. 'identity':
    attention + x, zero at the start: the network gains time and keeps what it knew of single frames."""
    attention: Literal["sdpa", "xformers"] = "sdpa"
    """Attention kernel; xformers needs CUDA."""

    def __post_init__(self) -> None:
        _at_least(self, 1, "input_size", "splat_size", "gaussian_perpixel", "num_heads", "norm_groups")
        levels, ups = len(self.down_channels), len(self.up_channels)
        if len(self.down_attention) < levels:
            raise UserError(f"down_attention has {len(self.down_attention)} values for {levels} encoder levels")
        if len(self.up_attention) < ups:
            raise UserError(f"up_attention has {len(self.up_attention)} values for {ups} decoder levels")
        if ups > levels:
            raise UserError(f"up_channels has {ups} levels, more than the {levels} of down_channels")
        for i, width in enumerate(self.up_channels):
            if width != self.down_channels[levels - 1 - i]:
                raise UserError(
                    f"up_channels[{i}] is {width} but must equal down_channels[{levels - 1 - i}], "
                    f"which is {self.down_channels[levels - 1 - i]}"
                )
        for width in (*self.down_channels, *self.up_channels):
            if width % self.norm_groups or width % self.num_heads:
                raise UserError(
                    f"width {width} must be a multiple of norm_groups {self.norm_groups} and num_heads {self.num_heads}"
                )
        stride = 2 ** (levels - 1)
        if self.input_size % stride:
            raise UserError(f"input_size {self.input_size} must be a multiple of {stride} for {levels} encoder levels")
        reached = self.input_size // 2 ** (levels - ups)
        if self.splat_size != reached:
            raise UserError(
                f"splat_size is {self.splat_size} but input_size {self.input_size} with {levels} encoder and {ups} "
                f"decoder levels gives {reached}"
            )


@dataclass(frozen=True)
class CameraOptions:
    """The orbit all cameras live on."""

    fovy: float = 49.1
    """Vertical field of view in degrees."""
    cam_radius: float = 1.5
    """Distance of the orbit cameras from the origin."""
    znear: float = 0.05
    """Near plane of the renderer. Published: 0.5, which cuts the corners of the cube off."""
    zfar: float = 10.0
    """Far plane of the renderer. Published: 2.5, likewise."""
    renderer: Literal["auto", "numba", "gsplat", "diff-gaussian"] = "auto"
    """Rasteriser; auto takes gsplat on CUDA and numba otherwise."""

    def __post_init__(self) -> None:
        if not 0 < self.fovy < 180:
            raise UserError(f"--fovy is {self.fovy} and must lie between 0 and 180 degrees")
        if not 0 < self.znear < self.zfar:
            raise UserError(f"--znear {self.znear} and --zfar {self.zfar} must be positive and in this order")
        if not self.cam_radius > 0:
            raise UserError(f"--cam_radius is {self.cam_radius} and must be positive")


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
    """Probability that a sample's input views 1..3 are blank (white): trains single-view reconstruction."""
    max_broken: float = 0.1
    """The run stops when more than this fraction of the clips turned out to be broken."""

    def __post_init__(self) -> None:
        _at_least(self, 1, "num_frames", "num_views", "num_input_views", "output_size")
        _at_least(self, 0, "num_workers", "max_broken")


@dataclass(frozen=True)
class TrainOptions:
    """Optimisation, logging and checkpoints."""

    workspace: str = "./workspace"
    """Folder for everything a program writes."""
    resume: str | None = None
    """Checkpoint to start from (.safetensors)."""
    batch_size: int = 8
    """Samples per process and step."""
    gradient_accumulation_steps: int = 1
    """Batches per optimiser step."""
    num_epochs: int = 30
    """Passes over the list's groups; 0 only validates."""
    max_steps: int = 0
    """Length of the run in optimiser steps instead of epochs; 0: num_epochs counts."""
    lambda_lpips: float = 1.0
    """Weight of LPIPS; 0 switches it off and needs no VGG weights."""
    lambda_hull: float = 0.0
    """Weight of the distance between Gaussians and the front of the visual hull; not published, finds depths early."""
    lpips_views: int = 0
    """Views of each sample, drawn at random, that LPIPS looks at: it is costly on a CPU. 0: all, as published."""
    gradient_clip: float = 1.0
    """Largest gradient norm."""
    mixed_precision: Literal["no", "fp16", "bf16"] = "bf16"
    """Autocast type."""
    lr: float = 4e-4
    """Peak learning rate."""
    warmup_steps: int = 3000
    """Optimiser steps to the peak; at most 30 % of the run."""
    ema_decay: float = 0.0
    """Decay of the averaged weights that are evaluated and kept; 0: off."""
    seed: int = 0
    """Seed of weights, data order and augmentation."""
    log_every: int = 10
    """Steps between lines of the log."""
    preview_every: int = 500
    """Steps between preview videos."""
    save_every: int = 500
    """Steps between saved states of the run."""
    eval_every: int = 1000
    """Steps between validations."""

    def __post_init__(self) -> None:
        _at_least(self, 1, "batch_size", "gradient_accumulation_steps", "log_every")
        _at_least(self, 0, "num_epochs", "max_steps", "lr", "warmup_steps", "ema_decay", "save_every", "eval_every")
        _at_least(self, 0, "lambda_lpips", "lambda_hull", "lpips_views", "gradient_clip", "preview_every")


@dataclass(frozen=True)
class InferOptions:
    """Inference on videos."""

    test_path: str | None = None
    """A video, or a folder of videos."""
    interpresume: str | None = None
    """Checkpoint of the interpolation model; None switches interpolation off."""
    interpolate_rate: int = 3
    """Gaussian sets per interval of two video frames after interpolation."""
    interp_batch: int = 4
    """Frame pairs that the interpolation model handles at once."""
    target_fps: float = 15.0
    """Video frames are skipped evenly until the rate is near this one; slower videos keep theirs."""
    side_views: Literal["auto", "files", "single-view", "imagedream"] = "auto"
    """Where the first frame's other views come from; auto: image files if there, else the single-view model."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Type of the network's weights; auto: fp16 on a GPU, on a CPU bf16 where it is fast, otherwise fp32."""
    orientation: Literal["viewer", "world"] = "viewer"
    """Axes of the PLY files: 'viewer' opens upright in common viewers, 'world' keeps y up."""


@dataclass(frozen=True)
class Options:
    """Everything, by section."""

    model: ModelOptions = field(default_factory=ModelOptions)
    camera: CameraOptions = field(default_factory=CameraOptions)
    data: DataOptions = field(default_factory=DataOptions)
    train: TrainOptions = field(default_factory=TrainOptions)
    infer: InferOptions = field(default_factory=InferOptions)


_LRM = Options()
_BIG = Options(
    model=ModelOptions(
        up_channels=(1024, 1024, 512, 256, 128), up_attention=(True, True, True, False, False), splat_size=128
    ),
    data=DataOptions(output_size=512, num_views=8),
    train=TrainOptions(batch_size=1, resume="pretrained/model_fp16_fixrot.safetensors"),
)
_TINY = Options(
    model=ModelOptions(
        down_channels=(32, 64, 128, 256, 512),
        down_attention=(False, False, False, False, True),
        up_channels=(512, 256, 128),
        up_attention=(True, False, False, False),
    ),
    data=DataOptions(num_views=8),
    train=TrainOptions(batch_size=16),
)
_NANO = Options(
    model=ModelOptions(
        input_size=128,
        down_channels=(24, 48, 96, 128, 192),
        down_attention=(False, False, False, True, True),
        up_channels=(192, 128, 96, 48),
        up_attention=(True, True, False, False),
        splat_size=64,
        num_heads=4,
        norm_groups=8,
        head="ray",
        temporal_residual="identity",
    ),
    data=DataOptions(
        output_size=128,
        num_frames=16,
        num_views=6,
        num_workers=1,
        input_views="orthogonal",
        prob_grid_distortion=0.0,
        prob_cam_jitter=0.0,
        prob_view_dropout=0.3,
    ),
    train=TrainOptions(batch_size=4, resume="pretrained/nano_recon.safetensors", warmup_steps=200, lambda_hull=1.0),
    infer=InferOptions(interpresume="pretrained/nano_interp.safetensors"),
)

PRESETS: dict[str, Options] = {
    "lrm": _LRM,
    "small": _LRM,
    "big": _BIG,
    "tiny": _TINY,
    "nano": _NANO,
}
PRESET_HELP: dict[str, str] = {
    "lrm": "published L4GM network with a 64x64 splat grid",
    "small": "the same under LGM's other name",
    "big": "published L4GM network with a 128x128 splat grid",
    "tiny": "LGM's tiny widths with time",
    "nano": "this project's own small network, trained and run on a CPU",
}
