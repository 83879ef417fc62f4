"""Rendered ends: a training of the interpolation network on what it gets at inference."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from core.checkpoint import read_tensors
from core.data.batch import ClipBatch
from core.data.input_grid import blend_between_ends, build_grid, front_alone
from core.errors import UserError
from core.inference.network import Network
from core.inference.sequence import interpolate, reconstruct
from core.options import CameraOptions
from core.rendering import make_renderer
from core.rendering.orbit import OrbitRenderer
from core.training.build import make_dataset
from core.training.rollout import RenderedEnds
from core.training.run import Training
from tests.tiny import SIZE, square_frame, tiny_network
from tests.tiny_training import log_of, losses, options_for

pytestmark = pytest.mark.usefixtures("one_thread")

INTERPOLATION = {"data_mode": "4d_interp", "interp_sides": "ends", "num_frames": 4, "prob_view_dropout": 0.5}
SIDES = torch.rand(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return tiny_network(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def recon(one_thread: None, training_clips: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A checkpoint of a reconstruction network, trained for one step."""
    workspace = tmp_path_factory.mktemp("recon")
    Training(options_for(training_clips, workspace, max_steps=1)).run()
    return str(workspace / "model.safetensors")


def rendered(network: Network, grid: Tensor) -> Tensor:
    """The grid with ends rendered at twice its size."""
    return RenderedEnds(network.model, make_renderer("numba"), 2 * SIZE, nullcontext)(grid)


def test_training_shows_the_interpolation_network_what_inference_shows(network: Network, tmp_path: Path) -> None:
    """The same two frames and side views by either way; those of the later end are not known to either."""
    orbit, interpolation = OrbitRenderer(CameraOptions(renderer="numba"), 2 * SIZE), tiny_network(tmp_path, seed=1)
    shown = []
    interpolation.model.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0]))
    moments = reconstruct(iter([square_frame(0), square_frame(9)]), SIDES, 2, network, orbit)
    list(interpolate(moments, 3, 1, interpolation, orbit))
    fronts = torch.stack([square_frame(t) for t in (0, 3, 6, 9)])
    images = torch.cat([fronts[:, None], SIDES.expand(4, -1, -1, -1, -1)], dim=1)
    images[1:, 1:] = 0.5
    grid = build_grid(*blend_between_ends(images, network.cameras.expand(4, 4)))[None]
    torch.testing.assert_close(rendered(network, grid), shown[0], rtol=0, atol=1e-2)  # 0.2 % of the range of colours
    assert (grid - shown[0]).abs().max() > 1


def test_only_the_colours_of_the_sides_change(training_clips: Path, tmp_path: Path, network: Network) -> None:
    options = options_for(training_clips, tmp_path, data=INTERPOLATION)
    batch = next(iter(DataLoader(make_dataset(options, "test"), collate_fn=ClipBatch.collate)))
    for grid in (batch.grid, front_alone(batch.grid)):
        seen = rendered(network, grid)
        assert torch.equal(seen[:, :, 0], grid[:, :, 0]) and torch.equal(seen[..., 3:, :, :], grid[..., 3:, :, :])
        sides = seen[:, :, 1:, :3]
        assert (sides - grid[:, :, 1:, :3]).abs().amax(dim=(-3, -2, -1)).min() > 0.1, "every side view is another"
        torch.testing.assert_close(sides[:, 1], (2 * sides[:, 0] + sides[:, 3]) / 3)
        torch.testing.assert_close(sides[:, 2], (sides[:, 0] + 2 * sides[:, 3]) / 3)


def test_the_frozen_network_is_no_part_of_the_run(training_clips: Path, tmp_path: Path, recon: str) -> None:
    """Not of optimiser, average or files; no gradient reaches it. And a run that goes on is exact to the bit."""
    whole, killed, plain = tmp_path / "whole", tmp_path / "killed", tmp_path / "plain"

    def run(workspace: Path, ends: str | None, **changes: object) -> Training:
        data = {**INTERPOLATION, "ends_from": ends}
        options = options_for(training_clips, workspace, data=data, max_steps=2, save_every=1, ema_decay=0.5, **changes)
        training = Training(options)
        training.run()
        return training

    training = run(whole, recon)
    given, frozen = read_tensors(recon)[0], training.ends.network
    assert all(torch.equal(value, given[name]) for name, value in frozen.state_dict().items())
    assert not frozen.training and all(value.grad is None for value in frozen.parameters())
    held = {id(value) for value in frozen.parameters()}
    trained = [value for group in training.step.optimizer.param_groups for value in group["params"]]
    assert held.isdisjoint(map(id, [*trained, *training.average.parameters()]))
    run(plain, None)
    files = [{path.name for path in (place / "state" / "00000002").iterdir()} for place in (whole, plain)]
    assert files[0] == files[1] and training.accelerator._models == [training.model]
    for kind, number in (("train", "total"), ("validation", "psnr_novel"), ("validation", "psnr_novel_single")):
        assert log_of(whole, kind)[0][number] != log_of(plain, kind)[0][number], "both see the renders"

    shutil.copytree(whole, killed)
    shutil.rmtree(killed / "state" / "00000002")
    run(killed, recon, resume="auto")
    assert [record["step"] for record in log_of(killed, "start")] == [0, 1]
    assert losses(killed) == losses(whole)
    again, first = (read_tensors(place / "model.safetensors")[0] for place in (killed, whole))
    assert again.keys() == given.keys() and all(torch.equal(again[name], tensor) for name, tensor in first.items())


def test_ends_are_refused_where_they_have_no_meaning(training_clips: Path, tmp_path: Path, recon: str) -> None:
    with pytest.raises(UserError, match="--ends_from is for --data_mode 4d_interp; 4d has no ends to render"):
        options_for(training_clips, tmp_path, data={"ends_from": recon})
    with pytest.raises(UserError, match="side views of both ends: add --interp_sides ends"):
        options_for(training_clips, tmp_path, data={**INTERPOLATION, "ends_from": recon, "interp_sides": "first"})
    missing = {**INTERPOLATION, "ends_from": str(tmp_path / "none.safetensors")}
    with pytest.raises(UserError, match=r"none\.safetensors does not exist"):
        Training(options_for(training_clips, tmp_path, data=missing))
    other = {"down_channels": (8, 8, 16), "up_channels": (16, 8)}
    with pytest.raises(UserError, match="does not fit this model"):
        Training(options_for(training_clips, tmp_path, data={**INTERPOLATION, "ends_from": recon}, model=other))
