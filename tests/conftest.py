"""Shared by all tests: a bounded number of threads, GPU tests that fail where there is no GPU; shared clips."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.clip_factory import write_clip
from tests.tiny_training import write_clips

pytest.register_assert_rewrite("tests.documentation_place")  # both a plugin and imported

# Small tensors gain nothing from more threads, and results on shared machines stay comparable.
# Processes of pytest-xdist share the cores.
_PROCESSES = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
torch.set_num_threads(max(1, min(2, torch.get_num_threads() // _PROCESSES)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A GPU test runs only when asked for (-m gpu); then a missing device is a failure and no silent skip."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.fail("this test needs a CUDA device and torch sees none", pytrace=False)


@pytest.fixture
def clips(tmp_path: Path) -> tuple[Path, list[str]]:
    """Five clips of three objects, 5 frames each."""
    names = ["p-fish-0", "p-fish-1", "p-cow-0", "p-cow-1", "p-robot-0"]
    for name in names:
        write_clip(tmp_path, name, frames=5)
    return tmp_path, names


@pytest.fixture(scope="session")
def training_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `write_clips` of `tests.tiny_training` fills; tests leave it as it is."""
    return write_clips(tmp_path_factory.mktemp("training_clips"))


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For networks so small that on a busy machine their threads would wait for each other most of the time.

    Of the module, so that what its tests share is computed to the same bits.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
