"""Every command line of the documentation is run in small, or checked by its own parser or by name.

The commands of a page run in order, in a folder that looks like a checkout: `big` and `nano` are tiny networks, videos
and clips are tiny, and what a reader downloads or has (`FROM_ELSEWHERE`, `OBJECTS`) is there. The programs that start
Blender write tiny clips of the objects that they find. A program without an entry in `PROGRAMS` is a failure.
"""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from huggingface_hub.cli.hf import app as hf_app

from blender_scripts.catalogue import find_items
from blender_scripts.clips import SCENE_FPS, clip_kinds, clip_line, points_path
from core.cli import run
from tests.clip_factory import write_clip
from tests.documentation_place import FROM_ELSEWHERE, MADE_BY_README
from tests.test_architecture import ROOT
from tests.test_environment import PROJECT

pytest_plugins = ["tests.infer_place", "tests.documentation_place"]
pytestmark = pytest.mark.usefixtures("one_thread")

PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "pretrained/*.md", "data_test/*.md", "data_train/*.md")
    for path in ROOT.glob(pattern)
)
# Options that make a program small, after those of the command.
SHORTER = {
    "blender_scripts/make_procedural.py": ("--count", "1"),
    "benchmarks": ("--tiny", "--rounds", "1"),
    "convert.py": ("--mesh_resolution", "16"),
    "refine_4d.py": tuple("--canonical_steps 1 --track_steps 1 --joint_steps 1".split()),
    "gen_vid.py": tuple("--size 64 --num_frames 2 --diffusion_steps 1".split()),
    "infer_nvs.py": ("--video", "none", "--no_lpips"),
    "train_motion.py": ("--steps", "2", "--batch_size", "2"),
    "train_nvs.py": ("--steps", "2", "--lpips_start", "-1", "--num_workers", "0", "--mixed_precision", "no"),
}


def commands(text: str) -> Iterator[list[str]]:
    """The words of every command in the page's bash blocks; continued lines are one command, comments are none."""
    for block in re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words:
                yield words


def render(program: ModuleType, arguments: list[str]) -> None:
    """A program that starts Blender: its own parser and catalogue, then one tiny clip of every object."""
    parsed = program.parse(arguments)
    args = parsed[0] if isinstance(parsed, tuple) else parsed
    args.out_dir.mkdir(parents=True, exist_ok=True)
    animation = 0 if args.animation == "all" else int(args.animation)
    for item in find_items(args.obj):
        path = item.fetch()
        line = clip_line(path.resolve().parent.name, path.stem, animation, 0)
        for rate in args.downsample:
            kinds = clip_kinds(SCENE_FPS // rate)
            views = range(0, args.views, args.view_step)
            write_clip(args.out_dir, line, fixed=views, kinds=(kinds["fixed"], kinds["random"]))


def python(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """``python -m MODULE ...`` or ``python SCRIPT ...``."""
    if arguments[0] == "-m":
        name, arguments = arguments[1], arguments[2:]
        package = importlib.util.find_spec(name).submodule_search_locations is not None
        module = importlib.import_module(f"{name}.__main__" if package else name)
    else:
        name, arguments = arguments[0], arguments[1:]
        assert (ROOT / name).is_file(), f"there is no {name}"
        module = importlib.import_module(name.removesuffix(".py").replace("/", "."))
    arguments = [*arguments, *SHORTER.get(name, ())]
    if name.startswith("blender_scripts/render_"):
        render(module, arguments)
        return
    if name == "blender_scripts/export_points.py":
        for tar in module.parse(arguments).data_home.glob("fixed_16_clip-*.tar"):
            points = points_path(tar.parent, tar.name.removeprefix("fixed_16_clip-"))
            np.save(points, np.random.default_rng(0).normal(size=(8, 20, 3)))
        return
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    run((lambda: module.main(arguments)) if module.main.__code__.co_argcount else module.main)


def l4gm(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The command of an installed copy."""
    python(["-m", "l4gm", *arguments], monkeypatch)


def accelerate(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """``accelerate launch``: its own parser and checks, then the script in this process on the CPU."""
    assert arguments[0] == "launch"
    launch, _, _ = _validate_launch_command(launch_command_parser().parse_args(arguments[1:]))
    assert Path(launch.config_file).is_file()
    module = ["-m"] if launch.module else []
    python([*module, launch.training_script, *launch.training_script_args], monkeypatch)


def hf(arguments: list[str], _: pytest.MonkeyPatch) -> None:
    """The hub's own parser; the files it would fetch are those of `FROM_ELSEWHERE`."""
    group = hf_app.make_context("hf", list(arguments))
    name, download, rest = hf_app.resolve_command(group, list(arguments))
    values = download.make_context(name, rest, parent=group).params
    assert name == "download"
    folder = values["local_dir"]
    for path in [f"{folder}/{file}" for file in values["filenames"] or ()] or [folder]:
        assert FROM_ELSEWHERE[path] == values["repo_id"]


def pip(arguments: list[str], _: pytest.MonkeyPatch) -> None:
    """``pip install [-e] '.[EXTRAS]' [-c FILE]``: the extras exist."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("action", choices=["install"])
    parser.add_argument("-e", action="store_true")
    parser.add_argument("project")
    parser.add_argument("-c", dest="constraints", type=Path, default=Path("constraints.txt"))
    values = parser.parse_args(arguments)
    extras = re.fullmatch(r"\.(?:\[([\w,-]+)\])?", values.project)[1]
    assert not extras or set(extras.split(",")) <= set(PROJECT["project"]["optional-dependencies"])
    assert values.constraints.is_file()


def make(arguments: list[str], _: pytest.MonkeyPatch) -> None:
    """Targets and variables that the Makefile defines."""
    text = Path("Makefile").read_text()
    for word in arguments:
        name, assigned, _ = word.partition("=")
        assert re.search(rf"^{name} \?=" if assigned else rf"^{name}:", text, re.MULTILINE), f"make knows no {name}"


def source(arguments: list[str], _: pytest.MonkeyPatch) -> None:
    """The environment that the Makefile makes."""
    assert arguments == [re.search(r"^VENV := (.*)$", Path("Makefile").read_text(), re.MULTILINE)[1] + "/bin/activate"]


def export(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """``export NAME=VALUE`` for the commands that follow."""
    for name, value in (word.split("=") for word in arguments):
        monkeypatch.setenv(name, value)


PROGRAMS: dict[str, Callable[[list[str], pytest.MonkeyPatch], None]] = {
    "python": python,
    ".venv/bin/python": python,
    ".venv-render/bin/python": python,
    "l4gm": l4gm,
    "accelerate": accelerate,
    "hf": hf,
    "pip": pip,
    "make": make,
    "source": source,
    "export": export,
}


@pytest.mark.parametrize("page", [page for page in PAGES if list(commands((ROOT / page).read_text()))])
def test_commands_work_as_written(
    page: str, checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    failures = []
    for words in commands((ROOT / page).read_text()):
        capsys.readouterr()  # only what this command says is reported
        try:
            PROGRAMS[words[0]](words[1:], monkeypatch)
        except (Exception, SystemExit) as error:
            failures.append(f"{shlex.join(words)}\n    {error!r}\n    {capsys.readouterr().err[-1000:]}")
    assert not failures, "\n".join(failures)
    assert page != "README.md" or all(Path(name).is_file() for name in MADE_BY_README)


@pytest.mark.parametrize("page", PAGES)
def test_commands_inside_sentences_name_what_exists(page: str, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spans = [shlex.split(span) for span in re.findall(r"`((?:pip|make|hf) [^`\n]+)`", (ROOT / page).read_text())]
    for words in spans:
        PROGRAMS[words[0]](words[1:], monkeypatch)


def test_every_download_is_documented() -> None:
    """Each checkpoint from elsewhere is named by some `hf download`."""
    downloads = [
        words for page in PAGES for words in commands((ROOT / page).read_text()) if words[:2] == ["hf", "download"]
    ]
    for path, repository in FROM_ELSEWHERE.items():
        assert any(repository in words and (path in words or Path(path).name in words) for words in downloads), path


def test_blocks_of_commands_are_bash_blocks() -> None:
    """Else the test above would not see them."""
    for page in PAGES:
        for language, block in re.findall(r"^```(\w*)\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL):
            first = block.split()[0]
            assert language == "bash" or first not in PROGRAMS, f"{page}: {first}"


@pytest.mark.parametrize(
    "line",
    [
        "python infer_4d.py nano --test_path data_test/trex.mp4 --no_such_option 1",
        "python infer_4d.py nano --test_path none.mp4",
        "accelerate launch --config_file acc_configs/none.yaml main.py nano",
        "hf download jiawei011/L4GM recon.safetensors --no-such-option",
        "pip install -e '.[none]' -c constraints.txt",
        "make none",
        "python -m benchmarks --none",
        "l4gm view results/x",
        "l4gm infer-4d nano --test_path none.mp4",
        ".venv-render/bin/python blender_scripts/render_objaverse.py --obj none.glb --out_dir samples",
        "python blender_scripts/make_procedural.py --none",
        "source none/bin/activate",
        "unknown",
    ],
)
def test_a_wrong_command_fails(line: str, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (words,) = commands(f"```bash\n{line}\n```\n")
    with pytest.raises((Exception, SystemExit)):
        PROGRAMS[words[0]](words[1:], monkeypatch)
