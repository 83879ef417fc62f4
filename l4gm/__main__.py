"""One command for all scripts: ``l4gm infer-4d nano --test_path video.mp4``, or ``python -m l4gm ...``."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType

from l4gm import HOME

COMMANDS = {
    "infer-3d": ("infer_3d", "side views and Gaussians of a video's first frame, a picture or a text"),
    "infer-4d": ("infer_4d", "a video becomes a sequence of Gaussians"),
    "refine-4d": ("refine_4d", "a video becomes one set of Gaussians and its motion"),
    "gen-vid": ("gen_vid", "a picture becomes a video of its object (SVD)"),
    "convert": ("convert", "Gaussians become watertight meshes: GLB, OBJ"),
    "app": ("app", "a web page to drop a video on"),
    "infer-nvs": ("infer_nvs", "posed images become images from other cameras (LaCT)"),
    "train-nvs": ("train_nvs", "train LaCT"),
    "train-motion": ("train_motion", "train the prediction of motion"),
    "matte": ("matte", "cut the object out of videos and crop it, without reconstructing it"),
    "train": ("main", "train the reconstruction or the interpolation model"),
    "eval": ("eval", "measure checkpoints, baselines and other systems"),
    "export": ("export", "finished sequences as a page, a packed clip or other projects' formats"),
    "view": ("view", "show finished sequences in the browser"),
}


def main() -> None:
    """Run the script that the first argument names, as if it had been started by itself."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in COMMANDS:
        lines = [f"  {command:12} {text}" for command, (_, text) in COMMANDS.items()]
        head, foot = (
            "usage: l4gm COMMAND PRESET [options]\n",
            "\nexport and view take files, no preset; see --help",
        )
        print(head, *lines, foot, sep="\n")
        sys.exit(0 if name in ("-h", "--help") else 2)
    from core.cli import run

    sys.argv = [f"l4gm {name}", *sys.argv[2:]]
    run(load(COMMANDS[name][0]).main)


def load(script: str) -> ModuleType:
    """Load a script as a module, from a checkout or an installed copy."""
    folder = HOME / "scripts" if (HOME / "scripts").is_dir() else HOME
    spec = spec_from_file_location(f"l4gm.scripts.{script}", folder / f"{script}.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
