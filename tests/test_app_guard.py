"""What clients of the web app may send: uploads in bounds, and nothing by its address."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.app.server import Settings, make_app
from tests.tiny import square_video

pytest.importorskip("gradio", reason="needs gradio: pip install -e '.[app]'")
TestClient = pytest.importorskip("fastapi.testclient").TestClient


def looked(client: object, path: str) -> int:
    """Status of the answer to a client that names a file, or its address, for a preview."""
    look = next(row["id"] for row in client.get("/config").json()["dependencies"] if row["api_name"] == "look")
    given = {"path": path, "meta": {"_type": "gradio.FileData"}}
    body = {"data": [given], "fn_index": look, "session_hash": "x"}
    return client.post("/gradio_api/run/look", json=body).status_code


def test_only_uploads_are_inputs(tmp_path: Path) -> None:
    app, _ = make_app(Settings(workspace=tmp_path / "w"))
    own = square_video(tmp_path / "private.mp4")
    with TestClient(app) as client:
        (uploaded,) = client.post("/gradio_api/upload", files={"files": ("a.mp4", own.read_bytes())}).json()
        assert looked(client, uploaded) == 200 and looked(client, str(own)) == 500


def test_the_server_fetches_no_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []

    async def get(url: str, **_: object) -> object:
        fetched.append(url)
        raise ValueError

    app, _ = make_app(Settings(workspace=tmp_path / "w"))
    monkeypatch.setattr("gradio.processing_utils.sh.get", get)
    with TestClient(app) as client:
        assert looked(client, "http://example.com/a.mp4") == 500 and not fetched


def test_uploads_are_bounded_together(tmp_path: Path) -> None:
    app, _ = make_app(Settings(workspace=tmp_path / "w", max_upload=1, max_uploads=3))
    with TestClient(app) as client:

        def status(megabytes: float, name: str) -> int:
            content = name.encode() * round(megabytes * (1 << 20))
            return client.post("/gradio_api/upload", files={"files": (f"{name}.mp4", content)}).status_code

        assert [status(0.9, name) for name in "abcd"] == [200, 200, 200, 507]
        assert status(0.05, "f") == 200
        assert status(2.5, "e") == 413
        endless = client.post("/gradio_api/upload", content=iter([b"x"]), headers={"content-type": "text/plain"})
        assert endless.status_code == 413
