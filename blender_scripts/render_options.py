"""The options of a render: shared by the script that renders and the one that renders a whole catalogue."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from blender_scripts import clips


def add_render_options(
    parser: argparse.ArgumentParser | argparse._ArgumentGroup, device_flags: tuple[str, ...] = ("--device",)
) -> list[str]:
    """Add all options but what is rendered and where it goes; their names."""
    names: list[str] = []

    def add(*flags: str, **options: object) -> None:
        names.append(parser.add_argument(*flags, **options).dest)

    add("--mode", choices=("fixed", "random", "both"), default="both", help="camera modes")
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
    add("--animation", default="all", help="index of one animation, or all")
    add("--max_clips", type=int, help="at most so many clips an object, spread over its animations")
    add(
        "--downsample",
        type=int,
        nargs="+",
        default=[3],
        help="take every n-th of 24 scene frames a second: 3 = 8 fps, 1 = 24 fps, `3 1`: both from the same renders",
    )
    add("--fixed_animation_length", type=int, help="at most so many frames a clip")
    add("--min_motion", type=float, default=0.005, help="drop clips in which nothing moves this fraction of the size")
    add("--rigid_motion", action="store_true", help="static objects move as a whole and become clips like the others")
    add("--random_lights", action="store_true", help="every clip has lights of its own, near the standard ones")
    add("--scale", type=float, default=1.0, help="longest side of the bounding box, world units")
    add("--seed", type=int, default=0, help="of the random cameras, lights and rigid motions")
    add(*device_flags, choices=("auto", "cpu", "gpu"), default="auto", help="where Cycles renders")
    add("--threads", type=int, default=0, help="Cycles threads on the CPU; 0 = all cores")
    return names


def check_render_options(args: argparse.Namespace, error: Callable[[str], None]) -> None:
    """Fill in what depends on other options; ``error`` is called with what is wrong."""
    if args.random_views is None:
        args.random_views = args.views if args.mode == "random" else 32
    for name in ("views", "view_step", "random_views", "resolution", "samples"):
        if getattr(args, name) < 1:
            error(f"--{name} must be at least 1, got {getattr(args, name)}")
    for downsample in args.downsample:
        if not 1 <= downsample <= clips.CLIP_SCENE_FRAMES:
            error(f"--downsample {downsample}: a clip has {clips.CLIP_SCENE_FRAMES} scene frames")
    kinds = [clips.clip_kinds(clips.SCENE_FPS // downsample)["fixed"] for downsample in args.downsample]
    if len(set(kinds)) < len(kinds):
        error(f"--downsample {args.downsample}: two of these would write the same files")
    if args.scale <= 0:
        error(f"--scale must be positive, got {args.scale}")
    if args.animation != "all" and not args.animation.isdecimal():
        error(f"--animation takes an index or all, got {args.animation}")
