"""The pretended CUDA device refuses what a real one refuses; inference, training and evaluation run on it."""

from __future__ import annotations

import importlib.util
import json
import logging
import shutil
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from core.devices import choose_device
from core.errors import UserError
from core.model.attention import _xformers_works, attention
from core.ply import load_ply
from core.rendering import gsplat_backend, make_renderer
from core.training.run import Training
from tests.evaluation_place import write_clips, write_protocol
from tests.pretended_cuda import GPU, PretendedCuda, pretended_cuda, stand_in_gsplat, stand_in_modules
from tests.splat_scenes import cameras_around, random_gaussians
from tests.tiny import LINE_3D, LINE_4D, SHORT, Call, files, metadata
from tests.tiny_training import log_of, losses, options_for

pytest_plugins = ["tests.infer_place"]
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def gpu() -> Iterator[PretendedCuda]:
    with pretended_cuda() as device:
        yield device


def test_tensors_keep_their_device(gpu: PretendedCuda) -> None:
    there, here = torch.ones(3, device=GPU), torch.ones(3)
    assert there.device == GPU and there.is_cuda and here.device.type == "cpu"
    views = (
        there[1:],
        there.reshape(3, 1),
        there + 1,
        there * torch.tensor(2.0),
        torch.empty_like(there),
        here.to(GPU),
    )
    assert all(view.device == GPU for view in views)
    assert there.cpu().device.type == there.to("cpu").device.type == "cpu" and float(there.sum()) == 3
    module = torch.nn.Linear(3, 3).to(GPU)
    assert module.weight.device == GPU and module(there).device == GPU
    there.cpu().add_(1)
    assert there.tolist() == [1, 1, 1]


def test_what_a_gpu_refuses_is_refused(gpu: PretendedCuda) -> None:
    there, here = torch.ones(3, device=GPU), torch.ones(3)
    for mixed in (lambda: there + here, lambda: torch.stack([here, there]), lambda: torch.nn.Linear(3, 3)(there)):
        with pytest.raises(RuntimeError, match=r"cuda:0 and cpu"):
            mixed()
    for to_numpy in (there.numpy, lambda: np.asarray(there)):
        with pytest.raises(TypeError, match="to numpy"):
            to_numpy()


def test_a_device_is_chosen_by_name(gpu: PretendedCuda) -> None:
    assert choose_device().type == choose_device("cuda:0").type == choose_device("cuda").type == "cuda"
    assert choose_device("cpu").type == "cpu"
    with pytest.raises(UserError, match="--device cuda:1: torch sees 1 GPUs"):
        choose_device("cuda:1")


def test_numba_draws_copies(gpu: PretendedCuda) -> None:
    gaussians, cameras = random_gaussians(1, num=20), cameras_around(1, 2, size=(8, 8))
    here = make_renderer("numba", device=torch.device("cpu"))(gaussians, cameras)
    there = make_renderer("numba", device=GPU)(gaussians.to(GPU), cameras.to(GPU), torch.ones(3, device=GPU))
    assert there.image.device == there.alpha.device == there.depth.device == GPU
    torch.testing.assert_close(there.image.cpu(), here.image, atol=0, rtol=0)


@pytest.mark.parametrize("installed", [False, True])
def test_auto_falls_back_to_numba_and_says_why(
    gpu: PretendedCuda, installed: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def without_nvcc(near: float, far: float, rasterize_mode: str) -> None:
        raise UserError("gsplat could not compile its CUDA kernels (no nvcc)")

    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: installed or None)
    without_nvcc.on_gpu = True
    monkeypatch.setattr(gsplat_backend, "GsplatRenderer", without_nvcc)
    with caplog.at_level(logging.INFO, logger="core.rendering"):
        assert make_renderer("auto", device=GPU).name == "numba"
    assert ("no nvcc" if installed else "pip install -e '.[cuda]'") in caplog.text and "slow" in caplog.text


@pytest.mark.parametrize("name", ["gsplat", "diff-gaussian"])
def test_cuda_renderers_are_refused_on_the_cpu(name: str) -> None:
    with pytest.raises(UserError, match=f"{name} draws on a GPU, and the device is cpu: use --renderer numba"):
        make_renderer(name, device=torch.device("cpu"))


def test_video_to_gaussians_without_a_cuda_rasteriser(gpu: PretendedCuda, place: Path, call: Call) -> None:
    """The whole way, networks on the GPU in float32, on a machine without gsplat: the result is the CPU's."""
    status, said = call("infer_3d", LINE_3D)
    assert status == 0, said
    status, said = call("infer_4d", f"{LINE_4D} --device cuda")
    assert status == 0, said
    assert metadata()["device"] == "cuda" and metadata()["renderer"] == "numba"
    on_gpu = load_ply("results/x/frame0001.ply")
    status, said = call("infer_4d", f"{LINE_4D} --device cpu")
    assert (status, metadata()["device"]) == (0, "cpu"), said
    torch.testing.assert_close(on_gpu.means, load_ply("results/x/frame0001.ply").means, atol=1e-4, rtol=1e-4)


@pytest.fixture
def xformers(gpu: PretendedCuda) -> Iterator[list[torch.Size]]:
    """An installed xformers; the shapes ``[batch, tokens, heads, d]`` that it was asked for."""
    asked = []

    def memory_efficient_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        asked.append(q.shape)
        return F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2)

    modules = {name: ModuleType(name) for name in ("xformers", "xformers.ops")}
    modules["xformers"].__spec__ = ModuleSpec("xformers", None)
    modules["xformers"].ops = modules["xformers.ops"]
    modules["xformers.ops"].memory_efficient_attention = memory_efficient_attention
    _xformers_works.cache_clear()
    with stand_in_modules(modules):
        yield asked
    _xformers_works.cache_clear()


def test_xformers_is_taken_on_the_gpu_where_it_is_installed(
    xformers: list[torch.Size], caplog: pytest.LogCaptureFixture
) -> None:
    qkv = torch.randn(3, 2, 4, 5, 8)
    there = qkv.to(GPU)
    with caplog.at_level(logging.INFO, logger="core.model.attention"):
        found = [attention(*there), attention(*there, "sdpa"), attention(*qkv)]
    assert xformers == [(2, 5, 4, 8)], "auto, on the GPU, and nothing else"
    assert caplog.messages == ["attention: xformers (--attention sdpa for PyTorch's)"]
    torch.testing.assert_close(found[0].cpu(), found[2])
    torch.testing.assert_close(found[1].cpu(), found[2])
    with pytest.raises(UserError, match="works on CUDA only"):
        attention(*qkv, "xformers")


def test_without_xformers_the_gpu_has_sdpa(gpu: PretendedCuda) -> None:
    _xformers_works.cache_clear()
    q = torch.randn(1, 2, 5, 8, device=GPU)
    assert attention(q, q, q).shape == q.shape
    with pytest.raises(UserError, match="xformers is not installed"):
        attention(q, q, q, "xformers")


def test_gsplat_gets_what_its_kernels_take(gpu: PretendedCuda) -> None:
    """The stand-in refuses what lies elsewhere or is of another type; the adapter brings it into that form."""
    gaussians, cameras = random_gaussians(2, num=5).to(GPU), cameras_around(2, 3, size=(8, 6)).to(GPU)
    with stand_in_gsplat() as calls:
        renderer = make_renderer("auto", device=GPU)
        render = renderer(gaussians.map(torch.Tensor.double), cameras, torch.ones(3, device=GPU))
        assert renderer.name == "gsplat" and calls == [(2, 3)]
        assert render.image.shape[-3:] == (3, 8, 6) and render.image.device == render.alpha.device == GPU
        with pytest.raises(ValueError, match="one cuda device"):
            renderer(gaussians.to("cpu"), cameras)


SMALL = {"data": {"num_views": 5, "output_size": 16}, "batch_size": 1}


def test_training_and_validation_on_the_gpu(gpu: PretendedCuda, training_clips: Path, tmp_path: Path) -> None:
    """Every loss, averaged weights, previews, validation, saving and resuming."""
    options = {**SMALL, "ema_decay": 0.9, "eval_every": 2, "preview_every": 2, "save_every": 1, "max_steps": 2}
    options |= {"lambda_lpips": 1.0, "lpips_views": 1}
    with stand_in_gsplat() as calls:
        training = Training(options_for(training_clips, tmp_path, **options))
        assert training.accelerator.device.type == "cuda" and training.renderer.name == "gsplat"
        assert {parameter.device for parameter in training.model.parameters()} == {GPU}
        training.run()
        first, drawn = losses(tmp_path), len(calls)
        shutil.rmtree(tmp_path / "state" / "00000002")
        Training(options_for(training_clips, tmp_path, resume="auto", **options)).run()
    assert drawn < len(calls) and sorted(first) == [1, 2]
    assert losses(tmp_path) == first, "the resumed run repeats the second step"
    validated = log_of(tmp_path, "validation")[-1]
    assert validated["clips"] == 1
    assert (tmp_path / "best.safetensors").is_file() and (tmp_path / "eval_gt_images_0_2.mp4").is_file()


def test_autoregressive_training_on_the_gpu(gpu: PretendedCuda, training_clips: Path, tmp_path: Path) -> None:
    """Side views are renders, and the published network is the one that is trained."""
    model = {"architecture": "l4gm", "gaussian_perpixel": 1, "norm_groups": 8}
    options = {**SMALL, "model": model, "lambda_hull": 0.0, "max_steps": 1, "eval_every": 1}
    with stand_in_gsplat() as calls:
        Training(options_for(training_clips, tmp_path, side_views={"side_views": "previous"}, **options)).run()
    assert len(calls) > 2 and sorted(losses(tmp_path)) == [1]


def test_cpu_training_on_a_machine_with_a_gpu(gpu: PretendedCuda, training_clips: Path, tmp_path: Path) -> None:
    training = Training(options_for(training_clips, tmp_path, device="cpu", max_steps=1))
    assert training.accelerator.device.type == "cpu" and training.renderer.name == "numba"


def test_evaluation_on_the_gpu(gpu: PretendedCuda, place: Path, call: Call) -> None:
    """The network and its baselines have the CPU's numbers."""
    write_clips(Path("clips"))
    write_protocol(Path(), objects="['p-cow-0']", frames="2")
    line = "nano --protocols views.toml --data_home clips --lpips_images 1 --baselines frozen framewise hull mean"
    scores = {}
    for device in ("cuda", "cpu"):
        status, said = call("eval", f"{line} --device {device} --precision fp32")
        assert status == 0, said
        systems = json.loads(Path("results/views.json").read_text())["systems"]
        scores[device] = [entry["p-cow-0"]["means"].get("psnr", 0) for entry in systems.values()]
    assert len(scores["cuda"]) == 6
    assert scores["cuda"] == pytest.approx(scores["cpu"], abs=1e-3)


def test_pictures_and_texts_on_the_gpu(gpu: PretendedCuda, weights: None, call: Call) -> None:
    """ImageDream and MVDream, with candidates, an elevation and parts that leave the memory."""
    steps = "--precision fp32 --diffusion_steps 1"
    status, said = call("infer_3d", f"{SHORT} {steps} --candidates 2 --elevation 10 --offload --prompt box")
    assert status == 0, said
    assert metadata()["device"] == "cuda" and metadata()["side_views"]["origin"] == "ImageDream"
    status, said = call("infer_3d", f"nano {steps} --prompt fox --no-recenter")
    assert status == 0, said
    assert {"x.ply", "fox.ply"} <= files()
