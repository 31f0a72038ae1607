"""EpochSampler: the order of `processing.datasets.sampling` for a DataLoader.

It needs no process group: rank and number of ranks are arguments. It is a `DistributedSampler`
because under DDP Lightning replaces all other samplers with one that repeats validation samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sized
from typing import Any, Final, cast

from torch.utils.data import Dataset, DistributedSampler

from processing.datasets.sampling import epoch_share, share_size

_CHUNK: Final = 1 << 16
"""How many indices become Python integers at once; 100 million of them would take 3 GB."""


class EpochSampler(DistributedSampler[int]):
    """Yields the indices of one rank's share of an epoch.

    The first epoch is 0; Lightning calls `set_epoch` for the others. Shuffled shares depend on seed
    and epoch only and have the same size on all ranks. Shares that are not shuffled contain every
    sample exactly once, and may differ in size by one.

    Args:
        dataset: anything with a length.
        shuffle: whether to shuffle, as for training.
        seed: seed of the order; not negative.
        num_replicas: number of ranks.
        rank: in ``[0, num_replicas)``.

    Raises:
        ValueError: `rank` is out of range.

    Example:
        >>> list(EpochSampler(range(5), shuffle=False, num_replicas=2, rank=1))
        [1, 3]
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
        # torch rounds the size up for all ranks; shares that are not shuffled are smaller.
        self.num_samples = share_size(len(dataset), rank, num_replicas, pad=shuffle)
        self._length = len(dataset)

    def __iter__(self) -> Iterator[int]:
        share = epoch_share(
            self._length,
            shuffle=self.shuffle,
            seed=self.seed,
            epoch=self.epoch,
            rank=self.rank,
            world_size=self.num_replicas,
        )
        for start in range(0, len(share), _CHUNK):
            yield from share[start : start + _CHUNK].tolist()
