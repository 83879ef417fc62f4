"""Protocol files: typed when read, and every mistake named with its file."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.data.lists import read_groups
from core.errors import UserError
from core.evaluation.protocol import read_protocol
from tests.evaluation_place import write_protocol

SHIPPED = sorted(Path("data_test/protocols").glob("*.toml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_protocols_are_read_and_their_lists_exist(path: Path) -> None:
    protocol = read_protocol(path)
    assert protocol.name == path.stem
    assert protocol.source == "folders" or read_groups(protocol.list)


def test_values_keep_their_types(tmp_path: Path) -> None:
    protocol = read_protocol(write_protocol(tmp_path, azimuths="[15, -75.5]", elevation="10", background="[0, 0, 0]"))
    assert (protocol.azimuths, protocol.elevation, protocol.background) == ((15, -75.5), 10, (0, 0, 0))
    assert protocol.objects == ("p-cow-0", "p-fish-0")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"frames": "'three'"}, "frames is 'three' and must be a whole number"),
        ({"frames": "true"}, "frames is True and must be a whole number"),
        ({"frames": None}, "frames is missing and must be a whole number"),
        ({"task": "'dance'"}, "task is 'dance' and must be 'reconstruct' or 'interpolate'"),
        ({"azimuth": "[0]"}, "there is no field 'azimuth'; the fields are task,"),
        ({"azimuths": "'all'"}, "azimuths is 'all' and must be a list, each item a number or 'random'"),
        ({"azimuths": "[]"}, "azimuths is empty"),
        ({"frames": "0"}, "frames is 0 and must be at least 1"),
        ({"objects": "[]"}, "clips need a list, or objects"),
        ({"background": "[1, 2, 1]"}, "three numbers from 0 to 1"),
        ({"task": "'interpolate'", "frames": "6"}, "frames is 6 and must be a multiple of rate 3 and one more"),
        ({"task": "'interpolate'", "frames": "1"}, "frames is 1 and must be a multiple of rate 3 and one more"),
        ({"task": "'autoregress'"}, "a chunk of at least 2, got 3 and 0"),
        ({"elevation": "90"}, "elevation is 90"),
        ({"frames": "1000000000"}, "frames is 1000000000 and may be at most 10000"),
        ({"size": "1000000"}, "size is 1000000 and may be at most 4096"),
        ({"task": "'autoregress'", "chunk": "3", "chunks": "1000000000"}, "chunks is 1000000000 and may be at most"),
        ({"objects": "[" * 100_000}, "it is nested too deep"),
        ({"frames": "= 3"}, "cannot read the protocol"),
    ],
)
def test_errors_name_the_field_and_the_file(tmp_path: Path, fields: dict[str, str | None], said: str) -> None:
    with pytest.raises(UserError) as error:
        read_protocol(write_protocol(tmp_path, **fields))
    assert said in str(error.value)
    assert "views.toml" in str(error.value)


def test_a_clip_played_forwards_and_backwards_has_the_same_frames_in_every_chunk(tmp_path: Path) -> None:
    fields = {"task": "'autoregress'", "frames": "4", "chunk": "4", "chunks": "10"}
    numbers = read_protocol(write_protocol(tmp_path, **fields)).frame_numbers()
    chunks = [numbers[start : start + 4] for start in range(0, len(numbers) - 1, 3)]
    assert len(chunks) == 10
    assert chunks[0] == [0, 1, 2, 3] and chunks[1] == [3, 2, 1, 0]
    assert all(sorted(chunk) == [0, 1, 2, 3] for chunk in chunks)


def test_only_inserted_frames_are_compared_when_interpolating(tmp_path: Path) -> None:
    protocol = read_protocol(write_protocol(tmp_path, task="'interpolate'", frames="7"))
    assert protocol.compared() == [1, 2, 4, 5]


def test_the_shipped_autoregression_measures_the_published_hand_over() -> None:
    protocol = read_protocol(Path(__file__).parents[1] / "data_test/protocols/autoregression.toml")
    assert (protocol.task, protocol.chunks, protocol.chunk_side_views) == ("autoregress", 10, "previous")
