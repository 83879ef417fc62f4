"""A network, options, Gaussians and videos small enough for tests of the whole path."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import Tensor

from core.architectures import build_model
from core.checkpoint import save_weights
from core.gaussians import Gaussians
from core.inference.network import Network
from core.media import write_video
from core.options import (
    CameraOptions,
    DataOptions,
    InferOptions,
    ModelOptions,
    Options,
    RunOptions,
    SideViewOptions,
)
from core.tracking.fit import Fit

SIZE = 32
SHOWN = 40  # side of the pictures that are written for people
LINE_3D = "big --workspace results --resume pretrained/recon.safetensors --num_frames 1 --test_path data_test/x.mp4"
LINE_4D = (
    "big --workspace results --resume pretrained/recon.safetensors --interpresume pretrained/interp.safetensors "
    "--num_frames 16 --test_path data_test/x.mp4"
)
SHORT = "nano --test_path data_test/x.mp4"
STEPS = "--diffusion_steps 2"
VIEW_FILES = [f"x{tag}_{view:03d}.png" for tag in ("", "_mv") for view in range(4)]
IMAGEDREAM = "pretrained/imagedream-ipmv-diffusers"
MVDREAM = "pretrained/mvdream-sd2.1-diffusers"

Call = Callable[[str, str], tuple[int, str]]

TINY_MODEL = ModelOptions(
    input_size=SIZE,
    down_channels=(32, 32, 64),
    down_attention=(False, False, True),
    up_channels=(64, 32),
    up_attention=(True, False),
    splat_size=16,
    num_heads=2,
    norm_groups=16,
    architecture="nano",
)


def tiny_options(**infer: object) -> Options:
    """Options of the tiny network; it is its own single-view model. Checkpoints where the published ones go."""
    return Options(
        model=TINY_MODEL,
        camera=CameraOptions(renderer="numba"),
        data=DataOptions(output_size=SIZE, num_frames=4),
        side_views=SideViewOptions(view_generator="auto", single_view_resume=None),
        run=RunOptions(resume="pretrained/recon.safetensors", workspace="results"),
        infer=replace(InferOptions(precision="fp32", output_size=SHOWN), **infer),
    )


def write_checkpoint(path: Path, seed: int = 0, model: ModelOptions = TINY_MODEL) -> Path:
    """Random weights in a file; the same for the same seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        save_weights(build_model(model), path)
    return path


def tiny_network(folder: Path, seed: int = 0) -> Network:
    """The tiny model, ready to run on the CPU in float32."""
    path = write_checkpoint(folder / f"tiny{seed}.safetensors", seed)
    return Network(path, TINY_MODEL, CameraOptions())


def square_frame(index: int, height: int = SIZE, width: int = SIZE) -> Tensor:
    """A red square on white that moves to the right, ``[3, height, width]``."""
    frame = torch.ones(3, height, width)
    left = 4 + index % (width // 2)
    frame[1:, height // 4 : 3 * height // 4, left : left + width // 4] = 0
    return frame


def square_video(
    path: Path, frames: int = 3, fps: Fraction | int = 8, *, height: int = SIZE, width: int = SIZE
) -> Path:
    """A video of `square_frame`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_video(path, fps, (height, width)) as video:
        for index in range(frames):
            video.write(square_frame(index, height, width))
    return path


def lopsided_gaussians() -> Gaussians:
    """60 Gaussians, leading axes ``[1]``, that looks different from every side: a bent, coloured rod with two arms."""
    t = torch.linspace(-1, 1, 20)
    rod = torch.stack([0.25 * t**2, 0.6 * t, 0.15 * t], dim=-1)
    arm = torch.stack([0.5 * (t + 1) / 2, 0.3 * torch.ones_like(t), 0.1 * t], dim=-1)
    stub = torch.stack([0.05 * t, -0.2 * torch.ones_like(t), 0.3 * (t + 1) / 2], dim=-1)
    means = torch.cat([rod, arm, stub])
    colors = torch.eye(3).repeat_interleave(20, dim=0)
    count = len(means)
    return Gaussians(
        means=means,
        opacities=torch.full((count,), 0.9),
        scales=torch.full((count, 3), 0.06),
        quats=torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(count, 1),
        colors=colors,
    )[None]


def metadata(path: str = "") -> dict:
    """A metadata file; by default that which infer_3d or infer_4d wrote last for the video x."""
    written = [Path(path)] if path else Path("results").glob("x_metadata*.json")
    return json.loads(max(written, key=lambda file: file.stat().st_mtime_ns).read_text())


def files(folder: str = "results") -> set[str]:
    return {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file()}


@contextmanager
def interrupted_joint_stage(at: int) -> Iterator[None]:
    """Ctrl-C before this step of a fit's joint stage; the fit saves after every step."""
    step = Fit._joint_step

    def interrupted(fit: Fit, number: int) -> None:
        if number == at:
            raise KeyboardInterrupt
        step(fit, number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("core.tracking.fit.SAVE_EVERY", 1)
        patch.setattr(Fit, "_joint_step", interrupted)
        yield


def refused(result: tuple[int, str], *words: str) -> None:
    """Check that a script ended with one line that holds these words, and wrote nothing."""
    status, text = result
    assert (status, len(text.strip().splitlines())) == (2, 1), text
    for word in words:
        assert word in text
    assert not Path("results").exists()
