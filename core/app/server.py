"""The server: the page, and the players of finished runs. Works without network; analytics are off."""

from __future__ import annotations

import importlib.util
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from core.app.guard import UploadTotal, fetch_nothing
from core.app.runs import NAME, Limits, Runs
from core.errors import UserError
from core.files import check_workspace
from core.options.checks import within

if TYPE_CHECKING:
    from fastapi import FastAPI

    from core.app.page import Page

_PATIENCE = 2  # seconds for open connections at the end; a page in a browser keeps one
_log = logging.getLogger(__name__)
# The player's page runs its own scripts and can reach neither this page, nor its cookies, nor the network.
_PLAYER_HEADERS = {
    "Content-Security-Policy": "sandbox allow-scripts; default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class Settings:
    """Of the server."""

    workspace: Path = Path("results/app")
    """folder for uploads and results"""
    host: str = "127.0.0.1"
    """address to listen on; the default is this machine only"""
    port: Annotated[int, tyro.conf.arg(metavar="0..65535")] = 7860
    """to listen on"""
    max_upload: int = 200
    """megabytes of an upload"""
    max_uploads: int = 4000
    """megabytes of all uploads, and of the results that pages show, together"""
    max_seconds: float = 20.0
    """of a video"""
    keep_hours: float = 24.0
    """until results are removed"""
    keep_runs: int = 50
    """results kept at most"""
    queue: int = 8
    """jobs that may wait"""
    at_once: int = 1
    """jobs that run at once"""

    def __post_init__(self) -> None:
        within(self, 0, 65535, "port")
        within(self, 1, 1_000_000, "max_upload", "max_uploads", "keep_runs", "queue", "at_once")
        within(self, 0, 1e9, "max_seconds", "keep_hours")


def serve(settings: Settings) -> None:
    """Serve until Ctrl-C.

    Raises:
        UserError: gradio is missing, the folder cannot be written to, or the port is taken.
    """
    app, page = make_app(settings)
    import uvicorn

    _log.info("open http://%s:%d", settings.host, settings.port)
    try:
        where = {"host": settings.host, "port": settings.port}
        uvicorn.run(app, **where, log_level="warning", timeout_graceful_shutdown=_PATIENCE)
    except SystemExit as stop:  # how uvicorn ends where it cannot listen
        raise UserError(f"cannot listen on {settings.host}:{settings.port}; choose another --host or --port") from stop
    finally:
        page.stop_all()


def make_app(settings: Settings) -> tuple[FastAPI, Page]:
    """The application and its page; nothing listens yet."""
    if importlib.util.find_spec("gradio") is None:
        raise UserError("the app needs gradio: pip install -e '.[app]' -c constraints.txt")
    check_workspace(settings.workspace)
    # Before the import, which reads them: no reports home; uploads below the workspace.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    uploads = (settings.workspace / "uploads").absolute()
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import gradio as gr
    from fastapi import FastAPI

    from core.app.page import Page, examples

    fetch_nothing()
    limits = Limits(settings.max_upload, settings.max_seconds, settings.keep_hours, settings.keep_runs)
    runs = Runs(settings.workspace / "runs", limits)
    page = Page(runs, settings.queue, settings.at_once)
    app = FastAPI(openapi_url=None)
    app.add_middleware(UploadTotal, folder=uploads, megabytes=settings.max_uploads, each=settings.max_upload)
    _add_player(app, runs)
    blocks = page.build()
    blocks.has_launched = True  # else gradio takes the path of any file on this machine for an upload
    limited = {"allowed_paths": examples(), "max_file_size": f"{settings.max_upload}mb"}
    return gr.mount_gradio_app(app, blocks, "/", ssr_mode=False, footer_links=[], **limited), page


def _add_player(app: FastAPI, runs: Runs) -> None:
    from fastapi import HTTPException
    from fastapi.responses import FileResponse

    @app.get("/runs/{run}/player")
    def player(run: str) -> FileResponse:
        folder = runs.folder(run)
        path = folder and folder / "results" / f"{NAME}.html"
        if not path or not path.is_file():
            raise HTTPException(404)
        return FileResponse(path, media_type="text/html", headers=_PLAYER_HEADERS)
