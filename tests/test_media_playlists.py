"""Files that name other files: nothing but the video itself is opened, here or in the network."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import torch
from PIL import Image

from core import ffmpeg
from core.errors import UserError
from core.images import save_image
from core.media import read_video, write_video

SECRET = "secret.mp4"


def secret_video(folder: Path) -> Path:
    with write_video(folder / SECRET, 8, (32, 32)) as video:
        for _ in range(4):
            video.write(torch.full((3, 32, 32), 0.3))
    return folder / SECRET


SDP = (
    "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n"
)
MPD = (
    '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT1S">'
    '<Period><AdaptationSet mimeType="video/mp4"><Representation id="0" bandwidth="1"><BaseURL>{target}</BaseURL>'
    "</Representation></AdaptationSet></Period></MPD>"
)
PLAYLISTS = {
    "ffconcat": "ffconcat version 1.0\nfile '{target}'\n",
    "concat with a protocol": "ffconcat version 1.0\nfile 'file:{target}'\n",
    "m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n",
    "sdp": SDP,
    "mpd": MPD,
    "text": "{target}\n" * 40,
}


@pytest.mark.parametrize("allowed", ["", "concat,hls,dash,sdp,image2,tty"], ids=["as it is", "protocols alone"])
@pytest.mark.parametrize("suffix", [".mp4", ".txt", ".ffconcat"])
@pytest.mark.parametrize("playlist", PLAYLISTS.values(), ids=PLAYLISTS)
def test_a_playlist_does_not_open_what_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, playlist: str, suffix: str, allowed: str
) -> None:
    """Two walls, and the second holds without the first: ffmpeg may open no file by name."""
    monkeypatch.setattr(ffmpeg, "CONTAINERS", f"{ffmpeg.CONTAINERS},{allowed}")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        port = server.getsockname()[1]
        for target in (secret_video(tmp_path), SECRET, f"http://127.0.0.1:{port}/a.mp4", f"tcp://127.0.0.1:{port}"):
            path = tmp_path / f"list{suffix}"
            path.write_text(playlist.format(target=target, port=port))
            with pytest.raises(UserError, match=f"list{suffix}"):
                read_video(path)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_the_named_file_itself_is_a_video(tmp_path: Path) -> None:
    assert read_video(secret_video(tmp_path)).num_frames == 4


@pytest.mark.parametrize("name", ["a%03d.png", "*.png", "-.png", "file:a.png", "concat:a|b.mp4", "a\nb.png", "ä ö.png"])
def test_odd_names_are_names(tmp_path: Path, name: str) -> None:
    for other in ("a001.png", "a.png"):
        save_image(torch.zeros(3, 16, 16), tmp_path / other)
    save_image(torch.full((3, 16, 16), 0.6), tmp_path / "plain.png")
    os.rename(tmp_path / "plain.png", tmp_path / name)
    (frame,) = read_video(tmp_path / name).frames()
    assert frame.mean().item() == pytest.approx(0.6, abs=0.01)


def loop(path: Path) -> None:
    path.symlink_to(path)


PLACES = {
    "folder": (lambda path: path.mkdir(), "a folder"),
    "pipe": (os.mkfifo, "a named pipe"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "a device"),
    "loop": (loop, "symbolic link"),
    "empty": (lambda path: path.touch(), "empty"),
    "users": (lambda path: path.symlink_to("/etc/passwd"), "not a video"),
}


@pytest.mark.parametrize("size", [(2, 65_535), (20_000, 3)])
def test_a_picture_whose_square_exceeds_memory(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("L", size).save(tmp_path / "long.png")
    with pytest.raises(UserError, match=f"{size[0]} x {size[1]} pixels"):
        read_video(tmp_path / "long.png")


@pytest.mark.parametrize(("make", "words"), PLACES.values(), ids=PLACES)
def test_odd_files(tmp_path: Path, make: object, words: str) -> None:
    make(tmp_path / "odd.mp4")
    with pytest.raises(UserError, match=words):
        read_video(tmp_path / "odd.mp4")
