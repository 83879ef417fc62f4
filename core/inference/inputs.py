"""Inputs of a command: found and checked, then opened one by one."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from core.checkpoint import file_hash
from core.errors import UserError
from core.files import LONGEST_NAME, check_workspace, regular_file
from core.images import letterbox
from core.media import PICTURE_SUFFIXES, Video, kind_of, read_video, select_frames, windows
from core.multiview.background import centered, check_white, foreground

_NOT_INPUTS = re.compile(r"(_\d{3}|_orig)$")  # side views and copies of first frames, as infer_3d names them
VIDEO_SUFFIXES = (".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")


@dataclass(frozen=True)
class Source:
    """A video and the frames of it that are used.

    Attributes:
        video: the file.
        indices: source frames 0, s, 2s, ...
        rate: frames per second of those, exact.
        recenter: the object is cut out of a picture and centred; a video stays as it is.
    """

    video: Video
    indices: range
    rate: Fraction
    recenter: bool = False

    @property
    def path(self) -> Path:
        """The file."""
        return self.video.path

    @property
    def name(self) -> str:
        """What results are called: the file's name without suffix."""
        return self.path.stem

    @property
    def is_picture(self) -> bool:
        """Whether the file is a picture, by its name."""
        return kind_of(self.path) == "picture"

    @cached_property
    def sha256(self) -> str:
        """Hash of the file."""
        return file_hash(self.path)

    def frames(self, size: int) -> Iterator[Tensor]:
        """The used frames one by one, letterboxed on white to ``[3, size, size]``.

        Raises:
            UserError: the object of a picture is to be centred, and the background is not plain or there is no object.
        """
        return (letterbox(self._prepared(frame), size) for frame in self.video.frames(self.indices))

    def between(self, size: int, rate: int) -> Iterator[Tensor]:
        """What the video shows between its used frames, ``[rate - 1, 3, size, size]`` for each pair of neighbours.

        At 1/rate, 2/rate, ... of the interval: a blend of the two nearest frames of the file. These are the pair itself
        if every frame is used, and closer ones if frames are skipped.
        """
        step, every = self.indices.step, range(self.indices[0], self.indices[-1] + 1)
        shown = (letterbox(self._prepared(frame), size) for frame in self.video.frames(every))
        places = [divmod(step * k, rate) for k in range(1, rate)]
        blends: list[Tensor] = []
        for index, pair in enumerate(windows(shown, 2)):
            blends += [torch.lerp(*pair, part / rate) for at, part in places if at == index % step and len(pair) == 2]
            if (index + 1) % step == 0 or len(pair) == 1:
                yield torch.stack(blends) if blends else pair[0].new_empty(0, 3, size, size)
                blends = []

    def first_frame(self, size: int) -> Tensor:
        """Frame 0 as `frames` gives it, ``[3, size, size]``."""
        return letterbox(self._prepared(next(self.video.frames([0]))), size)

    def _prepared(self, frame: Tensor) -> Tensor:
        if not (self.recenter and self.is_picture):
            return frame
        return centered(frame, foreground(frame, str(self.path)))


def open_sources(
    test_path: str | None,
    workspace: str,
    target_fps: float,
    outputs: Callable[[str], Sequence[str]],
    recenter: bool = False,
    allow_background: bool = False,
) -> Iterator[Source]:
    """Open a video or a picture, or every video of a folder in the order of their names.

    Names and places of all results are checked at once. Files are opened one by one; after the error of one the
    iterator goes on.

    Other files in the folder are ignored. Without a video its pictures are the inputs, except those named as views of
    another.

    Args:
        test_path: the video or folder.
        workspace: where results will go.
        target_fps: videos are thinned out to about this rate.
        outputs: video name -> names of all files and folders that will be written in the workspace.
        recenter: see `Source`.
        allow_background: accept videos whose object is not on white. For pictures `Source` and ``recenter`` decide.

    Raises:
        UserError: there is no input, a video cannot be read, has a background or an unusable name, the workspace is the
            folder of a video, or two videos would write the same file.
    """
    paths = _find_videos(test_path)
    _check_outputs(paths, Path(workspace), outputs)

    def opened(path: Path) -> Source:
        video = read_video(path)
        indices, rate = select_frames(video.num_frames, video.fps, target_fps)
        source = Source(video, indices, rate, recenter)
        if not (allow_background or source.is_picture):
            check_white(next(video.frames([0])), f"the first frame of {video.path}")
        return source

    return map(opened, paths)


def run_all(sources: Iterator[Source], run: Callable[[Source], None]) -> None:
    """Run a program on every input; one that fails does not stop those after it.

    Raises:
        UserError: of the only input; of several at the end, naming all that failed.
    """
    count, failed = 0, []
    while True:
        try:
            source = next(sources, None)
            if source is None:
                break
            run(source)
        except UserError as error:
            failed.append(str(error))
        count += 1
    if failed:
        several = f"{len(failed)} of {count} inputs failed, the others are done: " if count > 1 else ""
        raise UserError(several + "; ".join(dict.fromkeys(failed)))


def _find_videos(test_path: str | None) -> list[Path]:
    if not test_path:
        raise UserError("--test_path is missing: give a video or a picture, or a folder of them")
    path = Path(test_path)
    try:
        if not os.path.isdir(path):
            return [regular_file(path, kind_of(path))]
        files = sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith("."))
    except OSError as error:
        raise UserError(f"cannot read --test_path {path}: {error.strerror}; check the path") from error
    videos = [p for p in files if p.suffix.lower() in VIDEO_SUFFIXES]
    pictures = [p for p in files if p.suffix.lower() in PICTURE_SUFFIXES and not _NOT_INPUTS.search(p.stem)]
    if not videos and not pictures:
        looked_for = " ".join((*VIDEO_SUFFIXES, *PICTURE_SUFFIXES))
        raise UserError(f"there is no video in the folder {path}, nor a picture; looked for {looked_for}")
    return videos or pictures


def _check_outputs(paths: list[Path], workspace: Path, outputs: Callable[[str], Sequence[str]]) -> None:
    check_workspace(workspace)
    claimed: dict[str, Path] = {}
    real = os.path.realpath  # unlike Path.resolve it does not fail on link loops
    for path in paths:
        if real(workspace) in (real(path.parent), os.path.dirname(real(path))):
            raise UserError(
                f"the workspace {workspace} is the folder of the input {path}, where results could overwrite it; "
                f"choose another --workspace"
            )
        names = outputs(path.stem)
        check_name(path, names)
        for output in names:
            _check_place(workspace / output, is_folder=output == path.stem)
            # Lower case, because some file systems ignore case.
            other = claimed.setdefault(output.lower(), path)
            if other != path:
                raise UserError(f"{other} and {path} would both write {workspace / output}; rename one of the videos")


def _check_place(place: Path, is_folder: bool) -> None:
    """Refuse output paths that lead out of the workspace or are taken by something of another kind."""
    if place.is_symlink():
        raise UserError(f"{place} is a symbolic link, and results stay in the workspace; remove it")
    if place.exists() and place.is_dir() != is_folder:
        kind = "a folder" if place.is_dir() else "a file"
        raise UserError(
            f"cannot write {place}: it is {kind}, and a {'folder' if is_folder else 'file'} is needed; move it away"
        )


def check_name(path: Path, outputs: Sequence[str]) -> None:
    """Check that results can be named after a video and stay in the workspace.

    Args:
        path: the video.
        outputs: names of all files that will be written for it.

    Raises:
        UserError: its name without suffix is a dot or two, is hidden, holds separators or control characters, or is too
            long.
    """
    name = path.stem
    if name.startswith("."):
        raise UserError(f"results of {path} would be called {name!r}, which begins with a dot; rename the video")
    if re.search(r"[\x00-\x1f\x7f-\x9f/\\]", name):
        raise UserError(
            f"results of {path} would be called {name!r}, with a control character or separator; rename the video"
        )
    longest = max((len(os.fsencode(output)) for output in outputs), default=0)
    if longest > LONGEST_NAME:
        raise UserError(
            f"the name of {path} is too long: a result would have a name of {longest} bytes, and {LONGEST_NAME} are "
            f"possible; rename the video"
        )
