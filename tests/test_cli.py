"""The command line: flat, with the published spellings; errors end in one line."""

from __future__ import annotations

import errno
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from core.cli import parse_options, run
from core.errors import UserError


def test_published_command_lines_parse() -> None:
    line = (
        "big --workspace results --resume a.safetensors --interpresume b.safetensors --num_frames 16 --test_path x.mp4"
    )
    options = parse_options("", line.split())
    assert options.run.workspace == "results"
    assert options.infer.interpresume == "b.safetensors"
    assert options.data.num_frames == 16
    assert options.model.splat_size == 128


def test_tuples_none_and_switches_as_published() -> None:
    options = parse_options("", "tiny --resume None --down_channels 32 64 128 256 512 --no-use_temp_attn".split())
    assert options.run.resume is None
    assert options.model.down_channels == (32, 64, 128, 256, 512)
    assert not options.model.use_temp_attn


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "Expected one of {lrm, small, big, tiny, nano}; see "),
        ("huge", "Unrecognized options: huge; presets: lrm, small, big, tiny, nano; see "),
        ("nano --no_such 1", "Unrecognized options: --no_such, 1; see "),
        ("nano --data_lst x", "perhaps you meant --datalist; see "),
        ("nano --lr fast", "--lr: could not convert string to float: 'fast'; see "),
        ("nano --mixed_precision fp8", "Expected one of ('no', 'fp16', 'bf16'); see "),
    ],
)
def test_bad_lines_exit_with_2_and_one_line(line: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run(lambda: parse_options("", line.split()))
    assert stop.value.code == 2
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert words in said and said.startswith("error: ") and said.endswith(" --help")


@pytest.mark.parametrize(
    ("line", "word"), [("--splat_size 32", "splat_size is 32"), ("--num_frames 0", "num_frames is 0")]
)
def test_values_that_cannot_be_end_in_one_line(line: str, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run(lambda: parse_options("", ["nano", *line.split()]))
    assert stop.value.code == 2
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert word in said


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UserError("x.mp4 is empty"), 2),
        (OSError(errno.ENOSPC, "No space left on device", "x.nbi"), 2),
        (MemoryError(), 2),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), 2),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_end_in_one_line(error: BaseException, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as stop:
        run(main)
    assert stop.value.code == status
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


_PAGES = """
import resource, sys
from threading import Thread
import torch
from core.cpu.memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def work():
    for _ in range(64):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.empty(40 << 18).fill_(1)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
if sys.argv[2] == "main":
    work()
else:
    thread = Thread(target=work)
    thread.start()
    thread.join()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt belongs to glibc")
@pytest.mark.parametrize("thread", ["main", "other"])
def test_the_memory_of_a_large_tensor_is_used_again(thread: str) -> None:
    """Pages that the 64th tensor of 40 MB fetches from the kernel: none, and without the call all.

    The first tensors do fetch: glibc's thread cache holds on to the seven small rests of each size that aligning
    leaves beside them, and a block with such a neighbour is too short to serve again.
    """

    def pages(how: str) -> int:
        command = [sys.executable, "-c", _PAGES, how, thread]
        return int(subprocess.run(command, check=True, capture_output=True, cwd=Path(__file__).parents[1]).stdout)

    assert pages("keep") < 100 < pages("leave")
