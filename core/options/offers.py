"""Which options each script offers, in the order of its help.

An option is written SECTION.NAME; SECTION.* are those of the section that nothing else here names. Accepted without
being shown are sizes of the network, which come from the preset, and published options without effect, so that every
published command line parses.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from functools import cached_property

from core.options.presets import Options

# Options of the published programs, which all accept all of them.
PUBLISHED = frozenset(
    """
    data.data_mode data.datalist data.num_frames data.num_views data.num_input_views data.shuffle_input
    data.output_size data.num_workers data.prob_grid_distortion data.prob_cam_jitter
    train.batch_size train.gradient_accumulation_steps train.num_epochs train.lambda_lpips train.gradient_clip
    train.mixed_precision train.lr infer.test_path infer.interpresume infer.interpolate_rate
    """.split()
)
# Switches of the published programs that nothing here needs, and their published defaults.
SWITCHES: Mapping[str, bool] = {
    "force_cuda_rast": False,
    "fancy_video": False,
    "sample_by_anim": True,
    "evaluating": False,
}
# Options of version 0.1: current names, and renamed values.
RENAMED: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "input_sides": ("side_views", {"own": "previous"}),
    "handover": ("chunk_side_views", {"last": "previous"}),
    "interp_sides": ("inserted_side_views", {"ends": "blend"}),
    "seeder": ("view_generator", {}),
    "chunk_lanes": ("chunk_workers", {}),
    "target_fps": ("fps", {}),
}


@dataclass(frozen=True)
class Offer:
    """The options of one script.

    Attributes:
        first: the most used options, shown first.
        groups: title -> the others, shown below.
        hidden: accepted and used, but not shown.
    """

    first: str
    groups: Mapping[str, str]
    hidden: str = ""

    @cached_property
    def shown(self) -> Mapping[str, tuple[str, ...]]:
        """Title -> options, in the order of the help; the first group has no title."""
        lists = {"": self.first, **self.groups}
        named = {name for text in (*lists.values(), self.hidden) for name in text.split()}
        return {title: _expand(text, named) for title, text in lists.items()}

    @cached_property
    def ignored(self) -> tuple[str, ...]:
        """Published options that are accepted and have no effect."""
        used = {plain(name) for names in (*self.shown.values(), _expand(self.hidden)) for name in names}
        return tuple(sorted(name for name in PUBLISHED if plain(name) not in used))

    @property
    def not_shown(self) -> tuple[str, ...]:
        """Options that are accepted but not shown."""
        return (*_expand(self.hidden), *self.ignored)

    @property
    def taken(self) -> tuple[str, ...]:
        """Every accepted option."""
        return (*(name for names in self.shown.values() for name in names), *self.not_shown)


def plain(name: str) -> str:
    """SECTION.NAME without the section."""
    return name.partition(".")[2]


def _expand(text: str, named: Collection[str] = ()) -> tuple[str, ...]:
    found: list[str] = []
    for name in text.split():
        section, _, option = name.partition(".")
        others = (f"{section}.{entry.name}" for entry in fields(getattr(Options(), section)))
        found += [other for other in others if other not in named] if option == "*" else [name]
    return tuple(found)


_INTERPOLATION = "infer.interpolate_rate infer.interp_batch side_views.inserted_side_views"
_VIEWS = "views.view_azimuths views.candidates views.align_elevation views.align_scale views.recenter"
_DIFFUSION = (
    "views.imagedream views.mvdream views.negative_prompt views.diffusion_steps views.guidance_scale "
    "views.offload run.seed"
)
_FIT = (
    "refine.deformation refine.nodes refine.canonical_steps refine.pose_steps refine.track_steps refine.joint_steps "
    "refine.refine_size refine.noise refine.trust refine.lambda_arap refine.lambda_pose refine.lambda_velocity "
    "refine.lambda_opacity refine.lambda_scale refine.lambda_planes refine.guidance refine.lambda_guidance "
    "refine.guidance_every refine.guidance_views refine.zero123 refine.svd refine.preview"
)

TRAIN = Offer(
    "data.datalist data.data_home run.workspace run.resume data.num_frames train.batch_size train.lr train.num_epochs "
    "train.max_steps train.mixed_precision run.device",
    {
        "data": "data.* side_views.side_views side_views.inserted_side_views",
        "training": "train.* run.seed",
        "camera": "camera.*",
        "network": "model.*",
    },
)
INFER_3D = Offer(
    "infer.test_path views.prompt run.workspace run.resume side_views.view_generator infer.output_size "
    "infer.orientation infer.precision run.device camera.renderer input.matte",
    {
        "files": "infer.ply_layout input.start input.duration input.fps",
        "first_frame": f"{_VIEWS} views.elevation side_views.single_view_resume",
        "diffusion": f"{_DIFFUSION} views.download",
        "camera": "camera.*",
    },
    "data.num_frames input.allow_background camera.rasterize_mode model.*",
)
INFER_4D = Offer(
    "infer.test_path run.workspace run.resume infer.interpresume data.num_frames side_views.view_generator "
    "infer.output_size infer.orientation infer.precision run.device camera.renderer input.matte",
    {
        "sequence": f"input.start input.duration input.fps refine.refine side_views.chunk_side_views {_INTERPOLATION} "
        "infer.*",
        "first_frame": _VIEWS,
        "diffusion": _DIFFUSION.replace("views.mvdream ", ""),
        "camera": "camera.*",
    },
    "views.prompt views.elevation views.download input.allow_background side_views.single_view_resume "
    f"side_views.motion_resume camera.rasterize_mode model.* {_FIT}",
)
REFINE_4D = Offer(
    "infer.test_path run.workspace run.resume refine.deformation refine.refine_size infer.interpolate_rate "
    "data.num_frames side_views.view_generator infer.output_size infer.orientation infer.precision run.device "
    "camera.renderer",
    {
        "refinement": "refine.*",
        "sequence": "input.* side_views.chunk_side_views infer.*",
        "first_frame": _VIEWS,
        "diffusion": _DIFFUSION.replace("views.mvdream ", ""),
        "camera": "camera.*",
    },
    "side_views.inserted_side_views side_views.single_view_resume side_views.motion_resume camera.rasterize_mode "
    "model.*",
)
EVAL = Offer(
    "eval.protocols data.data_home run.workspace run.resume eval.compare eval.predictions eval.baselines "
    "eval.max_objects run.device camera.renderer",
    {
        "evaluation": "eval.* refine.refine data.data_home_val",
        "networks": f"infer.interpresume data.num_frames data.output_size infer.precision side_views.chunk_side_views "
        f"side_views.motion_resume infer.chunk_workers {_INTERPOLATION}",
        "camera": "camera.*",
    },
    f"views.* side_views.view_generator side_views.single_view_resume run.seed camera.rasterize_mode model.* {_FIT}",
)
CONVERT = Offer("infer.test_path mesh.* run.device camera.renderer", {})
