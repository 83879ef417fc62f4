"""What holds for every test: a bounded number of threads, and GPU tests that fail where there is no GPU."""

import pytest
import torch

# Small tensors gain nothing from more threads, and results on shared machines stay comparable.
torch.set_num_threads(min(2, torch.get_num_threads()))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A GPU test runs only when asked for (-m gpu); then a missing device is a failure and no silent skip."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.fail("this test needs a CUDA device and torch sees none", pytrace=False)
