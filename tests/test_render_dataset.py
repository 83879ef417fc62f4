"""Catalogues, the ledger, watched workers and engines, with a fake Blender that hangs and crashes."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from blender_scripts import catalogue, render_dataset
from blender_scripts.ledger import Ledger
from blender_scripts.worker import Worker, blender_command
from core.errors import UserError

ROOT = Path(__file__).resolve().parent.parent

FAKE_BLENDER = """#!{python}
import json, os, sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from blender_scripts import clips, rig
out = Path(sys.argv[sys.argv.index("--out_dir") + 1])
def say(**row): print(json.dumps(row), flush=True)
print("Blender 9.9 says hello")
for name in iter(sys.stdin.readline, ""):
    path = Path(name.strip())
    marker = out / (path.stem + ".tried")
    if "hang" in path.stem: time.sleep(600)
    if "crash" in path.stem or ("once" in path.stem and not marker.exists()):
        marker.touch(); print("out of cheese", file=sys.stderr, flush=True); os.abort()
    if "broken" in path.stem: say(file=str(path), status="failed", reason=str(path) + ": not a glTF file")
    else:
        line, files = clips.clip_line("p", path.stem, 0, 0), []
        for kind in ("fixed_16_clip", "random_clip"):
            target = clips.clip_path(out, kind, line)
            files.append(target.name)
            time.sleep({pause})
            frames = [(path.stem.encode() * 9999, b"")] * 2
            if not target.exists(): clips.write_clip(target, {{rig.View(0, 0.0): frames}})
        say(file=str(path), line=line, status="rendered", files=files, images=4)
    say(status="done")
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with four models and a fake Blender."""
    models = tmp_path / "models"
    models.mkdir()
    for name in "abcd":
        (models / f"{name}.glb").touch()
    fake_blender(tmp_path)
    return tmp_path


def fake_blender(place: Path, pause: float = 0.0) -> None:
    (place / "fake-blender").write_text(FAKE_BLENDER.format(python=sys.executable, root=str(ROOT), pause=pause))
    (place / "fake-blender").chmod(0o755)


def run(place: Path, *options: str) -> list[dict]:
    """Render the folder's models; the rows of the report."""
    fixed = ["--obj", str(place / "models"), "--out_dir", str(place / "out"), "--blender", str(place / "fake-blender")]
    assert render_dataset.main([*fixed, *options]) == 0
    return [json.loads(line) for line in (place / "out/render_report.jsonl").read_text().splitlines()]


def tars(home: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in home.glob("*.tar")}


# Catalogues


def test_sources_are_files_folders_and_lists_and_every_object_counts_once(tmp_path: Path) -> None:
    for name in ("b.glb", "sub/a.GLB", "c.gltf", "note.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "l.txt").write_text("x/y.glb\n\n  z.glb \nx/y.glb\n")
    found = [item.fetch() for item in catalogue.find_items([str(tmp_path), str(tmp_path / "b.glb")])]
    assert found == [tmp_path / name for name in ("b.glb", "c.gltf", "sub/a.GLB")]
    assert [item.key for item in catalogue.find_items([str(tmp_path / "l.txt")])] == ["x/y.glb", "z.glb"]
    (tmp_path / "empty").mkdir()
    for bad, reason in (("none.glb", "no such file"), ("note.md", "not a .glb"), ("empty", "no .glb or .gltf")):
        with pytest.raises(UserError, match=reason):
            catalogue.find_items([str(tmp_path / bad)])


def test_objaverse_gives_its_animated_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "objaverse.py").write_text(
        "known = {'u1': {'animationCount': 2}, 'u2': {'animationCount': 0}, 'u3': {}}\n"
        "def load_annotations(uids=None): return {u: known[u] for u in uids or known if u in known}\n"
        "def load_objects(uids): return {u: f'/cache/000-001/{u}.glb' for u in uids}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "objaverse", raising=False)
    (item,) = catalogue.find_items(["objaverse"])
    assert (item.key, item.animations, item.fetch()) == ("objaverse:u1", 2, Path("/cache/000-001/u1.glb"))
    assert len(catalogue.find_items(["objaverse"], static=True)) == 3
    (tmp_path / "uids.txt").write_text("u3\nu1\n")
    assert [item.key for item in catalogue.find_items([f"objaverse:{tmp_path}/uids.txt"], True)] == [
        "objaverse:u3",
        "objaverse:u1",
    ]
    (tmp_path / "uids.txt").write_text("u1\nu9\n")
    with pytest.raises(UserError, match="u9"):
        catalogue.find_items([f"objaverse:{tmp_path}/uids.txt"])
    monkeypatch.setitem(sys.modules, "objaverse", None)
    with pytest.raises(UserError, match="pip install objaverse"):
        catalogue.find_items(["objaverse"])


# Workers


def test_a_blender_program_and_a_python_with_bpy_are_both_started() -> None:
    program = blender_command("/opt/blender-4.5/blender", ["--views", "4"])
    assert program[:3] == ["/opt/blender-4.5/blender", "-b", "-P"] and program[4:] == [
        "--",
        "--obj",
        "-",
        "--views",
        "4",
    ]
    assert blender_command("python", [])[1].endswith("render_objaverse.py")


def test_a_hang_and_a_crash_affect_only_their_file(place: Path) -> None:
    worker = Worker([str(place / "fake-blender"), "--out_dir", str(place)], time_limit=2.0)
    ends = {name: list(worker.render(Path(f"{name}.glb")))[-1] for name in ("a", "hang", "b", "crash", "c")}
    worker.close()
    assert {name: row["status"] for name, row in ends.items()} == {
        "a": "done",
        "hang": "timeout",
        "b": "done",
        "crash": "crash",
        "c": "done",
    }
    assert "2 seconds" in ends["hang"]["reason"]
    assert "SIGABRT: out of cheese" in ends["crash"]["reason"]


# The whole


@pytest.mark.parametrize("processes", ["1", "3"])
def test_everything_ends_as_a_row_and_nothing_stops_the_batch(place: Path, processes: str) -> None:
    for name in ("hang", "crash", "once", "broken"):
        (place / f"models/{name}.glb").touch()
    rows = run(place, "--time_limit", "2", "--tries", "2", "--processes", processes)
    ends = [(Path(row["key"]).stem, row["status"]) for row in rows if row["status"] not in ("rendered", "done")]
    assert sorted(ends) == [
        ("broken", "failed"), *[("crash", "crash")] * 2, *[("hang", "timeout")] * 2, ("once", "crash"),
    ]  # fmt: skip
    assert len(tars(place / "out")) == 2 * 5
    assert (place / "out/datalist_8fps.txt").read_text().split() == [
        f"p-{n}-000-00.tar" for n in "a b c d once".split()
    ]
    assert [Path(line).stem for line in (place / "out/quarantine.txt").read_text().split()] == ["crash", "hang"]


def test_a_second_run_does_nothing_a_lost_clip_comes_back_and_failures_are_tried_on_request(place: Path) -> None:
    (place / "models/broken.glb").touch()
    before = len(run(place))
    assert len(run(place)) == before
    whole = tars(place / "out")
    (place / "out/random_clip-p-c-000-00.tar").unlink()
    rows = run(place)
    assert [Path(row["key"]).stem for row in rows[before:]] == ["c", "c"]
    assert tars(place / "out") == whole
    again = run(place, "--retry")
    assert [row["status"] for row in again[len(rows) :]] == ["failed", "done"]


def test_a_home_has_one_set_of_render_options(place: Path) -> None:
    run(place, "--views", "4")
    with pytest.raises(UserError, match=r"other render options \(views"):
        run(place, "--views", "8")
    run(place, "--views", "4", "--threads", "1")  # how fast is free


def test_a_home_of_an_older_version_goes_on_with_the_defaults_of_new_options(place: Path) -> None:
    run(place)
    path = place / "out/render_settings.json"
    settings = json.loads(path.read_text())
    assert settings.pop("lights") == "soft"
    path.write_text(json.dumps(settings))
    before = tars(place / "out")
    run(place)
    assert tars(place / "out") == before
    assert json.loads(path.read_text())["lights"] == "soft"
    with pytest.raises(UserError, match=r"other render options \(lights"):
        run(place, "--lights", "published")


def test_two_files_of_one_name_are_refused_before_anything_is_rendered(place: Path) -> None:
    for name in ("one/models/T-Rex.glb", "two/models/T_Rex.glb"):
        (place / name).parent.mkdir(parents=True)
        (place / name).touch()
    with pytest.raises(UserError, match=r"T_Rex\.glb and .*T-Rex\.glb would have the same names"):
        render_dataset.main(
            ["--obj", str(place), "--out_dir", str(place / "out"), "--blender", str(place / "fake-blender")]
        )


def test_two_processes_do_not_share_a_home(place: Path) -> None:
    ledger = Ledger(place / "out", {})
    with pytest.raises(UserError, match="another process renders"):
        run(place)
    ledger.close()


def test_a_torn_line_and_left_over_files_of_a_killed_process_do_no_harm(place: Path) -> None:
    rows = run(place)
    report = place / "out/render_report.jsonl"
    report.write_text(report.read_text() + '{"key": "x", "sta')
    (place / "out/.random_clip-x.123.part.tar").touch()
    assert list(map(json.loads, report.read_text().splitlines()[:-1])) == rows
    ledger = Ledger(place / "out", json.loads((place / "out/render_settings.json").read_text()))
    assert sum(map(len, ledger.rows.values())) == len(rows)
    ledger.add("y", {"status": "done"})
    ledger.close()
    assert json.loads(report.read_text().splitlines()[-1]) == {"key": "y", "status": "done"}
    assert not list((place / "out").glob(".*.part*"))


def test_a_batch_that_is_killed_ten_times_ends_as_one_left_alone(place: Path) -> None:
    """The driver, its files and its processes, with a program in the place of Blender."""
    run(place)
    undisturbed = tars(place / "out")
    fake_blender(place, pause=0.15)
    script = [sys.executable, ROOT / "blender_scripts/render_dataset.py", "--obj", place / "models"]
    script += ["--out_dir", place / "killed", "--blender", place / "fake-blender", "--processes", "2"]
    generator, started = random.Random(0), 0.0
    for _ in range(10):
        process = subprocess.Popen(script, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not (place / "killed/render_settings.json").exists() and process.poll() is None:
            time.sleep(0.02)
        time.sleep(generator.uniform(0.0, 0.7))
        started += process.poll() is None
        os.kill(process.pid, signal.SIGKILL) if process.poll() is None else None
        process.wait()
    assert started >= 5
    subprocess.run(script, check=True, capture_output=True)
    assert tars(place / "killed") == undisturbed


@pytest.mark.slow
def test_ray_renders_what_local_processes_render(place: Path) -> None:
    pytest.importorskip("ray")
    (place / "models/once.glb").touch()
    rows = run(place, "--engine", "ray", "--processes", "2", "--time_limit", "60")
    whole = tars(place / "out")
    assert sorted(row["status"] for row in rows) == ["crash", *["done"] * 5, *["rendered"] * 5]
    (place / "out").rename(place / "by_ray")
    run(place)
    assert tars(place / "out") == whole


def test_without_ray_the_way_to_it_is_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[ray\]'"):
        run(place, "--engine", "ray")
