"""A short clip whose frames and sides cannot be mistaken for one another, and the browser that plays it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import torch
from playwright.sync_api import Browser, sync_playwright

from core.cameras import orbit_cameras
from core.export.packed import GROUP, write_clip
from core.gaussians import Gaussians
from core.rendering import make_renderer
from tests.splat_scenes import random_gaussians

RATE = Fraction(10)
COUNTS = (600, 450, 0, 600, 520, 600)
# Without a GPU.
ARGUMENTS = "--no-sandbox --use-angle=swiftshader --enable-unsafe-swiftshader --ignore-gpu-blocklist".split()
NAMES = ("chromium", "chromium-browser", "google-chrome")


def moving_frames() -> list[Gaussians]:
    """Solid blobs that move to the right and change colour; frames differ in number, one is empty."""
    frames = []
    for time, count in enumerate(COUNTS):
        still = random_gaussians(num=600, scale=0.02, seed=3).to(torch.float32).select(torch.arange(count))
        means = 0.5 * still.means + torch.tensor([0.06 * time, 0.0, 0.0])
        colors = (still.colors + torch.tensor([0.0, 0.12, -0.12]) * time).clamp(0, 1)
        frames.append(replace(still, means=means, colors=colors))
    return frames


def tracked_frames(count: int = GROUP + 3) -> list[Gaussians]:
    """The same Gaussians in all frames, of which the means and quaternions move."""
    still = random_gaussians(num=200, seed=4).to(torch.float32)
    turn = torch.tensor([0.0, 0.1, 0.05, 0.0])
    return [replace(still, means=still.means + 0.01 * time, quats=still.quats + time * turn) for time in range(count)]


def write_moving_clip(path: Path, frames: Sequence[Gaussians] = ()) -> Path:
    """The frames, by default the moving ones, as a packed clip."""
    frames = frames or moving_frames()
    with write_clip(path, RATE, len(frames)) as clip:
        for frame in frames:
            clip.add(frame)
    return path


def render(gaussians: Gaussians, azimuth: float, size: int) -> torch.Tensor:
    """One image ``[3, size, size]`` from the orbit, on white."""
    cameras = orbit_cameras(torch.tensor([azimuth]), torch.zeros(1), size=(size, size)).expand(1, 1, 1)
    return make_renderer("numba")(gaussians[None, None], cameras, torch.ones(3)).image[0, 0, 0].clamp(0, 1)


def find_chromium() -> str | None:
    """The browser of the machine, or the one that playwright installs."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        with sync_playwright() as playwright:
            found = playwright.chromium.executable_path
    return found if os.path.exists(found) else None


@contextmanager
def browser() -> Iterator[Browser]:
    """Headless Chromium with WebGL in software."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=find_chromium(), args=ARGUMENTS)
        try:
            yield running
        finally:
            running.close()
