"""The filter that makes surfaces solid at every image size."""

from __future__ import annotations

import math

import torch

from core.cameras import orbit_cameras
from core.gaussians import FAINT, Gaussians
from core.nano.surface_filter import filled_opacities, filled_scales
from core.rendering import make_renderer

SPACING = 2 * 1.5 * math.tan(math.radians(49.1 / 2)) / 64  # of a 64 px image's rays


def wall(filtered: bool) -> Gaussians:
    """One black Gaussian a pixel of a 64 px image, as small as the network makes them, in the plane z = 0."""
    places = (torch.arange(48) - 23.5) * SPACING
    y, x = torch.meshgrid(places, places, indexing="ij")
    means = torch.stack([x, y, torch.zeros_like(x)], dim=-1).reshape(1, -1, 3)
    opacities, scales = torch.full(means.shape[:-1], 0.8), torch.full_like(means, 0.22 * SPACING)
    if filtered:
        opacities, scales = filled_opacities(opacities), filled_scales(scales, torch.tensor(SPACING))
    quats = torch.tensor([1.0, 0, 0, 0]).expand(*means.shape[:-1], 4)
    return Gaussians(means, opacities, scales, quats, torch.zeros_like(means))


def coverage(gaussians: Gaussians, size: int, mode: str) -> float:
    """Mean alpha in the middle of the wall."""
    alpha = make_renderer("numba", rasterize_mode=mode)(
        gaussians, orbit_cameras(torch.zeros(1, 1), size=(size, size))
    ).alpha
    middle = slice(size * 3 // 8, size * 5 // 8)
    return float(alpha[..., middle, middle].mean())


def test_a_wall_of_small_gaussians_is_a_lattice_without_the_filter_and_solid_with_it() -> None:
    for size in (64, 256, 512):
        for mode in ("classic", "antialiased"):
            assert coverage(wall(True), size, mode) > 0.9, (size, mode)
    assert coverage(wall(False), 64, "classic") > 0.85
    assert coverage(wall(False), 512, "classic") < 0.4


def test_opacities_rise_in_order_and_what_no_renderer_draws_stays_undrawn() -> None:
    before = torch.linspace(0, 1, 1001)
    after = filled_opacities(before)
    assert after[0] == 0 and after[-1] == 1
    assert (after.diff() > 0).all() and (after >= before).all()
    assert filled_opacities(torch.tensor(-6.0).sigmoid()) < FAINT  # a white pixel where a network starts


def test_scales_never_fall_below_the_filter_and_large_ones_hardly_change() -> None:
    assert torch.allclose(filled_scales(torch.zeros(3), torch.tensor(2.0)), torch.tensor(2 * math.sqrt(0.28)))
    assert torch.allclose(filled_scales(torch.tensor(50.0), torch.tensor(1.0)), torch.tensor(50.0), rtol=1e-3)
