"""Sample order: one stream of batches over the whole run."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class SampleStream(Sampler[list[int]]):
    """Batches from one endless stream: each epoch is a new permutation of the groups.

    The stream depends on the seed only. Step s takes samples s S to (s + 1) S - 1 with S = batch size x processes x
    accumulated batches. A step is therefore independent of how its S samples are split over processes and batches, and
    of restarts. No sample is dropped at the end of an epoch, and loader workers prefetch across epochs.
    """

    drop_last = True  # accelerate reads this attribute of a batch sampler: all batches are full

    def __init__(self, groups: int, batch_size: int, seed: int, first: int, last: int) -> None:
        """
        Args:
            groups: length of an epoch in samples.
            batch_size: samples of one batch on one process.
            seed: of all permutations.
            first, last: range of batches to yield, first ... last - 1, counted over all processes.
        """
        self.groups, self.batch_size, self.seed, self.first, self.last = groups, batch_size, seed, first, last

    def __len__(self) -> int:
        return self.last - self.first

    def __iter__(self) -> Iterator[list[int]]:
        epoch, order = -1, np.empty(0, np.int64)
        for batch in range(self.first, self.last):
            keys = []
            for number in range(batch * self.batch_size, (batch + 1) * self.batch_size):
                if number // self.groups != epoch:
                    epoch = number // self.groups
                    order = np.random.default_rng((self.seed, epoch)).permutation(self.groups)
                keys.append(epoch * self.groups + int(order[number % self.groups]))
            yield keys
