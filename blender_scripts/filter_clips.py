"""Select clips for training: drop empty and still clips, and set some families apart for validation.

    python blender_scripts/filter_clips.py --data_home clips --out data_train --page clips/statistics

Writes datalist_8fps.txt, datalist_24fps.txt and datalist_static.txt, and datalist_val_*.txt for the validation
families; `--page` adds a page with histograms and contact sheets. ``--drop_quantile 0.5`` drops half of the moving
clips, as in the paper. Needs OpenCV: pip install -e '.[data]'. Runs in the main environment, without Blender.
"""

from __future__ import annotations

import argparse
import collections
import re
import sys
import zlib
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs as a file, from any folder

from blender_scripts.clip_page import write_page
from blender_scripts.scores import Score, score_all
from core.errors import UserError
from core.files import atomic_path

LISTS = {8: "datalist_8fps.txt", 24: "datalist_24fps.txt", 0: "datalist_static.txt"}


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data_home", type=Path, required=True, help="folder of the clip tars")
    add("--out", type=Path, help="folder of the lists (default: the data home)")
    add("--min_flow", type=float, default=0.02, help="drop clips with less motion: image widths a second")
    add("--max_flow", type=float, default=2.0, help="drop clips with more motion")
    add("--drop_quantile", type=float, default=0.0, help="drop this fraction of the moving clips: least motion first")
    add("--min_coverage", type=float, default=0.005, help="minimum fraction of the image that the object covers")
    add("--min_contrast", type=float, default=0.04, help="minimum mean distance of its colours from white, 0 to 1")
    add("--family", default=r"^[^-]*-([^-]*)", help="regular expression whose group, found in the line, is the family")
    add("--val_fraction", type=float, default=0.0, help="fraction of the families for validation")
    add("--val_family", nargs="*", default=[], help="families for validation")
    add("--processes", type=int, default=2, help="clips measured at a time")
    add("--page", type=Path, help="folder of the statistics page")
    args = parser.parse_args(argv)
    for name in ("val_fraction", "drop_quantile"):
        if not 0 <= getattr(args, name) < 1:
            parser.error(f"--{name} must lie in [0, 1), got {getattr(args, name)}")
    return args


def reason_to_drop(score: Score, args: argparse.Namespace) -> str | None:
    """Why a clip is dropped, or None."""
    if score.error:
        return "cannot be read"
    if score.coverage < args.min_coverage:
        return "nothing to see"
    if score.contrast < args.min_contrast:
        return "white on white"
    if score.frames > 1 and score.flow < args.min_flow:
        return "hardly moves"
    if score.flow > args.max_flow:
        return "moves too much"
    return None


def flow_limit(scores: list[Score], args: argparse.Namespace) -> float:
    """Flow below which ``--drop_quantile`` drops a clip; measured over the moving clips that pass the other filters."""
    flows = [score.flow for score in scores if score.frames > 1 and reason_to_drop(score, args) is None]
    return float(np.quantile(flows, args.drop_quantile)) if flows and args.drop_quantile else 0.0


def family_of(line: str, pattern: str) -> str:
    """The family of a clip: the first group of the pattern in its line.

    Raises:
        UserError: the pattern is invalid, has no group or does not match the line.
    """
    try:
        return re.search(pattern, line).group(1)
    except (re.error, IndexError, AttributeError) as error:
        raise UserError(f"--family {pattern!r} finds no group in {line} ({error})") from error


def validation_families(families: set[str], fraction: float, named: list[str]) -> set[str]:
    """The named families and a fraction of the others, chosen by hashes of their names: independent of other clips.

    Raises:
        UserError: a named family does not exist.
    """
    unknown = set(named) - families
    if unknown:
        raise UserError(f"--val_family: no clip is of the family {sorted(unknown)[0]!r}")
    return set(named) | {family for family in families if zlib.crc32(family.encode()) < fraction * 2**32}


def choose(scores: list[Score], args: argparse.Namespace) -> tuple[dict[str, list[str]], dict[str, list[Score]]]:
    """Split the clips into lists by file name and dropped clips by reason."""
    dropped: dict[str, list[Score]] = collections.defaultdict(list)
    lists: dict[str, list[str]] = collections.defaultdict(list)
    families = {family_of(score.line, args.family) for score in scores}
    validation = validation_families(families, args.val_fraction, args.val_family)
    limit = flow_limit(scores, args)
    for score in scores:
        reason = reason_to_drop(score, args)
        if not reason and score.frames > 1 and score.flow < limit:
            reason = "moves less than most"
        if reason:
            dropped[reason].append(score)
            continue
        name = LISTS[score.fps if score.frames > 1 else 0]
        if family_of(score.line, args.family) in validation:
            name = name.replace("datalist_", "datalist_val_")
        lists[name].append(score.line)
    return dict(sorted(lists.items())), dict(sorted(dropped.items()))


def main(argv: list[str]) -> None:
    """Measure, select, write."""
    args = parse(argv)
    if not args.data_home.is_dir():
        raise UserError(f"{args.data_home} does not exist; --data_home is the folder of the clip tars")
    scores = score_all(args.data_home, args.processes)
    if not scores:
        raise UserError(f"{args.data_home} holds no clip with both kinds of cameras")
    lists, dropped = choose(scores, args)
    for name, lines in lists.items():
        with atomic_path((args.out or args.data_home) / name) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in lines))
        print(f"{len(lines):7d}  {name}")
    for reason, clips in dropped.items():
        print(f"{len(clips):7d}  dropped: {reason}")
    if args.page:
        print(write_page(args.page, args.data_home, scores, lists, dropped))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except ImportError as error:
        print(f"{error}: pip install -e '.[data]'", file=sys.stderr)
        sys.exit(2)
