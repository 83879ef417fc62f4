"""Render options, shared by `render_objaverse.py` and `render_dataset.py`."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from blender_scripts import clips
from blender_scripts.rig import LIGHTS


def add_render_options(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> list[str]:
    """Add all options except input and output; return their names."""
    names: list[str] = []

    def add(*flags: str, **options: object) -> None:
        names.append(parser.add_argument(*flags, **options).dest)

    add("--mode", "--camera_option", choices=("fixed", "random", "both"), default="both", help="camera modes")
    add("--views", "--num_views", type=int, default=16, help="fixed views on the horizon (--mode random: random views)")
    add("--view_step", type=int, default=1, help="render every n-th fixed view only; view numbers stay")
    add("--random_views", type=int, help="random views (default 32; with --mode random, as many as --views)")
    add("--resolution", type=int, default=512, help="image width and height, pixels")
    add("--samples", type=int, default=16, help="Cycles samples a pixel")
    add(
        "--filter_width",
        type=float,
        default=0.01,
        help="pixel filter, pixels; 1.5 avoids jagged edges at low resolution",
    )
    add("--animation", "--animation_idx", default="all", help="index of one animation, or all")
    add("--max_clips", type=int, help="maximum number of clips an object, spread over its animations")
    add(
        "--downsample",
        type=int,
        nargs="+",
        default=[3],
        help="take every n-th of 24 scene frames a second: 3 = 8 fps, 1 = 24 fps, `3 1`: both from the same renders",
    )
    add("--fixed_animation_length", type=int, help="maximum number of frames a clip; -1: all")
    add("--min_motion", type=float, default=0.005, help="skip clips with less motion: fraction of the size")
    add("--rigid_motion", action="store_true", help="move static objects rigidly, as animated clips")
    add("--lights", choices=tuple(LIGHTS), default="soft", help="soft: from all sides; published: as L4GM, no shadows")
    add("--random_lights", action="store_true", help="vary directions and energies of the lights from clip to clip")
    add("--scale", type=float, default=1.0, help="longest side of the bounding box, world units")
    add("--seed", type=int, default=0, help="of the random cameras, lights and rigid motions")
    add("--device", choices=("auto", "cpu", "gpu"), default="auto", help="device for Cycles")
    add("--threads", type=int, default=0, help="Cycles threads on the CPU; 0 = all cores")
    return names


def check_render_options(args: argparse.Namespace, error: Callable[[str], None]) -> None:
    """Fill in values that depend on other options and check all of them.

    Args:
        error: called with a message for a wrong value.
    """
    if args.random_views is None:
        args.random_views = args.views if args.mode == "random" else 32
    if args.fixed_animation_length == -1:  # as published
        args.fixed_animation_length = None
    for name in ("views", "view_step", "random_views", "resolution", "samples", "fixed_animation_length"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            error(f"--{name} must be at least 1, got {getattr(args, name)}")
    for downsample in args.downsample:
        if not 1 <= downsample <= clips.CLIP_SCENE_FRAMES:
            error(f"--downsample {downsample}: a clip has {clips.CLIP_SCENE_FRAMES} scene frames")
    kinds = [clips.clip_kinds(clips.SCENE_FPS // downsample)["fixed"] for downsample in args.downsample]
    if len(set(kinds)) < len(kinds):
        error(f"--downsample {args.downsample}: two of these write the same files")
    if args.scale <= 0:
        error(f"--scale must be positive, got {args.scale}")
    if args.animation != "all" and not args.animation.isdecimal():
        error(f"--animation takes an index or all, got {args.animation}")
