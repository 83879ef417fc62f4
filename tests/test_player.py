"""The page that plays a clip, in headless Chromium with WebGL in software.

It needs Chromium: `apt-get install chromium`, or `.venv/bin/playwright install chromium`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from playwright.sync_api import Page

from core.errors import UserError
from core.export.packed import GROUP, load_clip
from core.export.player import VERSION, write_player
from core.images import load_image
from core.losses import psnr
from tests.moving_splats import COUNTS, browser, find_chromium, moving_frames, render, tracked_frames, write_moving_clip
from tests.test_architecture import ROOT

SIZE = 200
TITLE = 'a "quoted" </script><script>document.title = "taken over"</script> & {{clip}} 恐竜'
STYLE = f"#stage {{ position: fixed !important; inset: 0 auto auto 0; width: {SIZE}px; height: {SIZE}px; }}"
VENDOR = ROOT / "core" / "export" / "vendor" / "playcanvas"
needs_chromium = pytest.mark.skipif(find_chromium() is None, reason="Chromium is not installed, see this file's head")
BAR = (
    24  # dB; a wrong frame or side has 3 less, as is checked. The page's renderer draws the tails of Gaussians fainter
)


def wait_for(page: Page, condition: str) -> None:
    """Wait until JavaScript says yes. (The page's content policy forbids playwright's own wait.)"""
    end = time.monotonic() + 60
    while not page.evaluate(condition):
        assert time.monotonic() < end, f"{condition}: {page.inner_text('body')}"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def player(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The page of the moving clip at rest; input pictures are grey, brighter with time; errors end the test."""
    folder = tmp_path_factory.mktemp("odd 'name' #1 %41 ü")
    greys = (torch.full((3, 40, 60), level) for level in (0.2, 0.5, 0.8))
    write_player(folder / "x.html", write_moving_clip(folder / "x.l4gm"), TITLE, greys, 5)
    with browser() as running:
        page = running.new_page(viewport={"width": 900, "height": 500})
        page.said, page.asked = [], []
        page.on("console", lambda message: page.said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto((folder / "x.html").as_uri())
        wait_for(page, "window.player && player.shown >= 0")
        page.add_style_tag(content=STYLE)
        page.evaluate("player.setPlaying(false)")
        yield page
        assert not page.said


@pytest.fixture
def shot(player: Page, tmp_path: Path) -> Callable[[], torch.Tensor]:
    """Takes a picture of the 3D view, ``[3, SIZE, SIZE]``."""

    def take() -> torch.Tensor:
        player.locator("#view").screenshot(path=tmp_path / "view.png")
        return load_image(tmp_path / "view.png")

    return take


@needs_chromium
@pytest.mark.parametrize("index", [0, 3, 5])
@pytest.mark.parametrize("azimuth", [0, 100])
def test_shows_what_our_renderer_draws(
    player: Page, shot: Callable[[], torch.Tensor], index: int, azimuth: int
) -> None:
    player.evaluate(f"player.show({index}, {azimuth}, 0, 1.5)")
    frames, picture = moving_frames(), shot()
    right = render(frames[index], azimuth, SIZE)
    wrong = [render(frames[other], azimuth, SIZE) for other in (0, 3, 5) if other != index]
    wrong += [render(frames[index], azimuth + 180, SIZE), right.flip(-1), right.flip(-2), torch.ones_like(right)]
    assert psnr(picture, right) > BAR
    assert max(psnr(picture, image) for image in wrong) < BAR - 3


@needs_chromium
def test_unpacks_gaussians_that_move_as_we_do(player: Page, tmp_path: Path) -> None:
    path = write_moving_clip(tmp_path / "x.l4gm", tracked_frames())
    for index in (0, 5, GROUP - 1, GROUP, GROUP + 2):
        unpacked = (
            "([bytes, k]) => new Clip(new Uint8Array(bytes)).frame(k).then((columns) => columns.map((c) => [...c]))"
        )
        columns = torch.tensor(player.evaluate(unpacked, [list(path.read_bytes()), index]))
        expected = load_clip(path)[index]
        torch.testing.assert_close(columns[:3].T, expected.means)
        torch.testing.assert_close(F.normalize(columns[10:].T, dim=-1), expected.quats)


@needs_chromium
def test_a_frame_without_gaussians_is_white(player: Page, shot: Callable[[], torch.Tensor]) -> None:
    player.evaluate(f"player.show({COUNTS.index(0)}, 0, 0, 1.5)")
    assert (shot() > 0.99).all()


@needs_chromium
def test_no_draw_shows_a_mixture_of_frames_and_the_camera_stays(player: Page) -> None:
    """Sums of all drawn pixels while it plays are those of frames at rest."""
    player.evaluate("""() => {
        window.total = () => {
            const { gl } = player.app.graphicsDevice, { width, height } = player.orbit.canvas;
            const pixels = new Uint8Array(4 * width * height);
            gl.bindFramebuffer(gl.READ_FRAMEBUFFER, null);
            gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
            return pixels.reduce((sum, value, at) => (sum * 31 + value) % 1000003, 7);
        };
        window.record = [];
        player.app.on("frameend", () => record.push([player.shown, total()]));
    }""")
    still = []
    for index in range(len(COUNTS)):
        player.evaluate(f"player.show({index}, 30, 0, 1.5)")
        still.append(player.evaluate("record.at(-1)[1]"))
    assert len(set(still)) == len(COUNTS)
    player.evaluate("record.length = 0; player.time = 0; player.setPlaying(true)")
    wait_for(player, "record.length > 40 && new Set(record.map((each) => each[0])).size == 6")
    player.evaluate("player.setPlaying(false)")
    drawn = player.evaluate("record")
    assert {total for _, total in drawn} == set(still)
    assert player.evaluate("[player.orbit.azimuth, player.orbit.radius]") == [30, 1.5]


@needs_chromium
def test_controls(player: Page) -> None:
    """Play, pause, scrub, speed, keys, drag, wheel, two fingers, back to the front."""
    player.click("#play")
    assert player.evaluate("player.playing")
    player.click("#play")
    player.evaluate("byId('scrub').value = 4; byId('scrub').dispatchEvent(new Event('input'))")
    wait_for(player, "player.shown == 4")
    assert "frame 5 of 6" in player.inner_text("#time")
    player.locator("#view").focus()
    player.keyboard.press("ArrowRight")
    wait_for(player, "player.shown == 5")
    player.keyboard.press("ArrowRight")  # round
    wait_for(player, "player.shown == 0")
    player.select_option("#speed", "0.5")
    assert player.evaluate("player.speed") == 0.5
    player.evaluate("player.orbit.place(0)")
    box = player.locator("#view").bounding_box()
    player.mouse.move(box["x"] + 150, box["y"] + 100)
    player.mouse.down()
    player.mouse.move(box["x"] + 50, box["y"] + 110)
    player.mouse.up()
    player.mouse.wheel(0, 200)
    assert player.evaluate("player.orbit.azimuth") == pytest.approx(90)
    assert player.evaluate("player.orbit.elevation") == pytest.approx(9)
    assert player.evaluate("player.orbit.radius") > 1.6
    player.evaluate("""() => {
        const fire = (kind, id, x) => player.orbit.canvas.dispatchEvent(
            new PointerEvent(kind, { pointerId: id, pointerType: "touch", clientX: x, clientY: 100 }));
        player.orbit.canvas.setPointerCapture = () => {}; // of fingers that do not exist
        player.orbit.place(0);
        fire("pointerdown", 11, 50); fire("pointerdown", 12, 100); fire("pointermove", 12, 150);
        fire("pointerup", 11, 0); fire("pointerup", 12, 0);
    }""")
    assert player.evaluate("[player.orbit.azimuth, player.orbit.radius]") == [0, 0.75]
    player.click("#reset")
    assert player.evaluate("player.orbit.radius") == 1.5


@needs_chromium
@pytest.mark.parametrize(("index", "level"), [(0, 51), (1, 51), (2, 128), (5, 204)])
def test_the_input_is_in_step(player: Page, index: int, level: int) -> None:
    """10 frames a second beside 5 pictures a second."""
    player.evaluate(f"player.show({index})")
    pixel = player.evaluate("[...byId('input').getContext('2d').getImageData(30, 20, 1, 1).data]")
    assert pixel[:3] == pytest.approx([level] * 3, abs=2)


@needs_chromium
def test_names_are_text_and_nothing_is_fetched(player: Page) -> None:
    assert player.title() == TITLE
    assert TITLE in player.inner_text("#space figcaption")
    assert {url.partition(":")[0] for url in player.asked} <= {"file", "blob", "data"}


def test_the_page_states_the_licence_and_loads_nothing(tmp_path: Path) -> None:
    write_player(tmp_path / "x.html", write_moving_clip(tmp_path / "x.l4gm"), TITLE)
    text = (tmp_path / "x.html").read_text()
    assert "Permission is hereby granted" in text and "Copyright (c) 2011-2026 PlayCanvas Ltd." in text
    assert 'taken over"</script>' not in text and "default-src 'none'" in text
    assert 'src="' not in text and len(text) < 600_000


def test_the_renderer_is_the_recorded_one() -> None:
    content = (VENDOR / "playcanvas.min.js").read_bytes()
    assert hashlib.sha256(content).hexdigest() == "b8521c8b7d7c33f9eb9f45b746655cb014383cb3b665947fb6bb0d7e54ce6cd3"
    assert len(content) < 1_500_000 and f"engine {VERSION}" in (VENDOR / "README.md").read_text()


def test_a_page_needs_its_clip_and_a_place(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        write_player(tmp_path / "x.html", tmp_path / "none.l4gm", "x")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        write_player(tmp_path / "file" / "x.html", write_moving_clip(tmp_path / "x.l4gm"), "x")
    assert not (tmp_path / "x.html").exists()
