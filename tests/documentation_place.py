"""A folder in which the commands of the documentation run: it looks like a checkout in which a reader has worked.

Presets are tiny networks, videos and clips are tiny, and what a reader downloads (`FROM_ELSEWHERE`) or has (`OBJECTS`)
is there.
"""

from __future__ import annotations

import shutil
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from core.guidance.svd import VideoDiffusion
from core.multiview.diffusion import MultiViewDiffusion
from core.options import PRESETS, Options
from core.options.lact import LACT_PRESETS
from tests.clip_factory import write_clip
from tests.nvs_place import DL3DV_LIST, TINY_LACT, write_lact, write_list, write_transforms
from tests.test_architecture import ROOT, SCRIPTS
from tests.tiny import square_video, write_checkpoint
from tests.tiny_guidance import SVD, ZERO123, write_svd, write_zero123
from tests.tiny_multiview import SIZE as VIEW_SIZE
from tests.tiny_multiview import write_pipeline

# Tiny: two steps whatever the command says, unless it says --max_steps.
SMALL = {
    "num_views": 6,
    "num_workers": 0,
    "output_size": 32,
    "mixed_precision": "no",
    "lambda_lpips": 0.0,
    "eval_lpips": False,
    "max_steps": 2,
    "batch_size": 1,
    "diffusion_steps": 2,
    "lpips_images": 1,
    "tracker": "none",
}
FROM_ELSEWHERE = {
    "pretrained/model_fixrot.safetensors": "ashawkey/LGM",
    "pretrained/model_fp16_fixrot.safetensors": "ashawkey/LGM",
    "pretrained/recon.safetensors": "jiawei011/L4GM",
    "pretrained/interp.safetensors": "jiawei011/L4GM",
    "pretrained/imagedream-ipmv-diffusers": "ashawkey/imagedream-ipmv-diffusers",
    "pretrained/mvdream-sd2.1-diffusers": "ashawkey/mvdream-sd2.1-diffusers",
    SVD: "stabilityai/stable-video-diffusion-img2vid",
    ZERO123: "ashawkey/stable-zero123-diffusers",
    "weight/obj_res256.pt": "airsplay/lact_nvs",
    "weight/scene_res256x256.pt": "airsplay/lact_nvs",
}
OBJECTS = ("dinosaurs_pack/Trex.glb", "mech_pack/Leela.glb", "animated/val/Tang.glb")
MADE_BY_README = ("results/first_run/best.safetensors",)


def with_fields(options: Options, values: dict[str, object]) -> Options:
    """The options with these values in whichever sections have fields of these names."""
    for section in fields(options):
        content = getattr(options, section.name)
        known = {name: value for name, value in values.items() if hasattr(content, name)}
        options = replace(options, **{section.name: replace(content, **known)})
    return options


def shorten_list(source: Path, target: Path, home: Path) -> None:
    """Copy the first three objects of a shipped list, and write tiny clips for them."""
    first: dict[str, str] = {}
    for line in source.read_text().split():
        first.setdefault(line.split("-")[1], line)
    lines = list(first.values())[: 1 if "val" in source.name else 3]
    target.write_text("\n".join(lines))
    kinds = ("fixed_16_24fps", "random_24fps") if "24fps" in source.name else ("fixed_16_clip", "random_clip")
    for line in lines:
        write_clip(home, line, frames=8, kinds=kinds)


def dark_squares(_: MultiViewDiffusion, __: object, latents: Tensor) -> Tensor:
    """What the diffusion pipelines draw here: for every view of the latents a dark square on grey."""
    views = torch.full((*latents.shape[:2], 3, VIEW_SIZE, VIEW_SIZE), 0.5)
    views[..., 8:20, 6:20] = 0.1
    return views


def dark_square_video(_: VideoDiffusion, latents: Tensor) -> Tensor:
    """What SVD draws here: in every frame a dark square on white."""
    video = torch.ones(len(latents), 3, 4 * latents.shape[-2], 4 * latents.shape[-1])
    video[..., 16:40, 16:40] = 0.1
    return video


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like a checkout in which a reader has worked."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("acc_configs", "blender_scripts", "benchmarks", "tests", "constraints.txt", "Makefile", *SCRIPTS):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "data_test", folder / "data_test")
    for video in (folder / "data_test").glob("*.mp4"):
        square_video(video, 2)
    examples = folder / "data_example"
    write_list(examples, 1, views=32, size=(16, 16)).rename(examples / "objects.json")
    write_transforms(examples / "scene", views=136, size=(16, 16))
    for name in FROM_ELSEWHERE:
        if name.startswith("weight/"):
            write_lact(folder / name)
            continue
        if name in (SVD, ZERO123):
            (write_svd if name == SVD else write_zero123)(folder / name)
            continue
        kind = "imagedream" if "imagedream" in name else "mvdream"
        path = folder / name
        write_checkpoint(path, 3) if path.suffix == ".safetensors" else write_pipeline(path, kind)
    write_checkpoint(folder / "pretrained/nano_recon.safetensors", 4)
    (folder / "DL3DV-valid.csv").write_text(DL3DV_LIST)
    for name in ("data_train", "clips/val"):
        (folder / name).mkdir(parents=True)
    for name in MADE_BY_README:
        write_checkpoint(folder / name, 4)
    for name in OBJECTS:
        (folder / name).parent.mkdir(parents=True)
        (folder / name).touch()
    for path in sorted((ROOT / "data_train").glob("*.txt")):
        shorten_list(path, folder / "data_train" / path.name, folder / ("clips/val" if "val" in path.name else "clips"))
    return folder


@pytest.fixture
def checkout(place: Path, template: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the template to stand in, and tiny presets."""
    shutil.copytree(template, place, symlinks=True, dirs_exist_ok=True)
    own = {"big": "pretrained/model_fp16_fixrot.safetensors", "nano": "pretrained/nano_recon.safetensors"}
    for name, resume in own.items():
        monkeypatch.setitem(PRESETS, name, with_fields(PRESETS[name], {**SMALL, "resume": resume}))
    for name in LACT_PRESETS:
        monkeypatch.setitem(LACT_PRESETS, name, TINY_LACT)
    monkeypatch.setattr(MultiViewDiffusion, "_decode", dark_squares)  # random weights draw no plain background
    monkeypatch.setattr(VideoDiffusion, "_decode", dark_square_video)
    return place
