"""Which samples belong to which step: one stream over the whole run."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class SampleStream(Sampler[list[int]]):
    """Batches out of one endless stream: epoch after epoch, each a new permutation of the groups.

    The stream depends on the seed alone. Step s takes samples s S to (s + 1) S - 1, S being the batch size times the
    number of processes times the batches a step accumulates; so it makes no difference to a step how its S samples
    are spread over processes and batches, or whether the run was stopped before it. Nothing is dropped at the end of
    an epoch, and the loader never runs dry between two epochs.
    """

    drop_last = True  # what accelerate asks a batch sampler for: all batches are full

    def __init__(self, groups: int, batch_size: int, seed: int, first: int, last: int) -> None:
        """
        Args:
            groups: length of an epoch in samples.
            batch_size: samples of one batch on one process.
            seed: of all permutations.
            first, last: the batches of all processes together that are given out: first ... last - 1.
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
