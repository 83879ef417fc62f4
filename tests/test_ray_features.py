"""Ray features: means of waves along the central ray of each patch, and a network that takes them."""

from __future__ import annotations

from dataclasses import replace

import torch

from core.lact.ray_features import frequencies, ray_features
from tests.lact_place import TINY, pictures, ring, tiny_lact


def test_a_feature_is_the_mean_of_a_wave_along_the_ray() -> None:
    """Against a sum over many points."""
    origins, directions = ring(2, dtype=torch.float64).rays()
    found = ray_features(origins, directions, patch=1, count=6)[0].reshape(-1, 12)
    o, d = origins.reshape(-1, 3), directions.reshape(-1, 3)
    nearest = o - (o * d).sum(-1, keepdim=True) * d
    steps = (torch.arange(2000, dtype=torch.float64) + 0.5) / 1000 - 1
    points = nearest[:, None] + steps[:, None] * d[:, None]
    phase = points @ frequencies(6).T
    torch.testing.assert_close(found, torch.cat([phase.cos().mean(1), phase.sin().mean(1)], -1), atol=1e-5, rtol=0)


def test_a_patch_has_the_features_of_its_central_ray() -> None:
    cameras = ring(1, size=(16, 16), dtype=torch.float64)
    coarse = replace(cameras, intrinsics=cameras.intrinsics.clone(), size=(4, 4))
    coarse.intrinsics[..., :2, :] /= 4
    patches = ray_features(*cameras.rays(), patch=4, count=8)
    torch.testing.assert_close(patches, ray_features(*coarse.rays(), patch=1, count=8), atol=2e-2, rtol=0)


def test_frequencies_grow_from_1_to_12_and_point_everywhere() -> None:
    waves = frequencies(64)
    length = waves.norm(dim=-1)
    torch.testing.assert_close(length[[0, -1]], torch.tensor([1.0, 12.0], dtype=torch.float64))
    assert (length.diff() > 0).all()
    directions = waves / length[:, None]
    assert directions.mean(0).abs().max() < 0.05
    assert (directions.T @ directions / 64 - torch.eye(3) / 3).abs().max() < 0.05


def test_the_network_has_them_in_both_ways_of_running() -> None:
    model = tiny_lact(ray_frequencies=8)
    assert TINY.ray_frequencies == 0 and model.ray_linear.weight.shape == (TINY.dim, 16)
    with torch.no_grad():
        joint = model(pictures(3), ring(3), ring(2, offset=17))
        state = model.reconstruct(pictures(3), ring(3))
        torch.testing.assert_close(model.render(state, ring(2, offset=17)), joint, atol=1e-6, rtol=0)
        model.ray_linear.weight.zero_()
        assert (model(pictures(3), ring(3), ring(2, offset=17)) - joint).abs().max() > 1e-4
