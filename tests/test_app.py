"""The web app: folders of runs, uploads, command lines, jobs; and the whole flow in a browser."""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest

from core.app.job import Job, Step, Stopped, _step
from core.app.results import GENERATORS, checkpoints, collect, command, player_frame, preview
from core.app.runs import Limits, Runs
from core.app.server import Settings, make_app
from core.errors import UserError
from core.inference.progress import LINES, Progress
from tests.moving_splats import browser, find_chromium
from tests.test_architecture import ROOT
from tests.tiny import square_video

HAS_GRADIO = importlib.util.find_spec("gradio") is not None
needs_gradio = pytest.mark.skipif(not HAS_GRADIO, reason="needs gradio: make setup")
QUICK_SERVER = """
from app import main
from core.app.results import CHECKPOINTS
from core.cli import run
small = ("--output_size=32", "--interpolate_rate=1")
CHECKPOINTS["nano (shipped)"] = ("nano", *small, "--resume", "pretrained/nano_recon.safetensors")
run(main)
"""


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "runs", Limits(megabytes=1, seconds=2.0, hours=1.0, runs=3))


def test_every_run_has_a_folder_of_its_own(runs: Runs) -> None:
    folders = {runs.new() for _ in range(3)}
    assert len(folders) == 3 and all(runs.folder(folder.name) == folder for folder in folders)


@pytest.mark.parametrize("name", ["..", ".", "", "/etc", "../uploads", "a" * 31, "A" * 32, "%2e%2e", "x\0"])
def test_other_names_are_no_runs(runs: Runs, name: str) -> None:
    runs.new()
    assert runs.folder(name) is None


def test_a_link_is_no_run(runs: Runs, tmp_path: Path) -> None:
    runs.new()
    (runs.root / ("0" * 32)).symlink_to(tmp_path)
    assert runs.folder("0" * 32) is None


def test_old_and_surplus_runs_go_but_none_that_runs(runs: Runs) -> None:
    folders = [runs.new() for _ in range(6)]
    (runs.root / "notes.txt").write_text("the user's")
    for age, folder in enumerate(folders):
        os.utime(folder, (time.time() - 600 * age,) * 2)
    for folder in folders[1:]:
        runs.finish(folder)
    os.utime(folders[0], (1, 1))  # runs still, for very long
    os.utime(folders[1], (1, 1))
    runs.clean()
    left = {folder for folder in folders if folder.exists()}
    assert left == {folders[0], folders[2], folders[3], folders[4]}  # 1 is too old, 5 beyond three
    assert (runs.root / "notes.txt").exists()


def test_uploads_lose_their_names(runs: Runs, tmp_path: Path) -> None:
    upload = square_video(tmp_path / "-- --help; rm $(x) <script>.MP4")
    folder = runs.new()
    taken = runs.take(upload, folder)
    assert taken == folder / "input.mp4" and taken.read_bytes() == upload.read_bytes()
    assert [frame.shape for frame in preview(taken)] == [(3, 32, 32)] * 3


def test_uploads_are_bounded(runs: Runs, tmp_path: Path) -> None:
    (large := tmp_path / "a.mp4").write_bytes(bytes((1 << 20) + 1))
    (empty := tmp_path / "b.mp4").touch()
    (page := tmp_path / "c.html").write_text("<script>")
    long = square_video(tmp_path / "d.mp4", 30, Fraction(10))
    for path, message in ((large, "more than"), (empty, "empty"), (page, "neither a video"), (long, "has 3.0 s")):
        with pytest.raises(UserError, match=message):
            runs.take(path, runs.new())


def test_commands() -> None:
    video = command(Path("/r/input.mp4"), "", "nano (shipped)", "auto")
    assert (
        video[:2] == ["infer-4d", "nano"] and "--test_path=/r/input.mp4" in video and "--view_generator=auto" in video
    )
    text = command(None, " --resume /etc/passwd", "nano (shipped)", "auto")
    assert text[0] == "infer-3d" and "--prompt=--resume /etc/passwd" in text
    for arguments in ((None, " "), (Path("x"), "a cow")):
        with pytest.raises(UserError, match="either a video or picture, or a prompt"):
            command(*arguments, "nano (shipped)", "auto")
    with pytest.raises(UserError, match="no such checkpoint"):
        command(Path("x"), "", "../x", "auto")
    with pytest.raises(UserError, match="no such checkpoint"):
        command(Path("x"), "", "nano (shipped)", "; ls")
    assert "auto" in GENERATORS and checkpoints()[0] == "nano (shipped)"


def test_published_weights_are_offered_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pretrained").mkdir()
    for name in ("recon", "interp"):
        (tmp_path / f"pretrained/{name}.safetensors").touch()
    assert checkpoints() == ["nano (shipped)", "L4GM, published"]
    found = command(Path("x.mp4"), "", "L4GM, published", "auto")
    assert found[1:4] == ["big", "--resume", str(tmp_path / "pretrained/recon.safetensors")]
    assert str(tmp_path / "pretrained/interp.safetensors") in found


def test_results_are_found_and_packed(tmp_path: Path) -> None:
    results = tmp_path / "results"
    (results / "input").mkdir(parents=True)
    for name in ("input/frame0001.ply", "input.html", "wo_interp_input.mp4", "w_interp_input.mp4", ".x.part"):
        (results / name).write_text(name)
    shown = collect(tmp_path)
    assert (shown.player, shown.turntable) == (results / "input.html", results / "w_interp_input.mp4")
    assert shown.fixed is None and shown.sheet is None
    with zipfile.ZipFile(shown.archive) as archive:
        assert set(archive.namelist()) == {
            "input/frame0001.ply", "input.html", "wo_interp_input.mp4", "w_interp_input.mp4"
        }  # fmt: skip
    assert 'sandbox="allow-scripts"' in player_frame("a" * 32)


def test_progress_as_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(LINES, "1")
    with Progress("x", 4) as progress, progress.stage("drawing"):
        progress.advance()
        progress.advance(2)
    steps = [_step(line + "\n") for line in capsys.readouterr().err.splitlines()]
    assert steps == [Step("drawing", 0.0), Step("drawing", 0.25), Step("drawing", 0.75)]
    assert _step("loading\n") is None and _step('progress: {"stage": \n') is None


def test_a_job_fails_with_its_own_message(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.mp4: there is no such file"):
        list(Job(["infer-4d", "nano", "--test_path=none.mp4", "--workspace=results"], tmp_path).steps())


def test_a_job_can_be_stopped(tmp_path: Path) -> None:
    video = square_video(tmp_path / "input.mp4", 40)
    job = Job(["infer-4d", "nano", f"--test_path={video}", "--workspace=results", "--device=cpu"], tmp_path)
    threading.Timer(2.0, job.stop).start()
    with pytest.raises(Stopped):
        list(job.steps())
    assert job._process.poll() is not None
    assert not list(tmp_path.rglob("*.part*"))


@needs_gradio
def test_players_come_from_runs_only(tmp_path: Path) -> None:
    client_of = importlib.import_module("fastapi.testclient").TestClient
    app, page = make_app(Settings(workspace=tmp_path / "w"))
    folder = page.runs.new()
    (folder / "results").mkdir()
    (folder / "results" / "input.html").write_text("<p>player</p>")
    (tmp_path / "w" / "results").mkdir()
    (tmp_path / "w" / "results" / "input.html").write_text("secret")
    with client_of(app) as client:
        answer = client.get(f"/runs/{folder.name}/player")
        assert answer.text == "<p>player</p>" and "sandbox allow-scripts" in answer.headers["content-security-policy"]
        for path in ("/runs/../player", "/runs/%2e%2e/player", f"/runs/{'0' * 32}/player", "/runs/./player"):
            assert "secret" not in client.get(path).text
        assert client.get(f"/gradio_api/file={folder / 'results' / 'input.html'}").status_code == 403


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Address and workspace of a running server, whose turntables are small."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("app")
    line = [sys.executable, "-c", QUICK_SERVER, "--port", str(port), "--workspace", str(folder), "--at_once", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(line, cwd=ROOT, env=environment)
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.2)
    yield f"http://127.0.0.1:{port}", folder
    server.terminate()
    assert server.wait(30) is not None


@needs_gradio
@pytest.mark.skipif(find_chromium() is None, reason="needs Chromium: apt-get install chromium")
def test_two_users_at_once_in_a_browser(served: tuple[str, Path], tmp_path: Path) -> None:
    """One sees the result of the own video and downloads it; the other stops; nothing leaves the machine."""
    address, folder = served
    video, long = square_video(tmp_path / "a <b> 'c'.mp4", 2), square_video(tmp_path / "long.mp4", 60)
    outside: list[str] = []
    errors: list[str] = []
    with browser() as running:
        first, second = (running.new_context(accept_downloads=True).new_page() for _ in range(2))
        first.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        for page, upload in ((first, video), (second, long)):
            page.on("request", lambda request: outside.append(request.url))
            page.goto(address)
            page.set_input_files("input[type=file]", upload, timeout=120_000)
            page.wait_for_selector("[data-testid=thumbnail-1], .gallery-item, .thumbnail-item", timeout=60_000)
            page.click("button:has-text('Reconstruct')")
        second.wait_for_function("document.querySelector('#status').innerText.includes('loading')", timeout=120_000)
        second.click("button:has-text('Stop')")
        first.wait_for_function("document.querySelector('#status').innerText.match(/done|error/)", timeout=300_000)
        assert "done" in first.inner_text("#status")
        first.wait_for_selector("#archive a", timeout=30_000)
        with first.expect_download(timeout=120_000) as download:
            first.locator("#archive a").first.evaluate("link => link.click()")  # it moves while images load above it
        names = zipfile.ZipFile(download.value.path()).namelist()
        first.locator("#player iframe").scroll_into_view_if_needed()  # browsers do not draw hidden frames
        first.frame_locator("#player iframe").get_by_text(re.compile(r"frame \d+ of \d")).wait_for(timeout=120_000)
        if shots := os.environ.get("SCREENSHOTS"):
            first.wait_for_timeout(15_000)  # the player draws in software
            first.screenshot(path=f"{shots}/first.png")
            second.screenshot(path=f"{shots}/second.png", full_page=True)
    assert not [text for text in errors if "player" in text or "Content Security" in text]
    assert "input/frame0002.ply" in names and not [name for name in names if ".." in name or "<" in name]
    assert len(list((folder / "runs").iterdir())) == 2
    assert not [url for url in outside if not re.match(rf"{address}|data:|blob:", url)]
    assert not subprocess.run(["pgrep", "-f", f"test_path={folder}"], capture_output=True, text=True).stdout


def test_children_end_with_a_job_whose_process_ended_first(tmp_path: Path) -> None:
    job = Job(["infer-4d", "nano", "--help"], tmp_path)
    job.stop()
    script = "trap '' TERM; echo ready >&2; sleep 20"
    job._process = subprocess.Popen(
        [sys.executable, "-c", f"import subprocess, time; subprocess.Popen(['sh', '-c', {script!r}]); time.sleep(60)"],
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert job._process.stderr.readline() == "ready\n"
    start = time.monotonic()
    job.stop()
    job._process.stderr.read()  # which a living child keeps open
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("options", [{"port": 99999}, {"at_once": 0}, {"queue": 0}, {"max_upload": -5}])
def test_impossible_settings_are_named(options: dict[str, int]) -> None:
    with pytest.raises(UserError, match=f"--{next(iter(options))} is "):
        Settings(**options)


@pytest.mark.parametrize("prompt", ["a\0b", "\ud800", "x" * 301, "two\nlines"])
def test_odd_prompts_are_refused(prompt: str) -> None:
    with pytest.raises(UserError, match="one line of at most 300"):
        command(None, prompt, "nano (shipped)", "auto")
