"""What a fit starts from: frame 0 reconstructed from turned and mirrored views, the best of them, jittered centres."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from core.cameras import orbit_cameras
from core.gaussians import Gaussians
from core.inference.refine import turned_reconstructions
from core.options import CameraOptions
from core.rendering import make_renderer
from core.rendering.orbit import render_in_parts
from core.rotations import covariances, turn
from core.tracking.canonical import jittered
from core.tracking.observations import Observations, best_start, observe
from tests.tiny import lopsided_gaussians

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = 32


class EquivariantNetwork:
    """Each view becomes one Gaussian before it, in its mean colour, shifted towards its brighter half."""

    size = SIZE

    def reconstruct(self, frames: Tensor, side_views: Tensor) -> Gaussians:
        views = torch.cat([frames, side_views])
        left, right = (half.mean((1, 2, 3)) for half in views.chunk(2, dim=-1))
        scales, quats = torch.tensor([[0.2, 0.1, 0.05]]), torch.tensor([[1.0, 0.0, 0.0, 0.0]])
        parts = []
        for number, view in enumerate(views):
            centre = torch.stack([right[number] - left[number], view.mean(), torch.tensor(0.5)])
            one = Gaussians(centre[None], torch.ones(1), scales, quats, view.mean((1, 2))[None])
            parts.append(turn(one, 90.0 * number))
        return Gaussians(*(torch.cat([getattr(one, f.name) for one in parts])[None] for f in fields(Gaussians)))


def seen_with(front: Tensor, sides: Tensor | None, frames: list[Gaussians], others: list[Gaussians]) -> Observations:
    generator = torch.Generator().manual_seed(0)
    renderer, camera = make_renderer("numba"), CameraOptions()
    return observe(front, sides, frames, renderer, camera, generator, others, bank_views=2, bank_size=SIZE)


def four_views(gaussians: Gaussians) -> Tensor:
    cameras = orbit_cameras(torch.tensor([[0.0, 90.0, 180.0, 270.0]]), size=(SIZE, SIZE))
    return render_in_parts(make_renderer("numba"), gaussians[None], cameras)[0][0].clone()


def test_turned_and_mirrored_views_give_the_same_frame_where_the_network_is_equivariant() -> None:
    views = torch.rand(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    plain = EquivariantNetwork().reconstruct(views[:1], views[1:])[0]
    others = turned_reconstructions(EquivariantNetwork(), views[0], views[1:])
    assert len(others) == 4
    for other in others:
        same = torch.cdist(plain.colors, other.colors).argmin(dim=1)
        torch.testing.assert_close(other.means[same], plain.means)
        torch.testing.assert_close(covariances(other)[same], covariances(plain))


def test_the_bank_shows_the_mean_of_the_reconstructions_of_frame_0_alone() -> None:
    first, second = lopsided_gaussians()[0], turn(lopsided_gaussians()[0], 90.0)
    views = four_views(first)
    own, other, both = (
        seen_with(views[:1].expand(2, -1, -1, -1), views[1:], [first, first], others).bank
        for others in ([], [second], [first, second])
    )
    torch.testing.assert_close(both.images[0], (own.images[0] + other.images[0]) / 2)
    torch.testing.assert_close(both.alpha[0], (own.alpha[0] + other.alpha[0]) / 2)
    assert not torch.equal(own.images[0], other.images[0]) and torch.equal(own.images[1], other.images[1])


def test_a_fit_starts_from_the_reconstruction_that_repeats_the_true_views() -> None:
    """The front alone would choose a set that is right from there and wrong from the sides."""
    true = lopsided_gaussians()[0]
    flat = replace(true, means=true.means * torch.tensor([1.0, 1.0, 0.5]))
    near = replace(true, means=true.means + torch.tensor([0.0, 0.04, 0.0]))
    views = four_views(true)
    for sides, best in ((views[1:], near), (None, flat)):
        seen = seen_with(views[:1], sides, [true], [])
        assert best_start([flat, near], seen, make_renderer("numba")) is best


def test_jittered_centres_are_off_by_the_noise_and_nothing_else_changes() -> None:
    gaussians = lopsided_gaussians()[0].map(lambda field: field.repeat(100, *[1] * (field.ndim - 1)))
    off = jittered(gaussians, 0.02, torch.Generator().manual_seed(0))
    offsets = off.means - gaussians.means
    assert float(offsets.std()) == pytest.approx(0.02, rel=0.05) and float(offsets.mean().abs()) < 1e-3
    assert all(getattr(off, f.name) is getattr(gaussians, f.name) for f in fields(Gaussians) if f.name != "means")
    assert torch.equal(jittered(gaussians, 0.0, torch.Generator()).means, gaussians.means)
