"""Render GLB files to training clips: multi-view images of every frame, one tar per clip and camera mode.

    python blender_scripts/render_objaverse.py --obj model.glb --out_dir data
    blender -b -P blender_scripts/render_objaverse.py -- --obj model.glb --out_dir data

``--obj`` takes files, folders and text files that list files; ``-`` reads file names from standard input.
Existing clips are skipped, so the same command resumes. A file that cannot be rendered is one row of the report with
the reason. For many files, with time limits and after crashes: render_dataset.py.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # Blender starts a script without its folder

from blender_scripts import clips, rig
from blender_scripts.catalogue import find_items, missing_files
from blender_scripts.render_options import add_render_options, check_render_options
from core.errors import UserError

if TYPE_CHECKING:
    from blender_scripts.scene import ClipScene

MAX_STILL = 24
"""Stop with an object after this number of consecutive clips without motion: some animations take many minutes."""


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the command line; with ``blender -b -P script -- ...`` only the part after ``--``."""
    if "--" in argv:
        argv = argv[argv.index("--") + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("objects", nargs="*", metavar="FILE", help="the same as --obj")
    add("--obj", "--object_path", nargs="+", default=[], help="GLB files, folders of them, .txt lists of them, or -")
    out_flags = ("--out_dir", "--output_dir", "--output_folder")
    add(*out_flags, type=Path, required=True, help="data home: folder for tars and data lists")
    add("--shard", type=_shard, default=(0, 1), help="i/n: take every n-th file from the i-th on")
    add("--report", type=Path, help="append one JSON line per clip or failed file")
    add_render_options(parser)
    _add_published_flags(parser.add_argument_group("published options, accepted"))
    args = parser.parse_intermixed_args(argv)
    args.obj += args.objects
    if not args.obj:
        parser.error("nothing to render: give GLB files")
    if args.engine in ("auto", "cpu", "gpu"):
        args.device = args.engine
    check_render_options(args, parser.error)
    return args


def _add_published_flags(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--engine", choices=("CYCLES", "auto", "cpu", "gpu"), default="CYCLES", help="Cycles; or the same as --device")
    add("--format", choices=("PNG",), default="PNG", help="clips hold JPEG images and PNG masks")
    add("--gpu", type=int, help="no effect: all GPUs of a machine render")
    add("--step_angle", type=int, help="no effect")


def _shard(text: str) -> tuple[int, int]:
    """Parse ``i/n``, 0 <= i < n."""
    index, count = map(int, text.split("/"))
    if not 0 <= index < count:
        raise ValueError(text)
    return index, count


def render_object(path: Path, args: argparse.Namespace) -> Iterator[dict]:
    """Render the selected clips of one file; yield a report row for each.

    An object is static if it has no animation or no animation moves it: it gets one frame, or with ``--rigid_motion`` a
    clip of a rigid motion.
    """
    from blender_scripts.scene import ClipScene  # here, because importing Blender takes seconds

    quality = (args.resolution, args.samples, args.filter_width)
    scene = ClipScene(path, *quality, args.device, args.threads, args.lights)
    lengths = scene.lengths
    if args.animation != "all":
        index = int(args.animation)
        if index not in lengths:
            raise UserError(f"{path}: has no animation {index}; it has {len(lengths)}, counted from 0")
        lengths = {index: lengths[index]}
    note = {"note": f"missing: {', '.join(lost)}"} if (lost := missing_files(path)) else {}
    done = still = 0
    # No limit here: clips without motion do not count.
    for animation, clip in clips.choose_clips(lengths, None):
        if still == MAX_STILL or (args.max_clips is not None and done >= args.max_clips):
            break
        row = _row(scene, path, animation, clip, args)
        done += row["status"] in ("rendered", "exists")
        still = still + 1 if row["status"] == "skipped" else 0
        yield row | note
    if not done and args.animation == "all" and args.max_clips != 0:
        yield _row(scene, path, None, 0, args) | note


def _row(scene: ClipScene, path: Path, animation: int | None, clip: int, args: argparse.Namespace) -> dict:
    """Render one clip (``animation`` None: the static object); its report row."""
    started = time.perf_counter()
    line = clips.clip_line(path.resolve().parent.name, path.stem, animation or 0, clip)
    row = {"file": str(path), "animation": animation, "clip": clip, "line": line}
    try:
        row |= _render_clip(scene, line, animation, clip, args)
    except UserError as error:
        row |= {"status": "failed", "reason": str(error)}
    return row | {"seconds": round(time.perf_counter() - started, 2)}


def _render_clip(scene: ClipScene, line: str, animation: int | None, clip: int, args: argparse.Namespace) -> dict:
    modes = ("fixed", "random") if args.mode == "both" else (args.mode,)
    static = animation is None and not args.rigid_motion
    # A static object has no frame rate: its clip gets the name of the slower one.
    rates = [max(args.downsample)] if static else args.downsample
    targets: dict[tuple[int, str], Path] = {}
    for rate in rates:
        kinds = clips.clip_kinds(1 if static else clips.SCENE_FPS // rate)
        targets |= {(rate, mode): clips.clip_path(args.out_dir, kinds[mode], line) for mode in modes}
    files = {"files": [target.name for target in targets.values()]}
    missing = {key: target for key, target in targets.items() if not target.exists()}
    if not missing:
        return {"status": "exists"} | files
    if static:
        frames, span = {rate: [0] for rate in rates}, [0]
    else:
        length = scene.lengths[animation] if animation is not None else clips.CLIP_SCENE_FRAMES + 1
        cyclic = animation is None
        if animation is None:
            scene.move_rigidly(lambda frame: rig.rigid_motion(frame, args.seed, line))
        else:
            scene.play(animation)
            cyclic = scene.is_cyclic(length)
        start = clips.clip_starts(length)[clip]
        limit = args.fixed_animation_length
        frames = {rate: clips.clip_frames(start, length, rate, limit, cyclic) for rate in rates}
        span = clips.clip_frames(start, length, 1, None, cyclic)  # all frame rates share one scale and centre
    motion = scene.normalise(span, args.scale)
    if animation is not None and motion < args.min_motion:
        return {"status": "skipped", "reason": f"nothing moves (motion {motion:.4f})"}
    if args.random_lights:
        scene.rig.light(np.random.default_rng([args.seed, *line.encode()]))
    views = {"fixed": rig.fixed_views(args.views, args.view_step)}
    views["random"] = rig.random_views(args.random_views, args.seed, line)
    jobs: dict[int, dict[rig.View, None]] = {}  # frame -> missing views; a dictionary keeps their order
    for rate, mode in missing:
        for frame in frames[rate]:
            jobs.setdefault(frame, {}).update(dict.fromkeys(views[mode]))
    images = scene.render({frame: list(missing_views) for frame, missing_views in jobs.items()})
    for (rate, mode), target in missing.items():
        clips.write_clip(target, {view: [images[view, frame] for frame in frames[rate]] for view in views[mode]})
    measured = {"images": len(images), "motion": round(motion, 4), "device": scene.device}
    return {"status": "rendered"} | files | measured


def main(argv: list[str]) -> int:
    """Render, report, write the lists; exit status 2 if anything failed."""
    args = parse(argv)
    from_input = args.obj == ["-"]
    index, count = args.shard
    paths: Iterable[Path] = () if from_input else [item.fetch() for item in find_items(args.obj)[index::count]]
    if importlib.util.find_spec("bpy") is None:
        raise UserError("Blender is missing here: `make render-env`, then run this with .venv-render/bin/python")
    if importlib.util.find_spec("PIL") is None:
        raise UserError(f"Blender's own Python lacks Pillow; once: {sys.executable} -m pip install pillow")
    if from_input:
        paths = (Path(line.strip()) for line in iter(sys.stdin.readline, "") if line.strip())
    statuses: list[str] = []
    for path in paths:
        started = time.perf_counter()
        for row in _rows(path, args):
            statuses.append(row["status"])
            _report(row, args.report, sys.stderr if row["status"] == "failed" and not from_input else sys.stdout)
        if from_input:  # tells the parent process that the file is finished
            _report({"status": "done", "seconds": round(time.perf_counter() - started, 2)}, None, sys.stdout)
    failed = statuses.count("failed")
    if not from_input:
        print(f"{len(statuses)} clips, {failed} failed; lists in {args.out_dir}: {clips.write_datalists(args.out_dir)}")
    return 2 if failed else 0


def _rows(path: Path, args: argparse.Namespace) -> Iterator[dict]:
    """The rows of a file; any exception from Blender or its importer becomes a row too."""
    try:
        yield from render_object(path, args)
    except Exception as error:  # a damaged file can raise anything in the importer and must not stop the others
        reason = str(error) if isinstance(error, UserError) else f"{path}: {type(error).__name__}: {error}"
        yield {"file": str(path), "animation": None, "status": "failed", "reason": " ".join(reason.split())}


def _report(row: dict, report: Path | None, stream: TextIO) -> None:
    text = json.dumps(row)
    print(text, file=stream, flush=True)
    if report:
        report.parent.mkdir(parents=True, exist_ok=True)
        with report.open("a") as file:
            file.write(text + "\n")


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
