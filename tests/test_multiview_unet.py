"""The multi-view U-Net against recorded numbers and published names, its laws over frames, and its cameras."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from core.multiview.poses import VIEW_ORDER, camera_numbers
from core.multiview.unet import IMAGEDREAM, MVDREAM, MultiViewUNet, UNetConfig, timestep_embedding
from tests.golden import filled

DATA = Path(__file__).parent / "data"
GOLDEN = json.loads((DATA / "golden_multiview_unet.json").read_text())
CONFIG = UNetConfig.from_json(GOLDEN["config"])


def recorded_input(name: str) -> torch.Tensor:
    shape, phase = GOLDEN["inputs"][name], GOLDEN["inputs"][f"{name}_phase"]
    count = torch.Size(shape).numel()
    return torch.sin(0.11 * torch.arange(count, dtype=torch.float64) + phase).float().reshape(shape)


@pytest.fixture(scope="module")
def unet() -> MultiViewUNet:
    return filled(MultiViewUNet(CONFIG))


@pytest.fixture(scope="module")
def inputs(unet: MultiViewUNet) -> dict[str, torch.Tensor]:
    """Of the recording: two groups of five frames, the fifth overwritten by the latent of the picture."""
    latents = recorded_input("x").reshape(2, 5, 4, 8, 8)
    latents[:, 4] = recorded_input("ip_img")
    with torch.inference_mode():
        image_tokens = unet.image_embed(recorded_input("ip"))
    return {
        "latents": latents,
        "timesteps": torch.full((2,), GOLDEN["inputs"]["timesteps"]),
        "context": torch.cat([recorded_input("context"), image_tokens], dim=1),
        "cameras": recorded_input("camera").reshape(2, 5, 16),
    }


def published(name: str) -> dict[str, tuple[int, ...]]:
    lines = (DATA / "published_tensors" / f"{name}.txt").read_text().splitlines()
    return {name: tuple(map(int, shape)) for name, *shape in map(str.split, lines)}


@pytest.mark.parametrize(("config", "name", "tensors"), [(IMAGEDREAM, "imagedream", 773), (MVDREAM, "mvdream", 690)])
def test_tensors_are_those_of_the_published_checkpoints(config: UNetConfig, name: str, tensors: int) -> None:
    with torch.device("meta"):
        ours = {name: tuple(value.shape) for name, value in MultiViewUNet(config).state_dict().items()}
    assert ours == published(f"{name}_unet")
    assert len(ours) == tensors


@torch.inference_mode()
def test_recorded_output_is_reproduced(unet: MultiViewUNet, inputs: dict) -> None:
    assert len(unet.state_dict()) == GOLDEN["num_tensors"]
    noise = unet(**inputs)
    assert list(noise.flatten(0, 1).shape) == GOLDEN["output_shape"]
    expected, noise = GOLDEN["output"], noise.flatten().double()
    assert noise.mean().item() == pytest.approx(expected["mean"], abs=1e-6)
    assert noise.std().item() == pytest.approx(expected["std"], rel=1e-5)
    assert noise.abs().max().item() == pytest.approx(expected["abs_max"], rel=1e-5)
    values = torch.tensor(expected["value"], dtype=torch.float64)
    torch.testing.assert_close(noise[expected["index"]], values, atol=1e-5, rtol=1e-5)


def test_recorded_timestep_embedding_is_reproduced() -> None:
    expected = GOLDEN["timestep_embedding_421_dim32"]
    embedding = timestep_embedding(torch.tensor([421]), 32)[0]
    torch.testing.assert_close(embedding[expected["index"]], torch.tensor(expected["value"]), atol=1e-6, rtol=0)


@torch.inference_mode()
def test_groups_do_not_see_each_other_and_frames_of_one_do(unet: MultiViewUNet, inputs: dict) -> None:
    """Batched guidance requires this: the two halves of a batch equal two calls."""
    both = unet(**inputs)
    alone = unet(**{name: value[: len(value) // 2] for name, value in inputs.items()})
    torch.testing.assert_close(both[:1], alone, atol=1e-5, rtol=1e-4)
    changed = inputs["latents"].clone()
    changed[0, 4] += 1
    moved = (unet(**{**inputs, "latents": changed}) - both).abs().amax(dim=(2, 3, 4))
    assert bool((moved[0] > 1e-4).all()), "the picture's frame reaches every view"
    assert float(moved[1].max()) < 1e-5


@torch.inference_mode()
def test_permuting_frames_with_their_cameras_permutes_the_noise(unet: MultiViewUNet, inputs: dict) -> None:
    order = torch.tensor([2, 0, 4, 1, 3])
    shared = {**inputs, "context": inputs["context"][[0, 5]]}
    mixed = {**shared, "latents": inputs["latents"][:, order], "cameras": inputs["cameras"][:, order]}
    torch.testing.assert_close(unet(**mixed), unet(**shared)[:, order], atol=1e-4, rtol=1e-3)


@torch.inference_mode()
def test_one_context_a_group_is_the_same_context_for_all_its_frames(unet: MultiViewUNet, inputs: dict) -> None:
    context = inputs["context"][[0, 7]]
    torch.testing.assert_close(
        unet(**{**inputs, "context": context}), unet(**{**inputs, "context": context.repeat_interleave(5, dim=0)})
    )


@torch.inference_mode()
def test_without_image_tokens_it_is_mvdream(inputs: dict) -> None:
    """Another context is another output: the text is read."""
    unet = filled(MultiViewUNet(replace(CONFIG, ip_dim=0)))
    views = {**inputs, "latents": inputs["latents"][:, :4], "cameras": inputs["cameras"][:, :4]}
    one, other = (unet(**{**views, "context": context}) for context in inputs["context"][:4].chunk(2))
    assert one.shape == (2, 4, 4, 8, 8)
    assert float((one - other).abs().max()) > 1e-4


def test_cameras_are_those_of_the_published_pipeline() -> None:
    """At elevation 0, rows of the 4x4 matrices; the extra frame is zero."""
    expected = [
        [1, 0, 0, 0, 0, 0, -1, -1, 0, 1, 0, 0, 0, 0, 0, 1],
        [0, 0, 1, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1],
        [-1, 0, 0, 0, 0, 0, 1, 1, 0, 1, 0, 0, 0, 0, 0, 1],
        [0, 0, -1, -1, -1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1],
        [0] * 16,
    ]
    torch.testing.assert_close(camera_numbers(extra_frames=1), torch.tensor(expected).float(), atol=1e-6, rtol=0)
    assert camera_numbers().shape == (4, 16)


def test_positive_elevation_is_above_and_the_picture_is_output_one() -> None:
    """In the model's world z is up; positions are in column 3."""
    positions = camera_numbers(30.0).reshape(4, 4, 4)[:, :3, 3]
    assert positions[:, 2].tolist() == pytest.approx([0.5] * 4)
    assert positions.norm(dim=-1).tolist() == pytest.approx([1.0] * 4)
    assert VIEW_ORDER == (1, 2, 3, 0)
    azimuths = torch.rad2deg(torch.atan2(positions[:, 0], -positions[:, 1]))[list(VIEW_ORDER)]
    assert ((azimuths - azimuths[0]) % 360).round().tolist() == [0, 90, 180, 270]
