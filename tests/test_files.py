"""Files of the user's, whatever they are; temporary files, and who removes them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from core.errors import UserError, printable, reason
from core.files import (
    atomic_path,
    is_like,
    parse_rate,
    parse_table,
    read_json,
    read_text,
    read_toml,
    regular_file,
    remove_stale_parts,
)


def loop(path: Path) -> None:
    path.symlink_to(path)


PLACES = {
    "missing": (lambda path: None, "there is no such file; check the path"),
    "folder": (lambda path: path.mkdir(), "it is a folder"),
    "pipe": (os.mkfifo, "it is a named pipe"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "it is a device"),
    "loop": (loop, "Too many levels of symbolic links; repair the symbolic link"),
    "below a file": (lambda path: None, "Not a directory"),
    "large": (lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY), 1 << 40), "more than the"),
}


@pytest.mark.parametrize(("make", "words"), PLACES.values(), ids=PLACES)
def test_an_unreadable_file_is_named(tmp_path: Path, make: Callable[[Path], object], words: str) -> None:
    path = tmp_path / "a.json"
    make(path)
    if words == "Not a directory":
        path.touch()
        path = path / "below"
    for read in (read_text, read_json, read_toml):
        with pytest.raises(UserError) as error:
            read(path, "the thing")
        assert f"cannot read the thing {path}: " in str(error.value) and words in str(error.value)


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "a\nb"])
def test_names_of_missing_files(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="cannot read file") as error:
        regular_file(tmp_path / name)
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3",
        "null",
        "[]",
        '"a"',
        "[" * 200_000,
        '{"a":' * 200_000,
        "{",
        "{} {}",
        "9" * 10_000,
        '{"a": ' + "9" * 10_000 + "}",
    ],
)
def test_json_that_is_not_an_object(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=r"a\.json: it is no JSON") as error:
        read_json(tmp_path / "a.json")
    assert len(str(error.value)) < 500 + len(str(tmp_path))


@pytest.mark.parametrize("text", ["a = " + "[" * 200_000, "a" + ".a" * 5_000 + "= 1\n[", "= 3", "a = 1\na = 2", "a"])
def test_invalid_toml(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(UserError, match=r"a\.toml: it is no TOML"):
        read_toml(tmp_path / "a.toml")


def test_bytes_that_are_not_text(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(UserError, match="give a text file"):
        read_json(tmp_path / "a.json")


def test_good_tables(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"a": [1, {"b": None}]}))
    (tmp_path / "a.toml").write_text("a = [1, 2]")
    assert read_json(tmp_path / "a.json") == {"a": [1, {"b": None}]}
    assert read_toml(tmp_path / "a.toml") == {"a": [1, 2]} == parse_table("a = [1, 2]", tomllib.loads)


def test_values_like_a_default() -> None:
    assert is_like([1, 2], (3,)) and is_like(1, 2.0) and is_like("a", "b") and is_like(True, False)
    assert not is_like([1, "a"], (3,)) and not is_like(True, 1) and not is_like(1, True) and not is_like(None, "a")


def test_messages_are_one_printable_line() -> None:
    assert str(UserError("a\nb\x1b[31m\udc80ä")) == r"a\nb\x1b[31m\udc80ä"
    assert printable("plain") == "plain"
    assert reason(RuntimeError("first\nsecond")) == "first"
    assert reason(KeyError()) == "KeyError" and len(reason(ValueError("x" * 9999))) == 200


def test_a_name_of_the_longest_kind_can_be_written_and_a_longer_one_is_one_line(tmp_path: Path) -> None:
    longest = tmp_path / f"{'ä' * 125}.json"
    with atomic_path(longest) as temporary:
        temporary.write_text("{}")
    assert longest.read_text() == "{}"
    with pytest.raises(UserError, match=r"File name too long.*choose a shorter name"):
        write(tmp_path / f"{'x' * 256}.json")


def write(path: Path) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("{}")


def test_two_writers_of_one_name_do_not_interfere(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a.txt") as first, atomic_path(tmp_path / "a.txt") as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


KILLED = """
import os, sys
from core.files import atomic_path
with atomic_path(sys.argv[1]) as path:
    path.write_text("half")
    print(path, flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_process_left_is_removed_and_what_a_running_one_writes_stays(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path / "frame.0001.ply")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as writer:
        part = Path(writer.stdout.readline().strip())
        with atomic_path(tmp_path / "own.mp4") as own:
            own.write_text("half")
            assert remove_stale_parts(tmp_path) == [] and part.exists()
            writer.kill()
            writer.wait()
            assert remove_stale_parts(tmp_path) == [part] and not part.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["own.mp4"]


def test_files_of_others_stay(tmp_path: Path) -> None:
    """Also those of this project on another machine, until a day has passed."""
    names = [".part", ".a.part", "a.part.txt", ".a.123.part.txt", ".x.0badcafe-99999999-00000000.part.d"]
    for name in names:
        (tmp_path / name).touch()
    elsewhere = tmp_path / ".x.0badcafe-1-00000000.part.ply"
    elsewhere.touch()
    (tmp_path / ".y.0badcafe-1-00000000.part").mkdir()
    assert remove_stale_parts(tmp_path) == []
    day_before = time.time() - 90_000
    os.utime(elsewhere, (day_before, day_before))
    assert remove_stale_parts(tmp_path) == [elsewhere]
    assert {path.name for path in tmp_path.iterdir()} == {*names, ".y.0badcafe-1-00000000.part"}
    assert remove_stale_parts(tmp_path / "none") == remove_stale_parts(tmp_path / ("x" * 300)) == []


@pytest.mark.parametrize("value", ["1e99999999", "0", "0/5", "5/0", "-3", "inf", float("inf"), True, None, 10**400])
def test_odd_rates_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"frame rate|digits|integer"):
        parse_rate(value)


def test_rates_are_exact() -> None:
    assert list(map(parse_rate, (15, "7.5", "30000/1001"))) == [15, Fraction(15, 2), Fraction(30000, 1001)]
