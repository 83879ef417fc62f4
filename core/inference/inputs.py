"""Inputs of a command: found and checked, then opened one by one."""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from core.checkpoint import file_hash
from core.errors import UserError
from core.files import LONGEST_NAME, check_workspace, regular_file
from core.images import letterbox, on_white
from core.matting.pictures import Clip, numbered_clips, read_pictures
from core.matting.prepare import prepare
from core.media import PICTURE_SUFFIXES, Video, kind_of, read_video, windows
from core.multiview.background import centered, foreground, is_plain
from core.options.input import InputOptions

_NOT_INPUTS = re.compile(r"(_\d{3}|_orig)$")  # side views and copies of first frames, as infer_3d names them
VIDEO_SUFFIXES = (".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")


Item = TypeVar("Item")


@dataclass(frozen=True)
class Input:
    """What ``--test_path`` names: a file, or numbered pictures that are one clip.

    Attributes:
        path: the file, or the folder of the pictures.
        name: what results are called.
        pictures: the numbered pictures; empty for a file.
    """

    path: Path
    name: str
    pictures: tuple[Path, ...] = ()

    @property
    def is_picture(self) -> bool:
        """Whether it is a single picture, by its name."""
        return not self.pictures and kind_of(self.path) == "picture"

    def open(self, fps: float) -> Clip:
        """Read it, pictures at this rate. Raises `UserError` where it cannot be read."""
        return read_pictures(self.pictures, fps) if self.pictures else read_video(self.path)


@dataclass(frozen=True)
class Source:
    """A video and the frames of it that are used.

    Attributes:
        given: what the user gave.
        video: the file that the frames come from: the given one, or the one that was cut out of it.
        indices: its used frames 0, s, 2s, ...
        rate: frames per second of those, exact.
        matte: what told the object from the background; none: the frames are the given ones.
        recenter: the object is cut out of a picture and centred; a video stays as it is.
    """

    given: Input
    video: Video
    indices: range
    rate: Fraction
    matte: str = "none"
    recenter: bool = False

    @property
    def path(self) -> Path:
        """The given file, or the folder of the given pictures."""
        return self.given.path

    @property
    def name(self) -> str:
        """What results are called."""
        return self.given.name

    @property
    def is_picture(self) -> bool:
        """Whether a single picture was given."""
        return self.given.is_picture

    @cached_property
    def sha256(self) -> str:
        """Hash of the given file; of several, of their hashes."""
        if not self.given.pictures:
            return file_hash(self.path)
        return hashlib.sha256("".join(map(file_hash, self.given.pictures)).encode()).hexdigest()

    def frames(self, size: int) -> Iterator[Tensor]:
        """The used frames one by one, letterboxed on white to ``[3, size, size]``.

        Raises:
            UserError: the object of a picture is to be centred and its ground is not plain, or there is none.
        """
        return (letterbox(self._prepared(frame), size) for frame in self.video.frames(self.indices))

    def between(self, size: int, rate: int) -> Iterator[Tensor]:
        """What the video shows between its used frames, ``[rate - 1, 3, size, size]`` for each pair of neighbours.

        At each time 1/rate, 2/rate, ... of the way a blend of the two nearest frames of the file: where every frame is
        used those are the pair itself, where some are passed over they are nearer.
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
        """The first used frame as `frames` gives it, ``[3, size, size]``."""
        return letterbox(self._prepared(next(self.video.frames(self.indices[:1]))), size)

    def _prepared(self, frame: Tensor) -> Tensor:
        if not (self.recenter and self.is_picture):
            return frame
        return centered(frame, foreground(frame, str(self.path)))


def open_sources(
    test_path: str | None,
    workspace: str,
    options: InputOptions,
    outputs: Callable[[str], Sequence[str]],
    recenter: bool = False,
    every: bool = False,
) -> Iterator[Source]:
    """Open everything that ``--test_path`` names, in the order of the names; cut out and crop what has a background.

    Names and places of all results are checked at once. Files are opened one by one; after the error of one the
    iterator goes on.

    Args:
        test_path: a video or picture, a folder of them or of numbered pictures, or a pattern such as ``clips/*.mp4``.
            Where a folder holds videos, its pictures are passed over; so are pictures named as views of another.
        workspace: where results will go, and NAME_input.mov where an input is cut out.
        options: which frames, which matte.
        outputs: name -> names of all files and folders that will be written in the workspace.
        recenter: see `Source`.
        every: what lies between the used frames will be asked for.

    Raises:
        UserError: nothing there, something cannot be read, it has a background and no way to cut the object out, a name
            that no result can have, the workspace is the folder of a video, or two inputs would write the same file.
    """
    inputs = find_inputs(test_path)
    check_outputs(inputs, Path(workspace), outputs)

    def opened(given: Input) -> Source:
        clip = given.open(options.fps)
        target = Path(workspace, f"{given.name}_input.mov")
        made = prepare(clip, _options_of(given, clip, options, recenter), target, every=every)
        return Source(given, made.video, made.indices, made.rate, made.matte, recenter)

    return map(opened, inputs)


def run_all(sources: Iterator[Item], run: Callable[[Item], object]) -> None:
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


def _options_of(given: Input, clip: Clip, options: InputOptions, recenter: bool) -> InputOptions:
    """Of single pictures `Source` cuts out the plain ground: only what it cannot is left to rembg."""
    if not given.is_picture:
        return options
    needed = options.matte == "auto" and recenter and not is_plain(on_white(next(iter(clip.pixels([0])))))
    return replace(options, matte="rembg" if needed or options.matte == "rembg" else "none")


def find_inputs(test_path: str | None) -> list[Input]:
    """What ``--test_path`` names, unread; raises `UserError` where it names nothing."""
    if not test_path:
        raise UserError("--test_path is missing: give a video, a picture, or a folder of them")
    path = Path(test_path)
    try:
        if os.path.isdir(path):
            files = sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith("."))
        elif not os.path.lexists(path) and glob.has_magic(test_path):
            files = sorted(p for p in map(Path, glob.glob(test_path)) if p.is_file())
        else:
            return [Input(regular_file(path, kind_of(path)), path.stem)]
    except OSError as error:
        raise UserError(f"cannot read --test_path {path}: {error.strerror}; check the path") from error
    videos = [p for p in files if p.suffix.lower() in VIDEO_SUFFIXES]
    pictures = [p for p in files if p.suffix.lower() in PICTURE_SUFFIXES]
    clips = [] if videos else numbered_clips(pictures)
    in_clips = {p for _, group in clips for p in group}
    single = [p for p in pictures if p not in in_clips and not _NOT_INPUTS.search(p.stem)]
    homes = Counter(group[0].parent for _, group in clips)
    numbered = [Input(group[0].parent, _clip_name(name, group[0].parent, homes), tuple(group)) for name, group in clips]
    found = numbered + [Input(p, p.stem) for p in videos or single]
    if not found:
        looked_for = " ".join((*VIDEO_SUFFIXES, *PICTURE_SUFFIXES))
        kind = "there is no video in the folder" if os.path.isdir(path) else "no video matches"
        raise UserError(f"{kind} {path}, nor a picture; looked for {looked_for}")
    return found


def _clip_name(name: str, folder: Path, homes: Mapping[Path, int]) -> str:
    """Of pictures that are the only clip of their folder, or have no name but numbers, the folder's name."""
    return name if name and homes[folder] > 1 else Path(os.path.abspath(folder)).name


def check_outputs(inputs: list[Input], workspace: Path, outputs: Callable[[str], Sequence[str]]) -> None:
    """Check that nothing stands where results will go, as `open_sources` says."""
    check_workspace(workspace)
    claimed: dict[str, Input] = {}
    real = os.path.realpath  # of Path.resolve's errors, for loops of links, it has none
    for given in inputs:
        path = given.path
        folders = (real(path),) if given.pictures else (real(path.parent), os.path.dirname(real(path)))
        if real(workspace) in folders:
            raise UserError(
                f"the workspace {workspace} is the folder of the input {path}, where results could overwrite it; "
                f"choose another --workspace"
            )
        names = outputs(given.name)
        check_name(path, given.name, names)
        for output in names:
            _check_place(workspace / output, is_folder=output == given.name)
            # Lower case, because some file systems do not tell x from X.
            other = claimed.setdefault(output.lower(), given)
            if other != given:
                raise UserError(
                    f"{other.path} and {path} would both write {workspace / output}; rename one of the videos"
                )


def _check_place(place: Path, is_folder: bool) -> None:
    """Refuse places of results that lead out of the workspace or hold something of another kind."""
    if place.is_symlink():
        raise UserError(f"{place} is a symbolic link, and results stay in the workspace; remove it")
    if place.exists() and place.is_dir() != is_folder:
        kind = "a folder" if place.is_dir() else "a file"
        raise UserError(
            f"cannot write {place}: it is {kind}, and a {'folder' if is_folder else 'file'} is needed; move it away"
        )


def check_name(path: Path, name: str, outputs: Sequence[str]) -> None:
    """Check that results can be called after a video and stay in the workspace.

    Args:
        path: the video.
        name: what results will be called.
        outputs: names of all files that will be written for it.

    Raises:
        UserError: the name is a dot or two, is hidden, holds separators or control characters, or is too
            long.
    """
    if not name or name.startswith("."):
        raise UserError(
            f"results of {path} would be called {name!r}, which is empty or begins with a dot; rename the video"
        )
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
