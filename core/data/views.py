"""Choice of a sample's views, and the world frame of the first of them."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Generator

from core.cameras import Cameras, orbit_cameras
from core.data.clips import FIXED_VIEW_OFFSET, BrokenClip, Clip
from core.options import DataOptions

SAME_AZIMUTH = 0.5
"""Degrees; ring neighbours are 22.5 apart."""


def draw_views(clip: Clip, options: DataOptions, generator: Generator | None) -> list[int]:
    """View ids of one sample, inputs first; without a generator the published evaluation order.

    Inputs come from the fixed ring: any of them, or (orthogonal) one and those 90, 180 and 270 degrees further. The
    random views follow, then the rest of the ring.

    Raises:
        BrokenClip: the clip has too few views.
    """
    ring = [view_id for view_id in clip.view_ids if view_id >= FIXED_VIEW_OFFSET]
    others = [view_id for view_id in clip.view_ids if view_id < FIXED_VIEW_OFFSET]
    if generator is not None:
        ring, others = _shuffled(ring, generator), _shuffled(others, generator)
    if generator is not None and options.input_views == "random":
        inputs = ring[: options.num_input_views]
    else:
        turns = (_quarter_turns(clip, ring, first, options.num_input_views) for first in ring)
        inputs = next((turn for turn in turns if len(turn) == options.num_input_views), [])
    rest = others + [view_id for view_id in ring if view_id not in inputs]
    view_ids = [*inputs, *rest][: options.num_views]
    if len(inputs) < options.num_input_views or len(view_ids) < options.num_views:
        raise BrokenClip(
            clip.name,
            f"views {list(clip.view_ids)} give no {options.num_input_views} inputs and num_views {options.num_views}",
        )
    return view_ids


def _shuffled(values: list[int], generator: Generator) -> list[int]:
    return [values[i] for i in torch.randperm(len(values), generator=generator).tolist()]


def _quarter_turns(clip: Clip, ring: list[int], first: int, count: int) -> list[int]:
    """Ring views at 0 to ``count`` - 1 equal turns from the first, by stored azimuth; fewer where one is missing."""
    found = []
    for turn in range(count):
        target = clip.azimuth(first) + turn * 360.0 / count
        offsets = {view_id: abs((clip.azimuth(view_id) - target + 180.0) % 360.0 - 180.0) for view_id in ring}
        found += [view_id for view_id in ring if offsets[view_id] < SAME_AZIMUTH][:1]
    return found


def first_view_in_front(cameras: Cameras, radius: float) -> Cameras:
    """Move the world so that view 0 of frame 0 stands at (0, 0, radius) and looks along -z with y up.

    Args:
        cameras: leading axes ``[T, V]``. For a first view on the horizon this is a turn about the y axis.
    """
    front = orbit_cameras(0.0, radius=radius, dtype=cameras.c2w.dtype)
    return replace(cameras, c2w=front.c2w @ cameras.w2c[0, 0] @ cameras.c2w)
