"""Render GLB files to training clips: multi-view images of every frame, one tar per clip and camera mode.

    python blender_scripts/render_objaverse.py --obj model.glb --out_dir data
    blender -b -P blender_scripts/render_objaverse.py -- --obj model.glb --out_dir data

``--obj`` takes files, folders and text files that list files. Clips that exist are skipped, so a run resumes.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # Blender starts a script without its folder

from blender_scripts import clips, rig
from core.errors import UserError

if TYPE_CHECKING:
    from blender_scripts.scene import ClipScene

SUFFIXES = (".glb", ".gltf")


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the command line; under ``blender -b -P script -- ...`` only what stands behind ``--``."""
    if "--" in argv:
        argv = argv[argv.index("--") + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--obj", "--object_path", nargs="+", required=True, help="GLB files, folders of them, or .txt lists of them")
    add("--out_dir", "--output_dir", type=Path, required=True, help="data home: tars and data lists go here")
    add("--mode", choices=("fixed", "random", "both"), default="both", help="camera modes")
    add(
        "--views",
        "--num_views",
        type=int,
        default=16,
        help="fixed views round the horizon (--mode random: random views)",
    )
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
    add("--downsample", type=int, default=3, help="take every n-th of 24 scene frames a second: 3 = 8 fps, 1 = 24 fps")
    add("--fixed_animation_length", type=int, help="at most so many frames a clip")
    add("--min_motion", type=float, default=0.005, help="drop clips in which nothing moves this fraction of the size")
    add("--scale", type=float, default=1.0, help="longest side of the bounding box, world units")
    add("--seed", type=int, default=0, help="of the random cameras")
    add("--device", "--engine", choices=("auto", "cpu", "gpu"), default="auto", help="where Cycles renders")
    add("--threads", type=int, default=0, help="Cycles threads on the CPU; 0 = all cores")
    add(
        "--shard", type=_shard, default=(0, 1), help="i/n: take every n-th file from the i-th on, for several processes"
    )
    add("--report", type=Path, help="append one JSON line per clip or failed file")
    args = parser.parse_args(argv)
    if args.random_views is None:
        args.random_views = args.views if args.mode == "random" else 32
    for name in ("views", "view_step", "random_views", "resolution", "samples", "downsample"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(args, name)}")
    if args.downsample > clips.CLIP_SCENE_FRAMES:
        parser.error(f"--downsample {args.downsample}: a clip has {clips.CLIP_SCENE_FRAMES} scene frames")
    if args.scale <= 0:
        parser.error(f"--scale must be positive, got {args.scale}")
    if args.animation != "all" and not args.animation.isdecimal():
        parser.error(f"--animation takes an index or all, got {args.animation}")
    return args


def _shard(text: str) -> tuple[int, int]:
    """Parse ``i/n``, 0 <= i < n."""
    index, count = map(int, text.split("/"))
    if not 0 <= index < count:
        raise ValueError(text)
    return index, count


def find_objects(sources: list[str]) -> list[Path]:
    """All glTF files of the sources: files as given, folders searched through, .txt files read line by line.

    Raises:
        UserError: a source does not exist, is of another type, or nothing was found.
    """
    found: list[Path] = []
    for source in map(Path, sources):
        if source.is_dir():
            found += sorted(path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES)
        elif not source.exists():
            raise UserError(f"{source}: no such file or folder; --obj takes .glb or .gltf files, folders, .txt lists")
        elif source.suffix == ".txt":
            found += [Path(line.strip()) for line in source.read_text().splitlines() if line.strip()]
        elif source.suffix.lower() in SUFFIXES:
            found.append(source)
        else:
            raise UserError(f"{source}: not a .glb or .gltf file, a folder, or a .txt list of files")
    if not found:
        raise UserError(f"no .glb or .gltf file in {', '.join(sources)}")
    return found


def render_object(path: Path, args: argparse.Namespace) -> Iterator[dict]:
    """Render all wanted clips of one file; yield a report row for each."""
    from blender_scripts.scene import ClipScene  # here, because importing Blender takes seconds

    scene = ClipScene(path, args.resolution, args.samples, args.filter_width, args.device, args.threads)
    lengths = scene.lengths
    if args.animation != "all":
        wanted = int(args.animation)
        if wanted not in lengths:
            raise UserError(f"{path}: has no animation {wanted}; it has {len(lengths)}, counted from 0")
        lengths = {wanted: lengths[wanted]}
    static = not lengths
    done = 0
    # More candidates than clips: those that do not move are passed over.
    for animation, clip in [(0, 0)] if static else clips.choose_clips(lengths, None):
        if args.max_clips is not None and done >= args.max_clips:
            break
        row = {"file": str(path), "animation": animation, "clip": clip}
        started = time.perf_counter()
        try:
            result = _render_clip(scene, path, animation, clip, static, args)
        except UserError as error:
            result = {"status": "failed", "reason": str(error)}
        done += result["status"] in ("rendered", "exists")
        yield row | result | {"seconds": round(time.perf_counter() - started, 2)}


def _render_clip(
    scene: ClipScene, path: Path, animation: int, clip: int, static: bool, args: argparse.Namespace
) -> dict:
    kinds = clips.clip_kinds(clips.SCENE_FPS // args.downsample)
    modes = ("fixed", "random") if args.mode == "both" else (args.mode,)
    line = clips.clip_line(path.resolve().parent.name, path.stem, animation, clip)
    targets = {mode: clips.clip_path(args.out_dir, kinds[mode], line) for mode in modes}
    missing = {mode: target for mode, target in targets.items() if not target.exists()}
    if not missing:
        return {"status": "exists", "line": line}
    if static:
        frames, span = [0], [0]
    else:
        length = scene.lengths[animation]
        scene.play(animation)
        cyclic = scene.is_cyclic(length)
        start = clips.clip_starts(length)[clip]
        frames = clips.clip_frames(start, length, args.downsample, args.fixed_animation_length, cyclic)
        span = clips.clip_frames(start, length, 1, None, cyclic)  # 8 and 24 fps share one scale and centre
    motion = scene.normalise(span, args.scale)
    if not static and motion < args.min_motion:
        return {"status": "skipped", "reason": f"nothing moves (motion {motion:.4f})", "line": line}
    views = {"fixed": rig.fixed_views(args.views, args.view_step)}
    views["random"] = rig.random_views(args.random_views, args.seed, line)
    images = scene.render(frames, [view for mode in missing for view in views[mode]])
    for mode, target in missing.items():
        clips.write_clip(target, {view: images[view] for view in views[mode]})
    return {"status": "rendered", "line": line, "frames": len(frames), "views": len(images), "motion": round(motion, 4)}


def main(argv: list[str]) -> int:
    """Render, report, write the lists; exit status 2 if anything failed."""
    args = parse(argv)
    index, count = args.shard
    paths = find_objects(args.obj)[index::count]
    if importlib.util.find_spec("bpy") is None:
        raise UserError("Blender is missing here: `make render-env`, then run this with .venv-render/bin/python")
    rows = []
    for path in paths:
        try:
            for row in render_object(path, args):
                rows.append(row)
                _report(row, args.report)
        except UserError as error:
            rows.append({"file": str(path), "animation": None, "status": "failed", "reason": str(error)})
            _report(rows[-1], args.report)
    lists = clips.write_datalists(args.out_dir)
    failed = sum(row["status"] == "failed" for row in rows)
    print(f"{len(rows)} clips, {failed} failed; lists in {args.out_dir}: {lists}")
    return 2 if failed else 0


def _report(row: dict, report: Path | None) -> None:
    text = json.dumps(row)
    print(text, file=sys.stderr if row["status"] == "failed" else sys.stdout, flush=True)
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
