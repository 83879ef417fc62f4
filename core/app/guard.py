"""What the server refuses before gradio sees it: uploads beyond a total, and addresses that it should fetch."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


class UploadTotal:
    """ASGI middleware: an upload is refused where the folder and all uploads under way would exceed a total.

    Args:
        app: what is served.
        folder: of the uploads.
        megabytes: the total.
        each: megabytes that one request may bring.
    """

    def __init__(self, app: App, folder: Path, megabytes: int, each: int) -> None:
        self.app, self.folder, self.total, self.each = app, folder, megabytes << 20, (each + 1) << 20
        self.under_way = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 413 or 507."""
        if scope["type"] != "http" or scope["method"] != "POST" or not scope["path"].rstrip("/").endswith("/upload"):
            return await self.app(scope, receive, send)
        length = dict(scope["headers"]).get(b"content-length", b"")
        if not length.isdigit() or int(length) > self.each:
            return await _refuse(send, 413, "the upload is too large, or does not say its length")
        size = int(length)
        if _size(self.folder) + self.under_way + size > self.total:
            return await _refuse(send, 507, "the server keeps no more uploads now; try again later")
        self.under_way += size
        try:
            await self.app(scope, receive, send)
        finally:
            self.under_way -= size


def fetch_nothing() -> None:
    """Gradio fetches what a client names by an address instead of uploading it; from now on it refuses."""
    from gradio import processing_utils

    async def refuse(url: str) -> None:
        raise ValueError(f"{url} is not fetched; upload the file")

    processing_utils.async_ssrf_protected_get = refuse  # all of gradio's fetching goes through it


def _size(folder: Path) -> int:
    """Bytes of the files below a folder."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size
        except FileNotFoundError:  # removed meanwhile
            continue
    return total


async def _refuse(send: Send, status: int, why: str) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": why.encode()})
