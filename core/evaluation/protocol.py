"""Protocols: inputs of a system and the images it is compared with. One TOML file each, validated when read."""

from __future__ import annotations

import os
import types
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from core.errors import UserError
from core.files import read_toml
from core.places import find, looked_in

_MAXIMA = {"frames": 10_000, "size": 4096, "chunk": 1000, "chunks": 1000, "rate": 1000}
Task = Literal["reconstruct", "interpolate", "autoregress", "still"]
SideViews = Literal["first", "none", "generated"]

# Names of side views in protocol files up to version 0.1.
_OLD_SIDE_VIEWS = {"given": "first", "stand_in": "none", "made": "generated"}


@dataclass(frozen=True)
class Protocol:
    """The fields of a protocol file.

    Attributes:
        name: the file's name without suffix; the results have the same name.
        task: ``reconstruct``: Gaussians for every frame. ``interpolate``: every ``rate``-th frame is the input, the
            frames between are compared. ``autoregress``: the clip is played forwards and backwards for ``chunks``
            chunks, compared chunk by chunk. ``still``: the first frame, repeated.
        source: ``clips``: rendered tars. ``folders``: images, OBJECT/VIEW/FRAME.png, see `core.evaluation.folders`.
        list: text file, one object a line, relative to the protocol file; empty for folders: all of them.
        objects: these objects only, in this order.
        clips: which clips of each group in the list, see `core.data.lists.read_groups`.
        frame_rate: of the clips; 8 or 24 frames a second.
        frames: how many, from the first one on.
        input_azimuth: degrees; the camera of the input video. All other azimuths are relative to it.
        side_views: ``first``: true images of frame 0 from 90, 180 and 270 degrees. ``none``: the input video alone.
            ``generated``: made from frame 0 alone, as infer_4d does.
        azimuths: compared cameras, degrees; ``random``: the clip's random cameras, which no input shows.
        elevation: of the cameras at ``azimuths``, degrees above the horizon.
        size: side of the compared images in pixels; 0: ``--output_size``.
        background: RGB in [0, 1] of the compared images; networks always see a white one.
        chunk: frames that a network sees at once; 0: ``--num_frames``.
        chunks: how many, for ``autoregress``.
        chunk_side_views: those of the next chunk, see `core.options.side_views`; empty: ``--chunk_side_views``.
        rate: for ``interpolate``.
        moving_below: dB; an object counts as moving if `GroundTruth.motion` is below.
    """

    name: str
    task: Task
    frames: int
    source: Literal["clips", "folders"] = "clips"
    list: str = ""
    objects: tuple[str, ...] = ()
    clips: Literal["first", "all"] = "all"
    frame_rate: Literal[8, 24] = 8
    input_azimuth: float = 0.0
    side_views: SideViews = "first"
    azimuths: tuple[float, ...] | Literal["random"] = "random"
    elevation: float = 0.0
    size: int = 0
    background: tuple[float, ...] = (1.0, 1.0, 1.0)
    chunk: int = 0
    chunks: int = 10
    chunk_side_views: Literal["", "previous", "first", "moved"] = ""
    rate: int = 3
    moving_below: float = 25.0

    def frame_numbers(self) -> list[int]:
        """Frames of the object in the order of the input video."""
        if self.task == "still":
            return [0] * self.frames
        if self.task == "autoregress":
            forwards = list(range(self.frames))
            period = forwards + forwards[-2:0:-1]
            return [period[i % len(period)] for i in range(self.chunks * (self.chunk - 1) + 1)]
        return list(range(self.frames))

    def compared(self) -> list[int]:
        """Positions in `frame_numbers` at which images are compared one by one."""
        positions = range(len(self.frame_numbers()))
        return [i for i in positions if i % self.rate] if self.task == "interpolate" else list(positions)


def read_protocol(path: str | Path) -> Protocol:
    """Read a protocol file; ``list`` becomes a path relative to the current folder.

    Raises:
        UserError: the file is missing, is no TOML, or a field is unknown, missing or of the wrong kind (named).
    """
    path = find(path)
    if not os.path.lexists(path):
        where = looked_in(path)
        raise UserError(f"cannot read the protocol {path}: no such file{where}; see data_test/protocols for examples")
    values = read_toml(path, "the protocol")
    if values.get("side_views") in list(_OLD_SIDE_VIEWS):
        values["side_views"] = _OLD_SIDE_VIEWS[values["side_views"]]
    problems = _problems(values)
    if not problems:
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        protocol = Protocol(name=path.stem, **values)
        problems = _contradictions(protocol)
    if problems:
        raise UserError(f"protocol {path}: {'; '.join(problems)}")
    listed = os.path.realpath(path.parent / protocol.list) if protocol.list else ""
    return Protocol(**{**vars(protocol), "list": listed})


def _problems(values: dict[str, object]) -> list[str]:
    hints = {name: hint for name, hint in get_type_hints(Protocol).items() if name != "name"}
    needed = [f.name for f in fields(Protocol) if f.default is MISSING and f.name != "name"]
    found = [f"{name} is missing and must be {_words(hints[name])}" for name in needed if name not in values]
    for name, value in values.items():
        if name not in hints:
            found.append(f"there is no field {name!r}; the fields are {', '.join(hints)}")
        elif not _fits(value, hints[name]):
            found.append(f"{name} is {value!r} and must be {_words(hints[name])}")
    return found


def _contradictions(protocol: Protocol) -> list[str]:
    found = [
        f"{name} is {getattr(protocol, name)} and must be at least {minimum}"
        for name, minimum in {
            "frames": 2 if protocol.task == "still" else 1,
            "size": 0,
            "chunk": 0,
            "chunks": 2,
            "rate": 2,
        }.items()
        if getattr(protocol, name) < minimum
    ]
    found += [
        f"{name} is {getattr(protocol, name)} and may be at most {maximum}"
        for name, maximum in _MAXIMA.items()
        if getattr(protocol, name) > maximum
    ]
    if protocol.source == "clips" and not protocol.list and not protocol.objects:
        found.append("clips need a list, or objects")
    if protocol.task == "autoregress" and (protocol.chunk < 2 or protocol.frames < 2):
        found.append(f"autoregress needs frames and a chunk of at least 2, got {protocol.frames} and {protocol.chunk}")
    if protocol.task == "interpolate" and (protocol.frames < 2 or (protocol.frames - 1) % protocol.rate):
        found.append(f"frames is {protocol.frames} and must be a multiple of rate {protocol.rate} and one more")
    if protocol.azimuths == ():
        found.append("azimuths is empty: give degrees or 'random'")
    if protocol.source == "folders" and (protocol.azimuths == "random" or protocol.input_azimuth):
        found.append("folders have no random cameras and count azimuths from the input: give azimuths in degrees")
    if len(protocol.background) != 3 or not all(0 <= value <= 1 for value in protocol.background):
        found.append(f"background is {list(protocol.background)} and must be three numbers from 0 to 1")
    if not abs(protocol.elevation) < 90:
        found.append(f"elevation is {protocol.elevation} and must lie between -90 and 90 degrees")
    return found


def _fits(value: object, hint: Any) -> bool:
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return type(value) in map(type, parts) and value in parts
    if origin in (Union, types.UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is tuple:
        return isinstance(value, list) and all(_fits(item, parts[0]) for item in value)
    if hint is float:
        return type(value) in (int, float)
    return type(value) is hint


def _words(hint: Any) -> str:
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return " or ".join(map(repr, parts))
    if origin in (Union, types.UnionType):
        return " or ".join(map(_words, parts))
    if origin is tuple:
        return f"a list, each item {_words(parts[0])}"
    return {float: "a number", int: "a whole number", str: "text"}[hint]
