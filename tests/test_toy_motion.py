"""The toy of hidden motion: the tail follows the hand, the front does not show it, and the program runs."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Generator

from benchmarks import toy_motion
from benchmarks.toy_motion import _LIMB, samples, toy
from core.cameras import input_cameras
from core.gaussians import FAINT
from core.rendering import make_renderer

LIMB = _LIMB[0] * _LIMB[1]


def test_the_tail_is_raised_by_the_angle_of_the_hand() -> None:
    means = toy(3, 4, Generator().manual_seed(0)).means
    hand, tail = (part.unflatten(2, _LIMB)[:, :, :, -1] for part in means[:, :, -2 * LIMB :].split(LIMB, dim=2))
    tip, end = hand.mean(2), tail.mean(2)
    joint = means[:, :, -LIMB:].unflatten(2, _LIMB)[:, :, :, 0].mean(2)
    angle = torch.atan2(tip[..., 0], tip[..., 1])
    raised = torch.atan2((end - joint)[..., 1], (joint - end)[..., 2])
    torch.testing.assert_close(angle, raised, atol=1e-4, rtol=0)
    assert angle.std() > 0.3


def test_the_front_view_does_not_show_the_tail_and_the_side_view_does() -> None:
    truth, renderer = toy(4, 4, Generator().manual_seed(1)), make_renderer("numba")
    opacities = truth.opacities.clone()
    opacities[..., -LIMB:] = FAINT / 2
    cameras = input_cameras(size=32).expand(4, 4, 4)
    whole, without = (renderer(g, cameras).image for g in (truth, replace(truth, opacities=opacities)))
    changed = ((whole - without).abs().amax(dim=3) > 0.1).float().mean(dim=(0, 1, 3, 4))
    assert changed[0] < 0.01 < 0.03 < changed[1]


def test_samples_show_the_sides_of_the_first_frame_only() -> None:
    batch = samples(2, 16, make_renderer("numba"), Generator().manual_seed(2))
    assert batch.images.shape == (2, 4, 5, 3, 16, 16)
    seen = batch.grid.view_images
    assert torch.equal(seen[:, :, 0], batch.images[:, :, 0])
    assert torch.equal(seen[:, :, 1:], batch.images[:, :1, 1:4].expand_as(seen[:, :, 1:]))


def test_the_program_trains_and_writes_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["toy", "--steps", "1", "--size", "16", "--output", str(tmp_path / "toy.json")])
    monkeypatch.setattr(toy_motion, "_HELD_OUT", 1)
    toy_motion.main()
    rows = json.loads((tmp_path / "toy.json").read_text())["rows"]
    assert [(row["carrier"], row["step"]) for row in rows] == [(c, s) for c in ("attention", "code") for s in (0, 1)]
    assert all(row["sides, above frozen"] == row["sides"] - row["sides, frozen"] for row in rows)
    before, after = rows[2:]
    assert rows[0]["sides"] == before["sides"] != after["sides"], "a fresh code changes nothing; a step does"
