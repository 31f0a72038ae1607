"""EpochSampler: the order of `processing.datasets.sampling` in a DataLoader.

Need no process group: rank and number of ranks are arguments. The sampler is a `DistributedSampler`
because Lightning replaces every other kind under DDP, by one that repeats validation samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sized
from typing import Any, Final, cast

import numpy as np
from torch.utils.data import Dataset, DistributedSampler

from processing.datasets.sampling import epoch_order, rank_share, share_size

_CHUNK: Final = 1 << 16
"""Indices turned into Python integers at once; all of 100 million would take 3 GB."""


class EpochSampler(DistributedSampler[int]):
    """Yields the indices of one rank's share of an epoch.

    The first epoch is 0, others are set by `set_epoch`, which Lightning calls. Training shares are
    shuffled by (seed, epoch) and of equal size; shares that are not shuffled hold every sample
    exactly once, and may differ in size by one.

    Args:
        dataset: anything with a length.
        shuffle: whether it is for training.
        seed: of the order; not negative.
        num_replicas: number of ranks.
        rank: in ``[0, num_replicas)``.

    Raises:
        ValueError: a rank out of range.
    """

    def __init__(
        self,
        dataset: Sized,
        *,
        shuffle: bool,
        seed: int = 0,
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        super().__init__(
            cast("Dataset[Any]", dataset),
            num_replicas=num_replicas,
            rank=rank,
            shuffle=shuffle,
            seed=seed,
        )
        self.num_samples = share_size(len(dataset), rank, num_replicas, pad=shuffle)
        self._length = len(dataset)

    def __iter__(self) -> Iterator[int]:
        order = (
            epoch_order(self._length, seed=self.seed, epoch=self.epoch)
            if self.shuffle
            else np.arange(self._length)
        )
        share = rank_share(order, self.rank, self.num_replicas, pad=self.shuffle)
        for start in range(0, len(share), _CHUNK):
            yield from share[start : start + _CHUNK].tolist()
