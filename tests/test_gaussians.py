"""Laws of Gaussians and of the published activation."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from core.cameras import orbit_cameras
from core.gaussians import FAINT, RAW_CHANNELS, Gaussians, activate_published, split_raw
from core.rendering import make_renderer


def random_set(*lead: int, num: int = 5) -> Gaussians:
    return activate_published(torch.randn(*lead, num, RAW_CHANNELS, generator=torch.Generator().manual_seed(1)))


def test_raw_channels_keep_the_published_order() -> None:
    raw = split_raw(torch.arange(14.0))
    assert raw.position.tolist() == [0, 1, 2]
    assert raw.opacity.tolist() == [3]
    assert raw.scale.tolist() == [4, 5, 6]
    assert raw.quat.tolist() == [7, 8, 9, 10]
    assert raw.color.tolist() == [11, 12, 13]


def test_what_is_not_visible_draws_nothing() -> None:
    some = random_set(num=64)
    some = replace(some, opacities=some.opacities**6)
    seen = some.visible()
    assert 0 < seen.num < some.num and torch.equal(seen.opacities, some.opacities[some.opacities >= FAINT])
    cameras = orbit_cameras(torch.tensor([0.0, 90.0]), size=(32, 32))
    images = [make_renderer("numba")(one[None], cameras[None]).image for one in (some, seen)]
    assert torch.equal(*images) and images[0].min() < 0.9


def test_published_activation_of_zeros() -> None:
    gaussians = activate_published(torch.zeros(1, RAW_CHANNELS))
    assert gaussians.opacities.item() == 0.5
    torch.testing.assert_close(gaussians.scales, torch.full((1, 3), 0.1 * torch.log(torch.tensor(2.0)).item()))
    torch.testing.assert_close(gaussians.colors, torch.full((1, 3), 0.5))


def test_published_activation_stays_in_range_for_any_input() -> None:
    raw = 100 * torch.randn(200, RAW_CHANNELS, generator=torch.Generator().manual_seed(0))
    g = activate_published(raw)
    assert g.means.abs().max() <= 1
    assert 0 <= g.opacities.min() and g.opacities.max() <= 1
    assert g.scales.min() >= 0
    assert 0 <= g.colors.min() and g.colors.max() <= 1
    torch.testing.assert_close(g.quats.norm(dim=-1), torch.ones(200))


def test_half_precision_is_activated_in_float32() -> None:
    assert activate_published(torch.zeros(3, RAW_CHANNELS, dtype=torch.bfloat16)).means.dtype == torch.float32


def test_wrong_channel_count_is_refused_with_both_numbers() -> None:
    with pytest.raises(ValueError, match=r"14 channels, got 13"):
        split_raw(torch.zeros(13))


def test_indexing_keeps_the_gaussian_axis() -> None:
    gaussians = random_set(2, 3)
    assert gaussians.shape == (2, 3)
    assert gaussians.num == 5
    assert gaussians[0].shape == (3,)
    assert gaussians[:, 1:].shape == (2, 2)
    assert gaussians[1, 2].shape == ()
    with pytest.raises(IndexError, match="3 indices for 2 leading axes"):
        gaussians[0, 0, 0]


def test_fields_that_do_not_fit_are_named() -> None:
    g = random_set()
    with pytest.raises(ValueError, match=r"scales must be \(5, 3\)"):
        Gaussians(g.means, g.opacities, g.scales[:, :2], g.quats, g.colors)
