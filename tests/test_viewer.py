"""The viser viewer: what it shows at which time, and its messages."""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from core.errors import UserError
from core.export.sequences import open_sequences
from core.export.viewer import Viewer, start_server
from core.ply import save_ply
from tests.moving_splats import COUNTS, moving_frames, write_moving_clip
from tests.test_ply import covariances

has_viser = pytest.mark.skipif(importlib.util.find_spec("viser") is None, reason="pip install -e '.[viewer]'")


@pytest.fixture
def viewer(tmp_path: Path) -> Iterator[Viewer]:
    """A clip of 0.6 s beside a folder of two frames, 2/15 s."""
    clip = open_sequences(write_moving_clip(tmp_path / "x.l4gm"))
    for index in (0, 1):
        save_ply(moving_frames()[index], tmp_path / "two" / f"{index}.ply")
    server = start_server("127.0.0.1", 0)
    yield Viewer(server, [*clip, *open_sequences(tmp_path / "two")])
    server.stop()


@has_viser
def test_sequences_play_side_by_side_at_their_own_rates(viewer: Viewer) -> None:
    assert viewer.seconds == pytest.approx(0.6)
    assert viewer.splats[0].position[0] == -viewer.splats[1].position[0] != 0
    for seconds, shown in ((0.0, [0, 0]), (0.1, [1, 1]), (0.3, [3, 0]), (0.59, [5, 0])):
        viewer.time.value = seconds
        assert viewer.shown == shown
        assert len(viewer.splats[0].centers) == COUNTS[shown[0]]
    expected = covariances(moving_frames()[5]).numpy()
    np.testing.assert_allclose(viewer.splats[0].covariances, expected, rtol=0.2, atol=1e-4)
    viewer.playing.value = False
    viewer.play(0.1)
    assert viewer.time.value == 0.59
    viewer.playing.value = True
    viewer.play(0.1)
    assert viewer.time.value == pytest.approx(0.09)


@has_viser
def test_it_listens_on_this_machine_and_draws_the_input_cameras(viewer: Viewer) -> None:
    assert viewer.server.get_host() == "127.0.0.1"
    front, right = viewer.cameras[:2]
    np.testing.assert_allclose(front.position - viewer.splats[0].position, [0, 0, 1.5], atol=1e-6)
    np.testing.assert_allclose(right.position - viewer.splats[0].position, [1.5, 0, 0], atol=1e-6)
    np.testing.assert_allclose(np.abs(front.wxyz), [0, 1, 0, 0], atol=1e-6)  # looks along -z, y down


@has_viser
@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1", "no such host"])
def test_where_it_cannot_listen_one_line_says_so(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"cannot listen on {host}, port {port}"):
            start_server(host, port)
    with pytest.raises(UserError, match="port 70000"):
        start_server("127.0.0.1", 70000)


def test_without_viser_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"\[viewer\]"):
        start_server("127.0.0.1", 8080)
