"""Cutting an object out of a plain background and centring it; variants of it for the single-view model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from core.errors import UserError
from core.gaussians import Gaussians
from core.media import read_video
from core.multiview.background import centered, foreground, is_white
from core.multiview.single_view import VARIANTS, Variant, variants_of, views_from_frame
from core.options import CameraOptions
from core.rendering.orbit import OrbitRenderer
from core.rotations import mirrored, scaled
from tests.tiny import lopsided_gaussians, square_frame

SIZE = 48


def ring(ground: float) -> torch.Tensor:
    """A dark ring of 12 rows and 20 columns off the centre; its inside has the colour of the background."""
    picture = torch.full((3, SIZE, 40), ground)
    picture[:, 5:17, 10:30] = 0.1
    picture[:, 9:13, 15:25] = ground
    return picture


@pytest.mark.parametrize("ground", [1.0, 0.5])
def test_only_background_connected_to_the_edge_is_removed(ground: float) -> None:
    mask = foreground(ring(ground), "x")
    assert int(mask.sum()) == 12 * 20, "the hole is no background"
    assert bool(mask[5:17, 10:30].all())


SPIRAL = """
..........
.########.
.#......#.
.#.####.#.
.#.#..#.#.
.#.#.##.#.
.#.#......
.#.####.#.
.########.
.........."""
LOZENGE = """
.....
..#..
.#O#.
..#..
....."""


@pytest.mark.parametrize("drawn", [SPIRAL, LOZENGE])
def test_background_reaches_round_corners_and_not_across_them(drawn: str) -> None:
    places = np.array([list(line) for line in drawn.split()])
    picture = torch.from_numpy(np.where(places == "#", 0.1, 1.0)).float().expand(3, -1, -1)
    assert np.array_equal(foreground(picture, "x").numpy(), places != ".")


def test_noise_is_tolerated_and_a_second_background_colour_is_refused() -> None:
    torch.manual_seed(0)
    noisy = (ring(0.6) + 0.02 * torch.randn(3, SIZE, 40)).clamp(0, 1)
    assert torch.equal(foreground(noisy, "x"), foreground(ring(0.6), "x"))
    halves = ring(1.0)
    halves[0, :, :22] = 0.0
    with pytest.raises(UserError, match=r"^x is not on a plain ground: cut the object out"):
        foreground(halves, "x")
    with pytest.raises(UserError, match=r"^x is empty"):
        foreground(torch.full((3, 8, 8), 0.3), "x")


def on(ground: torch.Tensor) -> torch.Tensor:
    """A frame of a video: a dark square on this ground ``[3, SIZE, SIZE]``."""
    frame = ground.clone()
    frame[:, 15:35, 15:35] = 0.2
    return frame


WHITE = torch.ones(3, SIZE, SIZE)
GRADIENT = torch.linspace(1, 0.3, SIZE)[:, None].expand(3, SIZE, SIZE)
NOISE = torch.randn(3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
GREEN = torch.tensor([0.1, 0.8, 0.2])[:, None, None].expand(3, SIZE, SIZE)
SHADOW = WHITE.clone()
SHADOW[:, 40:, 10:] = 0.7


@pytest.mark.parametrize("ground", [WHITE, (WHITE + 0.03 * NOISE).clamp(0, 1), WHITE * 0.96, SHADOW])
def test_white_is_white_with_noise_of_compression_and_a_shadow(ground: torch.Tensor) -> None:
    assert is_white(on(ground))


@pytest.mark.parametrize("ground", [WHITE * 0.02, GREEN, GRADIENT, WHITE * 0.8, (0.5 + 0.2 * NOISE).clamp(0, 1)])
def test_a_background_is_not_white(ground: torch.Tensor) -> None:
    assert not is_white(on(ground))


@pytest.mark.parametrize("name", ["beast", "mech", "trex", "truck"])
def test_the_sample_videos_are_on_white(name: str) -> None:
    assert is_white(next(read_video(Path(__file__).parents[1] / f"data_test/{name}.mp4").frames([0])))


def test_centred_object_has_80_percent_of_a_white_square() -> None:
    picture = ring(0.5)
    result = centered(picture, foreground(picture, "x"))
    assert result.shape == (3, SIZE, SIZE), "the longer side"
    rows, columns = (result.amin(0) < 0.9).nonzero().unbind(1)
    assert int(columns.max() - columns.min()) + 1 == int(0.8 * SIZE)
    assert int(rows.max() - rows.min()) + 1 == pytest.approx(0.8 * SIZE * 12 / 20, abs=1)
    for axis in (rows, columns):
        assert float(axis.min() + axis.max()) / 2 == pytest.approx((SIZE - 1) / 2, abs=0.6)
    assert bool((result[:, 0] == 1).all())


def test_variants_begin_with_the_unchanged_picture_and_keep_the_object_inside() -> None:
    assert VARIANTS[0] == Variant()
    small, large = torch.ones(3, SIZE, SIZE), torch.ones(3, SIZE, SIZE)
    small[:, 15:33, 15:33] = 0
    large[:, 2:46, 20:30] = 0
    assert variants_of(small, 99) == list(VARIANTS)
    assert {variant.zoom for variant in variants_of(large, 99)} == {0.7, 0.85, 1.0}
    assert variants_of(large, 2) == [Variant(), Variant(mirror=True)]
    assert len({str(variant) for variant in VARIANTS}) == len(VARIANTS)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_variants_are_undone_in_the_views(variant: Variant) -> None:
    """A model that sees through it (its Gaussians are mirrored and scaled as the picture is) gives the same views."""
    orbit = OrbitRenderer(CameraOptions(renderer="numba"), SIZE)
    true, seen = lopsided_gaussians(), []

    def reconstruct(front: torch.Tensor) -> Gaussians:
        seen.append(front[0])
        return scaled(mirrored(true) if variant.mirror else true, variant.zoom)

    frame = square_frame(3, SIZE, SIZE)
    views = views_from_frame(frame, reconstruct, orbit, variant)
    assert torch.equal(views[0], frame)
    torch.testing.assert_close(views[1:], orbit(true)[0, 1:], atol=1e-4, rtol=0)
    red = (seen[0][1] < 0.5).nonzero().float()
    expected = (frame[1] < 0.5).nonzero().float() - (SIZE - 1) / 2
    middle = variant.zoom * expected.mean(0) * torch.tensor([1.0, -1.0 if variant.mirror else 1.0])
    torch.testing.assert_close(red.mean(0) - (SIZE - 1) / 2, middle, atol=0.8, rtol=0)
    side = (red.amax(0) - red.amin(0) + 1).tolist()
    assert side == pytest.approx([24 * variant.zoom, 12 * variant.zoom], abs=1.5)
