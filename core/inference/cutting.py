"""Inputs cut out and cropped, and no more: what the script ``matte.py`` does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from core.inference.inputs import Input, check_outputs, find_inputs
from core.matting.prepare import prepare
from core.options.input import InputOptions


def cut_out(test_path: str | None, workspace: Path, options: InputOptions, suffix: str) -> Iterator[Path]:
    """Write every input of ``--test_path`` as a clip ``NAME.mov`` or ``NAME.mp4`` that is framed as the networks want.

    Raises:
        UserError: as `open_sources`.
    """
    inputs = find_inputs(test_path)
    check_outputs(inputs, workspace, lambda name: [f"{name}.{suffix}"])

    def cut(given: Input) -> Path:
        return prepare(given.open(options.fps), options, workspace / f"{given.name}.{suffix}", always=True).video.path

    return map(cut, inputs)
