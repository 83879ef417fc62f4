"""Which videos to run on, opened and checked before any work begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path

from torch import Tensor

from core.checkpoint import file_hash
from core.errors import UserError
from core.images import letterbox
from core.media import Video, read_video, select_frames

VIDEO_SUFFIXES = (".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")


@dataclass(frozen=True)
class Source:
    """A video and the frames of it that are used.

    Attributes:
        video: the file.
        indices: source frames 0, s, 2s, ...
        rate: frames per second of those, exact.
    """

    video: Video
    indices: range
    rate: Fraction

    @property
    def path(self) -> Path:
        """The file."""
        return self.video.path

    @property
    def name(self) -> str:
        """What results are called: the file's name without suffix."""
        return self.path.stem

    @cached_property
    def sha256(self) -> str:
        """Hash of the file."""
        return file_hash(self.path)

    def frames(self, size: int) -> Iterator[Tensor]:
        """The used frames one by one, letterboxed on white to ``[3, size, size]``."""
        return (letterbox(frame, size) for frame in self.video.frames(self.indices))

    def first_frame(self, size: int) -> Tensor:
        """Frame 0, letterboxed on white to ``[3, size, size]``."""
        return letterbox(next(self.video.frames([0])), size)


def open_sources(
    test_path: str | None, workspace: str, target_fps: float, outputs: Callable[[str], Sequence[str]]
) -> list[Source]:
    """Open a video, or every video of a folder in the order of their names; other files there are passed over.

    Args:
        test_path: the video or folder.
        workspace: where results will go.
        target_fps: videos are thinned out to about this rate.
        outputs: video name -> names of all files and folders that will be written in the workspace.

    Raises:
        UserError: nothing there, a video cannot be read, the workspace is the folder of a video, or two videos would
            write the same file.
    """
    paths = _find_videos(test_path)
    _check_outputs(paths, Path(workspace), outputs)
    sources = []
    for video in map(read_video, paths):
        indices, rate = select_frames(video.num_frames, video.fps, target_fps)
        sources.append(Source(video, indices, rate))
    return sources


def _find_videos(test_path: str | None) -> list[Path]:
    if not test_path:
        raise UserError("--test_path is missing: give a video, or a folder of videos")
    path = Path(test_path)
    if not path.is_dir():
        return [path]
    videos = sorted(
        p for p in path.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES and p.is_file() and not p.name.startswith(".")
    )
    if not videos:
        raise UserError(f"there is no video in the folder {path}; looked for {' '.join(VIDEO_SUFFIXES)}")
    return videos


def _check_outputs(paths: list[Path], workspace: Path, outputs: Callable[[str], Sequence[str]]) -> None:
    claimed: dict[str, Path] = {}
    for path in paths:
        if workspace.resolve() in (path.parent.resolve(), path.resolve().parent):
            raise UserError(
                f"the workspace {workspace} is the folder of the input {path}, where results could overwrite it; "
                f"choose another --workspace"
            )
        for output in outputs(path.stem):
            # Lower case, because some file systems do not tell x from X.
            other = claimed.setdefault(output.lower(), path)
            if other != path:
                raise UserError(f"{other} and {path} would both write {workspace / output}; rename one of the videos")
