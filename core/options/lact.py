"""Options of LaCT, the network for novel views that keeps a scene in fast weights, and its presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from core.errors import UserError
from core.options.checks import within

Mixer = Literal["lact", "attention"]
Frame = Literal["world", "scene", "first"]
"""Of the cameras: as in the file; of their mean, as published for scenes; turned until the first is at azimuth 0."""


@dataclass(frozen=True)
class LactOptions:
    """Sizes of the network; the defaults are those of the published 24 layers."""

    patch_size: int = 8
    """Side of a patch, pixels; one token each."""
    dim: int = 768
    """Channels of a token."""
    layers: int = 24
    """Number of blocks."""
    head_dim: int = 64
    """Channels of a head of the attention inside a view."""
    fast_head_dim: int = 768
    """Channels of a head of the fast weights."""
    fast_width: int = 2
    """Hidden channels of the fast weights, as a multiple of fast_head_dim."""
    base_lr: float = 0.01
    """Rate of an update where the network asks for no other."""
    muon_steps: int = 5
    """Newton-Schulz iterations of an update."""
    ray_frequencies: int = 0
    """Frequencies of `core.lact.ray_features`, added to the tokens; 0: none, as published."""
    frame: Frame = "world"
    """Of cameras around an object, in training and inference."""
    mlp_width: int = 4
    """Hidden channels of the MLP, as a multiple of dim."""
    mixer: Mixer = "lact"
    """What carries the inputs to the targets: fast weights, or attention over all input tokens (not published)."""

    def __post_init__(self) -> None:
        within(self, 1, 128, "patch_size", "fast_width", "mlp_width", "muon_steps")
        within(self, 1, 65536, "dim", "layers", "head_dim", "fast_head_dim")
        within(self, 0, 65536, "ray_frequencies")
        within(self, 1e-6, 10, "base_lr")
        for name in ("head_dim", "fast_head_dim"):
            if self.dim % getattr(self, name):
                raise UserError(f"{name} is {getattr(self, name)} and must divide dim, which is {self.dim}")


LACT_PRESETS: Mapping[str, LactOptions] = {
    "l24_d768_ttt2x": LactOptions(),
    "l24_d768_ttt4x": LactOptions(fast_width=4),
    "l14_d768_ttt2x": LactOptions(layers=14),
    "nano": LactOptions(dim=128, layers=4, head_dim=32, fast_head_dim=64, ray_frequencies=64, frame="first"),
}


def lact_preset(name: str) -> LactOptions:
    """The preset of a name, or of a published configuration file such as ``config/lact_l24_d768_ttt2x.yaml``.

    Raises:
        UserError: there is none.
    """
    stem = PurePath(name).name.removesuffix(".yaml").removeprefix("lact_")
    if stem not in LACT_PRESETS:
        raise UserError(f"--config {name} is unknown; choose one of {', '.join(LACT_PRESETS)}")
    return LACT_PRESETS[stem]


@dataclass(frozen=True)
class NvsTrainOptions:
    """``train_nvs.py``: the flags and defaults of the published training program, and what it lacks."""

    data_path: str = ""
    """Scenes: a JSON list of opencv_cameras.json files, one such file, a transforms.json, or a .txt list of clips."""
    config: str = "l24_d768_ttt2x"
    """Sizes of the network: l24_d768_ttt2x, l24_d768_ttt4x, l14_d768_ttt2x or nano."""
    expname: str = "nvs"
    """Name of the run; it is kept in OUTPUT_DIR/EXPNAME and goes on from there."""
    output_dir: str = "outputs"
    """Folder of all runs."""
    load: str | None = None
    """Checkpoint to start from."""
    data_path_val: str | None = None
    """Scenes that are measured on and never trained on."""
    mixer: Mixer = "lact"
    """lact, or attention over all input tokens: the same network without fast weights."""
    image_size: tuple[int, int] = (256, 256)
    """Height and width, pixels; multiples of the patch size."""
    num_all_views: int = 15
    """Views drawn from a scene for a sample."""
    num_input_views: int = 8
    """The first of them are inputs."""
    min_input_views: int = 0
    """Each step takes a random number of inputs from this to num_input_views; 0: always all."""
    num_target_views: int = 8
    """The last of them are targets; one view may be both."""
    scene_pose_normalize: bool = False
    """Move and scale the cameras of a sample to a frame of their own, as scenes need it."""
    mirror: bool = False
    """Mirror every other sample."""
    bs_per_gpu: int = 8
    """Samples per process and step."""
    steps: int = 80_000
    """Length of the run."""
    lr: float = 1e-4
    """Peak learning rate."""
    muon_lr: float = 0.0
    """Peak learning rate of Muon for the matrices of the blocks; 0: AdamW for all, as published."""
    warmup: int = 4000
    """Steps to the peak; then a cosine to zero."""
    weight_decay: float = 0.05
    """On all matrices, the initial fast weights included."""
    lpips_start: int = 5000
    """Step from which LPIPS is added to the squared error; -1: never."""
    clip_start: int = 1000
    """Step from which gradients are clipped to norm 1, and steps with a norm above 4 skipped."""
    compile: bool = False
    """Compile the blocks with torch.compile."""
    actckpt: bool = False
    """Compute activations again in the backward pass: less memory, more time."""
    mixed_precision: Literal["no", "bf16"] = "bf16"
    """Autocast type; fast weights are float32 whatever it is."""
    seed: int = 95
    """Of weights, sample order and views."""
    num_workers: int = 1
    """Processes that read images."""
    save_every: int = 1000
    """Steps between saved states."""
    eval_every: int = 1000
    """Steps between validations, and at the end."""
    log_every: int = 100
    """Steps between lines of the log."""

    def __post_init__(self) -> None:
        check_views(self)
        within(self, 1, 65536, "bs_per_gpu", "save_every", "eval_every", "log_every")
        within(self, 1, 10**9, "steps")
        within(self, -1, 10**9, "lpips_start")
        within(self, 0, 10**9, "warmup", "clip_start")
        within(self, 0, 10, "lr", "muon_lr", "weight_decay")
        within(self, 0, self.num_input_views, "min_input_views")
        within(self, 0, 256, "num_workers")


@dataclass(frozen=True)
class NvsOptions:
    """``infer_nvs.py``: the flags and defaults of the published program, and what it lacks."""

    data_path: str = ""
    """Scenes: a JSON list of opencv_cameras.json files, one such file, a transforms.json, or a .txt list of clips."""
    load: str = "weight/obj_res256.pt"
    """Checkpoint: .pt or .safetensors."""
    config: str = "l24_d768_ttt2x"
    """Sizes of the network: l24_d768_ttt2x, l24_d768_ttt4x, l14_d768_ttt2x or nano."""
    output_dir: str = "output/"
    """Folder of the results."""
    image_size: tuple[int, int] = (256, 256)
    """Height and width, pixels; multiples of the patch size."""
    num_all_views: int = 32
    """Views drawn from a scene."""
    num_input_views: int = 20
    """Views that the network sees."""
    num_target_views: int | None = None
    """Views that are rendered and measured; None: all others."""
    scene_inference: bool = False
    """For scenes: cameras are normalised, inputs are spread over the sequence, the video goes from input to input."""
    video: Literal["auto", "turntable", "orbit", "interpolate", "none"] = "auto"
    """Path of the video. turntable: the published one around an object; orbit: at the inputs' height and distance;
    interpolate: from input to input; auto: interpolate for scenes, else turntable."""
    gif: bool = True
    """Write the video as .gif too, as published."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16: autocast, as published was meant; fp32: as it computes in effect. auto: bf16 on a GPU."""
    views_at_once: int = 0
    """Target views rendered together; 0: as many as a bounded memory holds."""
    max_scenes: int = 0
    """Scenes to do; 0: all."""
    lpips: bool = True
    """Measure LPIPS too, where its weights are installed."""
    convert: str | None = None
    """Write the checkpoint to this .safetensors file, and nothing else."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    seed: int = 95
    """Of the choice of views."""

    def __post_init__(self) -> None:
        check_views(self)
        within(self, 0, 65536, "views_at_once", "max_scenes")
        if self.path == "interpolate" and self.num_input_views < 2:
            raise UserError("the video goes from input to input and there is one; use --video none or orbit")

    @property
    def path(self) -> str:
        """Path of the video, with ``auto`` resolved."""
        if self.video != "auto":
            return self.video
        return "interpolate" if self.scene_inference else "turntable"


def check_views(options: NvsOptions | NvsTrainOptions) -> None:
    """Check the numbers of views, the image size and the seed.

    Raises:
        UserError: one cannot be.
    """
    within(options, 1, 8192, "image_size")
    within(options, 2, 65536, "num_all_views")
    within(options, 1, options.num_all_views, "num_input_views", "num_target_views")
    within(options, 0, 2**31 - 1, "seed")
