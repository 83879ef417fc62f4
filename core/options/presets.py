"""All sections together, and the presets."""

from __future__ import annotations

from dataclasses import dataclass, field

from core.options.camera import CameraOptions
from core.options.data import DataOptions
from core.options.eval import EvalOptions
from core.options.infer import InferOptions
from core.options.input import InputOptions
from core.options.mesh import MeshOptions
from core.options.model import ModelOptions
from core.options.refine import RefineOptions
from core.options.run import RunOptions
from core.options.side_views import SideViewOptions
from core.options.train import TrainOptions
from core.options.views import ViewOptions


@dataclass(frozen=True)
class Options:
    """Everything, by section."""

    run: RunOptions = field(default_factory=RunOptions)
    model: ModelOptions = field(default_factory=ModelOptions)
    camera: CameraOptions = field(default_factory=CameraOptions)
    data: DataOptions = field(default_factory=DataOptions)
    side_views: SideViewOptions = field(default_factory=SideViewOptions)
    train: TrainOptions = field(default_factory=TrainOptions)
    input: InputOptions = field(default_factory=InputOptions)
    infer: InferOptions = field(default_factory=InferOptions)
    views: ViewOptions = field(default_factory=ViewOptions)
    refine: RefineOptions = field(default_factory=RefineOptions)
    eval: EvalOptions = field(default_factory=EvalOptions)
    mesh: MeshOptions = field(default_factory=MeshOptions)


_LRM = Options()
_BIG = Options(
    model=ModelOptions(
        up_channels=(1024, 1024, 512, 256, 128), up_attention=(True, True, True, False, False), splat_size=128
    ),
    data=DataOptions(output_size=512, num_views=8),
    train=TrainOptions(batch_size=1),
    run=RunOptions(resume="pretrained/model_fp16_fixrot.safetensors"),
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
        architecture="nano",
        input_size=128,
        down_channels=(24, 48, 96, 128, 192),
        down_attention=(False, False, False, True, True),
        up_channels=(192, 128, 96, 48),
        up_attention=(True, True, False, False),
        splat_size=64,
        gaussian_perpixel=4,
        num_heads=4,
        norm_groups=8,
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
    side_views=SideViewOptions(
        chunk_side_views="moved", inserted_side_views="first", view_generator="auto", single_view_resume=None
    ),
    train=TrainOptions(batch_size=4, warmup_steps=200, share_warmup=False, lambda_hull=1.0),
    run=RunOptions(resume="pretrained/nano_recon.safetensors"),
    camera=CameraOptions(rasterize_mode="antialiased"),
    infer=InferOptions(interpresume="pretrained/nano_recon.safetensors", chunk_workers=2),
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
