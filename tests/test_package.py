"""The wheel: one name, one command, and everything that a command needs, from any folder."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as pip leaves it: the wheel of this checkout, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    settings = folder / "setup.cfg"  # the checkout stays as it is
    settings.write_text(f"[build]\nbuild_base = {folder}/build\n[egg_info]\negg_base = {folder}\n")
    subprocess.run(
        [sys.executable, "-c", f"from setuptools.build_meta import build_wheel; build_wheel({str(folder)!r})"],
        cwd=ROOT, env={**os.environ, "DIST_EXTRA_CONFIG": str(settings)}, check=True, capture_output=True, timeout=300,
    )  # fmt: skip
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(folder / "site")
    return folder / "site"


def l4gm(site: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command in a folder that is not the checkout."""
    command = [sys.executable, "-m", "l4gm", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=550)


def test_the_wheel_takes_one_name_and_holds_all_of_core(site: Path) -> None:
    assert {path.name for path in site.iterdir() if path.suffix != ".dist-info"} == {"l4gm"}
    (entry,) = site.glob("*.dist-info/entry_points.txt")
    assert "l4gm = l4gm.__main__:main" in entry.read_text()
    held = {path.relative_to(site / "l4gm") for path in site.rglob("*.py")}
    assert {path.relative_to(ROOT) for path in (ROOT / "core").rglob("*.py")} <= held
    page = (ROOT / "core" / "export").glob("player.*"), (ROOT / "core" / "export" / "vendor").rglob("*.*")
    assert all((site / "l4gm" / path.relative_to(ROOT)).is_file() for paths in page for path in paths)


COMMANDS = ["infer-3d nano", "infer-4d nano", "convert nano", "train nano", "eval nano", "app", "export", "view"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_its_script(site: Path, tmp_path: Path, command: str) -> None:
    done = l4gm(site, tmp_path, *command.split(), "--help")
    assert done.returncode == 0, done.stderr
    assert f"l4gm {command}" in done.stdout and any(
        f"--{name}" in done.stdout for name in ("device", "workspace", "port")
    )


def test_no_command_lists_the_commands(site: Path, tmp_path: Path) -> None:
    done = l4gm(site, tmp_path)
    assert done.returncode == 2 and "infer-4d" in done.stdout


def test_an_installed_copy_makes_gaussians_in_any_folder(site: Path, tmp_path: Path) -> None:
    """With the weights of the wheel; ``core`` is the wheel's, even where a checkout is installed too."""
    (tmp_path / "x.png").write_bytes((ROOT / "data_test/truck_000.png").read_bytes())
    done = l4gm(site, tmp_path, "infer-4d", "nano", "--test_path", "x.png", "--workspace", "out", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/x/frame0001.ply").is_file()
    assert str(site / "l4gm/pretrained") in (tmp_path / "out/x_metadata.json").read_text()


def test_another_core_that_is_loaded_already_is_refused(site: Path, tmp_path: Path) -> None:
    (tmp_path / "core.py").write_text("")
    program = "import core, l4gm"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1 and "another package called core is loaded already" in done.stderr
