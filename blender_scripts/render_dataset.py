"""Render a catalogue of GLB files to training clips, on the processes of this machine or on a Ray cluster.

    python blender_scripts/render_dataset.py --obj models/ --out_dir clips --downsample 3 1
    python blender_scripts/render_dataset.py --obj objaverse:uids.txt --out_dir clips --engine ray

``--obj`` takes files, folders, .txt lists, ``objaverse`` or ``objaverse:<file of uids>`` (needs the objaverse package).
Run the same command again to resume: existing clips are skipped. A file that hangs or crashes Blender is tried again
and then put into quarantine. ``<out_dir>/render_report.jsonl`` has a row for every clip and for every file without a
clip, with the reason. Runs in the main environment and starts Blender as a separate process.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs as a file, from any folder

from tqdm import tqdm

from blender_scripts import clips
from blender_scripts.catalogue import Item, find_items
from blender_scripts.engines import ENGINES
from blender_scripts.ledger import ENDS, Ledger
from blender_scripts.render_options import add_render_options, check_render_options
from blender_scripts.worker import blender_command
from core.errors import UserError

RENDER_PYTHON = Path(__file__).resolve().parents[1] / ".venv-render/bin/python"


def parse(argv: list[str]) -> tuple[argparse.Namespace, dict, list[str]]:
    """Parse into all options, the render options as a dictionary, and the worker's command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--obj", "--catalogue", nargs="+", required=True, help="objects to render, see above")
    add("--out_dir", type=Path, required=True, help="data home: folder for tars, lists and the report")
    add("--engine", choices=tuple(ENGINES), default="local", help="processes of this machine, or a Ray cluster")
    add("--processes", type=int, default=1, help="Blender processes at a time")
    add("--ray_address", help="address of a running cluster (default: start Ray on this machine)")
    add("--time_limit", type=float, default=900.0, help="seconds a clip may take")
    add("--tries", type=int, default=2, help="attempts for a file that hangs or crashes Blender")
    add("--retry", action="store_true", help="try failed and quarantined files once more")
    add("--blender", default=str(RENDER_PYTHON), help="a `blender` program, or a Python that has bpy")
    add("--static", action="store_true", help="include objects of Objaverse without animation")
    names = add_render_options(parser.add_argument_group("render options"))
    args = parser.parse_args(argv)
    check_render_options(args, parser.error)
    for name in ("processes", "tries"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(args, name)}")
    settings = {name: getattr(args, name) for name in names}
    tokens: list[str] = ["--out_dir", str(args.out_dir.resolve())]
    for name, value in settings.items():
        if value is True:
            tokens.append(f"--{name}")
        elif value is not None and value is not False:
            tokens += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    # Threads and device do not change the images.
    return args, {name: value for name, value in settings.items() if name not in ("threads", "device")}, tokens


def refuse_equal_names(items: list[Item]) -> None:
    """Raise UserError if the clips of two files would have the same names."""
    names: dict[str, str] = {}
    for item in items:
        if not item.is_remote:
            path = Path(item.key)
            name = clips.clip_line(path.resolve().parent.name, path.stem, 0, 0)
            if name in names:
                raise UserError(f"the clips of {item.key} and {names[name]} would have the same names; rename one")
            names[name] = item.key


def render_all(items: list[Item], ledger: Ledger, args: argparse.Namespace, tokens: list[str]) -> None:
    """Render unfinished items; every row is added to the ledger at once.

    Raises:
        UserError: no worker can be started.
    """
    command = blender_command(args.blender, tokens)

    def is_pending(item: Item) -> bool:
        if args.retry and ledger.is_failed(item.key):
            return True
        return not (ledger.is_finished(item.key) or ledger.is_quarantined(item.key, args.tries))

    waiting = [item for item in items if is_pending(item)]
    images = 0
    with tqdm(total=len(items), initial=len(items) - len(waiting), unit="object", smoothing=0.05) as bar:
        while waiting:
            again: list[Item] = []
            for item, row in ENGINES[args.engine](waiting, command, args):
                ledger.add(item.key, row)
                images += row.get("images", 0)
                if row["status"] in ("timeout", "crash") and not ledger.is_quarantined(item.key, args.tries):
                    again.append(item)
                elif row["status"] in ENDS:
                    bar.update()
                rate = images / max(bar.format_dict["elapsed"], 1e-9)
                bar.set_postfix_str(f"{images} images, {rate:.1f}/s", refresh=False)
            waiting = again  # retry after all others


def main(argv: list[str]) -> int:
    """Find, render, report, write the lists."""
    args, settings, tokens = parse(argv)
    if not Path(args.blender).exists():
        raise UserError(f"{args.blender} does not exist: run `make render-env`, or choose a blender with --blender")
    items = find_items(args.obj, args.static)
    refuse_equal_names(items)
    ledger = Ledger(args.out_dir, settings)
    try:
        render_all(items, ledger, args, tokens)
        quarantine = ledger.write_quarantine(args.tries)
        lists = clips.write_datalists(args.out_dir)
    finally:
        ledger.close()
    summary = ledger.summary()
    print(f"{len(items)} objects, clips and files: {dict(summary['statuses'])}; lists in {args.out_dir}: {lists}")
    for reason, count in summary["reasons"].most_common():
        print(f"{count:6d}  {reason}")
    if quarantine:
        print(f"{len(quarantine)} objects in {args.out_dir / 'quarantine.txt'}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped; the same command resumes", file=sys.stderr)
        sys.exit(130)
