"""Terms of a training step beyond the published ones."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Generator, Tensor

from core.cameras import orbit_cameras
from core.data.batch import ClipBatch
from core.gaussians import Gaussians
from core.losses import LossWeights, training_loss
from core.rendering import make_renderer
from core.training.objective import StepResult, blur_term
from core.view_grid import ViewGrid

SIZE = 32


def spot(x: Tensor) -> Gaussians:
    """One small dark Gaussian at (x, 0, 0)."""
    place = torch.stack([x, torch.zeros(()), torch.zeros(())]).reshape(1, 1, 1, 3)
    ones = torch.ones(1, 1, 1)
    quats = torch.tensor([1.0, 0.0, 0.0, 0.0]).reshape(1, 1, 1, 4)
    return Gaussians(place, 0.9 * ones, 0.02 * torch.ones(1, 1, 1, 3), quats, torch.zeros(1, 1, 1, 3))


def errors(x: Tensor, target: float) -> tuple[Tensor, Tensor]:
    """Blurred and plain error of a spot at ``x`` whose true place is ``target``."""
    cameras, renderer = orbit_cameras(torch.zeros(1, 1, 1), size=(SIZE, SIZE)), make_renderer("numba")
    truth, render = renderer(spot(torch.tensor(target)), cameras), renderer(spot(x), cameras)
    grid = ViewGrid(truth.image[0, 0], cameras[0, 0], torch.zeros(1, 1, 1, dtype=torch.int64))
    numbers = torch.zeros(1, 1, dtype=torch.int64)
    batch = ClipBatch(grid, truth.image, truth.alpha, cameras, numbers, numbers, ("spot",))
    plain = training_loss(
        render.image, render.alpha, batch.images, batch.masks, replace(LossWeights(), lpips=0.0), None, None
    )["total"]
    return blur_term(StepResult(spot(x), render, batch, Generator())), plain


@pytest.mark.parametrize("target", [-0.2, 0.2])
def test_blurred_errors_pull_towards_a_place_beyond_the_spot(target: float) -> None:
    x = torch.tensor(0.0, requires_grad=True)
    blurred, plain = errors(x, target)
    (pull,) = torch.autograd.grad(blurred, x, retain_graph=True)
    (none,) = torch.autograd.grad(plain, x)
    assert pull * target < 0, "descent goes to the target"
    assert none == 0


def test_blurred_errors_of_the_truth_are_zero() -> None:
    assert errors(torch.tensor(0.1), 0.1)[0] == 0
