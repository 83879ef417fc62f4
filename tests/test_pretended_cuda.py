"""The pretended CUDA device refuses what a real one refuses, and inference runs on it without a CUDA rasteriser."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from core.devices import choose_device
from core.errors import UserError
from core.ply import load_ply
from core.rendering import gsplat_backend, make_renderer
from tests.pretended_cuda import GPU, PretendedCuda, pretended_cuda
from tests.splat_scenes import cameras_around, random_gaussians
from tests.tiny import LINE_3D, LINE_4D, Call, metadata

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
