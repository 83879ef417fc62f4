"""Fast weights in place of temporal attention: chunks in order, a memory that goes on, nothing from the future."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from core.architectures import build_model
from core.errors import UserError
from core.inference.network import Network
from core.inference.sequence import GaussianFrame, reconstruct
from core.lact.temporal import CHUNK, TemporalFastWeights, remembering
from core.model.unet import TemporalAttention
from core.options import CameraOptions, ModelOptions
from core.rendering.orbit import OrbitRenderer
from tests.tiny import SIZE, TINY_MODEL, square_frame, write_checkpoint

LACT = replace(TINY_MODEL, temporal="lact")
WIDTH, SIDE, VIEWS = 32, 4, 2


def layer() -> TemporalFastWeights:
    """One whose output counts."""
    torch.manual_seed(0)
    made = TemporalFastWeights(TemporalAttention(WIDTH, ModelOptions(num_heads=2, norm_groups=8)))
    nn.init.normal_(made.layer.c_proj.weight, std=0.2)
    return made.eval()


def features(frames: int) -> Tensor:
    return torch.randn(frames * VIEWS, WIDTH, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def test_chunks_of_a_video_give_what_the_whole_video_gives() -> None:
    made, x, memory = layer(), features(3 * CHUNK), {}
    whole = made(x, 3 * CHUNK, VIEWS)
    with remembering(made, memory):
        parts = [made(part, len(part) // VIEWS, VIEWS) for part in x.split([CHUNK * VIEWS, 2 * CHUNK * VIEWS])]
    # Updates are made of bfloat16 products: rounding of the last bits grows from chunk to chunk.
    torch.testing.assert_close(torch.cat(parts), whole, atol=6e-2, rtol=0)
    apart = torch.cat([made(part, CHUNK, VIEWS) for part in x.split(CHUNK * VIEWS)])
    assert (apart - whole)[CHUNK * VIEWS :].abs().mean() > 0.05, "the memory counts"
    assert made.memory is None


@torch.inference_mode()
def test_a_frame_sees_its_own_chunk_and_those_before_it() -> None:
    made, x = layer(), features(3 * CHUNK)
    before = made(x, 3 * CHUNK, VIEWS).unflatten(0, (3, CHUNK, VIEWS))
    changed = x.unflatten(0, (3, CHUNK, VIEWS)).clone()
    changed[1, 2, 0] += torch.randn(WIDTH, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    after = made(changed.flatten(0, 2), 3 * CHUNK, VIEWS).unflatten(0, (3, CHUNK, VIEWS))
    moved = (after - before).abs().amax((-3, -2, -1)) > 1e-6
    assert not moved[0].any(), "nothing from the future"
    assert moved[1:, :, 0].all(), "its chunk and what follows"
    assert not moved[:, :, 1].any(), "each view has a memory of its own"


def test_nano_starts_as_a_network_without_time() -> None:
    torch.manual_seed(0)
    model = build_model(LACT).eval()
    still = build_model(replace(LACT, use_temp_attn=False)).eval()
    still.load_state_dict({name: value for name, value in model.state_dict().items() if "t_attns" not in name})
    assert sum(isinstance(module, TemporalFastWeights) for module in model.modules()) == 6
    images, index = torch.rand(8, 31, SIZE, SIZE), torch.arange(8).reshape(1, 2, 4)
    with torch.inference_mode():
        torch.testing.assert_close(model.unet(images, index), still.unet(images, index))


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    torch.manual_seed(0)
    path = write_checkpoint(tmp_path_factory.mktemp("weights") / "lact.safetensors", model=LACT)
    network = Network(path, LACT, CameraOptions())
    for module in network.model.modules():
        if isinstance(module, TemporalFastWeights):
            nn.init.normal_(module.layer.c_proj.weight, std=0.2)
    return network


SIDES = torch.rand(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def run(network: Network, frames: list[Tensor], length: int, **options: object) -> list[GaussianFrame]:
    return list(
        reconstruct(frames, SIDES, length, network, OrbitRenderer(CameraOptions(renderer="numba"), SIZE), **options)
    )


def test_each_chunk_of_a_video_goes_on_from_the_memory_of_the_last(network: Network) -> None:
    frames = [square_frame(3 * k) for k in range(2 * CHUNK - 1)]
    found = run(network, frames, CHUNK, chunk_side_views="first", workers=2)
    assert [frame.time for frame in found] == list(range(len(frames)))
    second = torch.stack([frames[0], *frames[CHUNK:]])
    memory = network.new_memory()
    network.reconstruct(torch.stack(frames[:CHUNK]), SIDES, memory=memory)
    alone, after = (network.reconstruct(second, SIDES, memory=before) for before in (None, memory))
    last = found[-1].gaussians.means.mean(0)
    torch.testing.assert_close(last, after[-1].visible().means.mean(0))
    assert (last - alone[-1].visible().means.mean(0)).abs().max() > 1e-4, "the memory counts"


def test_the_memory_of_a_video_ends_with_it(network: Network) -> None:
    frames = [square_frame(3 * k) for k in range(CHUNK)]
    first, second = (run(network, frames, CHUNK, chunk_side_views="first") for _ in range(2))
    assert torch.equal(first[-1].views(), second[-1].views())
    memory = network.new_memory()
    network.reconstruct(torch.stack(frames), SIDES, memory=memory)
    size = [[weight.shape for weight in weights] for weights in memory.values()]
    network.reconstruct(torch.stack(frames), SIDES, memory=memory)
    assert size == [[weight.shape for weight in weights] for weights in memory.values()] and len(size) == 6


def test_half_precision_weights_give_nearly_the_same(network: Network) -> None:
    frames = torch.stack([square_frame(3 * k) for k in range(CHUNK)])
    half = Network(network.path, LACT, CameraOptions(), dtype=torch.bfloat16)
    own = Network(network.path, LACT, CameraOptions())
    means = (one.reconstruct(frames, SIDES).means.mean(1) for one in (half, own))
    torch.testing.assert_close(*means, atol=2e-2, rtol=0)


def test_a_checkpoint_with_attention_is_refused(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "attention.safetensors")
    with pytest.raises(UserError, match=r"does not fit this model: missing .*t_attns"):
        Network(path, LACT, CameraOptions())
