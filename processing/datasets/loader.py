"""BatchLoader: yields batches of a dataset, each gathered at once by a thread.

For mapped files, threads are faster than worker processes: a batch is gathered from the map into
the memory that the consumer receives, and nothing is copied between processes. An iterator belongs
to one thread. The gathering threads share only the dataset, which is safe from several threads.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import default_collate
from torch.utils.data._utils.pin_memory import pin_memory  # what DataLoader does to any batch

from processing.core.arguments import check_flag, check_integer
from processing.core.threads import map_in_order
from processing.datasets.batch import Batch
from processing.datasets.collate import SampleBatch
from processing.datasets.sample_dataset import SampleDataset, T_co, check_dataset
from processing.datasets.sampling import epoch_share, share_size
from processing.npz.readahead import batches_ahead

_LOG = logging.getLogger(__name__)


class BatchLoader(Generic[T_co]):
    """Iterates over a dataset in batches, as a `torch.utils.data.DataLoader` does.

    Each iteration is one epoch, starting with epoch 0; `set_epoch` and `load_state_dict` choose
    another one. The order of the samples depends only on seed and epoch. Ranks take turns in that
    order. With `shuffle`, all ranks get the same number of samples, and a few samples may be read
    twice. Without `shuffle`, every sample belongs to exactly one rank.

    The consumer owns the batches: memory is reused only after the batch in it has been released.
    A transform of the dataset runs in the loader's threads. A slow transform written in Python runs
    faster in the processes of a DataLoader.

    Args:
        dataset: the dataset to read; it is not closed.
        batch_size: samples per batch and rank.
        shuffle: whether the order is random.
        num_workers: number of threads that gather batches ahead. A consumer that would have to wait
            gathers a batch itself; with 0 it gathers all of them.
        drop_last: whether to leave out an epoch's last batch if it is smaller.
        seed: seed of the order; not negative.
        rank: which share of the samples to read, in ``[0, world_size)``.
        world_size: number of ranks.
        pin_memory: whether batches lie in page-locked memory, from which a CUDA device can copy
            while the host goes on. Without an accelerator, a warning is logged and memory is
            ordinary.
        prefetch_factor: number of batches that each thread gathers ahead.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of range.

    Example:
        >>> loader = BatchLoader(dataset, 64, shuffle=True, num_workers=2)  # doctest: +SKIP
        >>> next(iter(loader))["image"].shape  # doctest: +SKIP
        torch.Size([64, 256, 256, 3])
    """

    def __init__(
        self,
        dataset: SampleDataset[T_co],
        batch_size: int = 1,
        shuffle: bool = False,
        num_workers: int = 0,
        *,
        drop_last: bool = False,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        pin_memory: bool = False,
        prefetch_factor: int = 2,
    ) -> None:
        check_dataset(dataset)
        self.dataset = dataset
        self.batch_size = check_integer("batch_size", batch_size, least=1)
        self.shuffle = check_flag("shuffle", shuffle)
        self.num_workers = check_integer("num_workers", num_workers, least=0)
        self.drop_last = check_flag("drop_last", drop_last)
        self.seed = check_integer("seed", seed, least=0)
        self.rank = check_integer("rank", rank, least=0)
        self.world_size = check_integer("world_size", world_size, least=self.rank + 1)
        self.pin_memory = check_flag("pin_memory", pin_memory) and torch.accelerator.is_available()
        if pin_memory and not self.pin_memory:
            _LOG.warning("pin_memory=True, but there is no accelerator: memory is not page-locked")
        self.prefetch_factor = check_integer("prefetch_factor", prefetch_factor, least=1)
        self._next = self._reached = _Position()

    @property
    def batch_sampler(self) -> _BatchSampler:
        """An object with the loader as its `sampler`; Lightning calls `set_epoch` there."""
        return _BatchSampler(self)

    def __len__(self) -> int:
        """Number of batches in a whole epoch."""
        samples = share_size(len(self.dataset), self.rank, self.world_size, pad=self.shuffle)
        if self.drop_last:
            return samples // self.batch_size
        return -(-samples // self.batch_size)

    # Samples are collated to a `Batch`, also those of a transform that returns dicts.
    @overload
    def __iter__(self: BatchLoader[dict[str, Any]]) -> Generator[Batch]: ...
    @overload
    def __iter__(self: BatchLoader[Any]) -> Generator[Any]: ...
    def __iter__(self) -> Generator[Any]:
        """Yields the batches of one epoch; the next iteration yields those of the next epoch.

        The epoch is read at the first call of `next`, so `set_epoch` may be called after `iter`.

        Yields:
            `Batch` objects. If a transform returns other objects than dicts, what
            `torch.utils.data.default_collate` makes of these.

        Raises:
            Exception: whatever reading raises, when the batch that cannot be read is due.
        """
        epoch, consumed = self._next
        self._next = _Position(epoch + 1)
        fetched = map_in_order(
            self._fetch,
            self._batches_left(epoch, consumed),
            threads=self.num_workers,
            ahead=self.num_workers * self.prefetch_factor,
            consumer_helps=True,
        )
        with contextlib.closing(fetched):
            for samples in fetched:
                consumed += self.batch_size * self.world_size
                self._reached = _Position(epoch, consumed)
                batch = self._collate(samples)
                # Only the consumer keeps the batch: its memory is reused as soon as it is released.
                del samples
                yield batch
                del batch
        self._reached = _Position(epoch + 1)

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch of the next iteration.

        The iteration begins with the epoch's first batch. If `load_state_dict` chose a later batch
        of the same epoch, it begins with that one.

        Args:
            epoch: number of the epoch; not negative.

        Raises:
            TypeError: `epoch` is not an integer.
            ValueError: `epoch` is negative.
        """
        if check_integer("epoch", epoch, least=0) != self._next.epoch:
            self._next = _Position(epoch)

    def state_dict(self) -> dict[str, int]:
        """Returns the position of the iteration, which is the same on all ranks.

        Returns:
            ``epoch``, and ``consumed``: how many samples of the epoch all ranks together have read.
        """
        return self._reached._asdict()

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Makes the next iteration continue where another loader stopped.

        Args:
            state: the `state_dict` of a loader with the same data and seed. Batch size and number
                of ranks may differ.

        Raises:
            ValueError: other keys than those of `state_dict`, or a negative number.
            TypeError: a value is not an integer.
        """
        if set(state) != set(_Position._fields):
            raise ValueError(f"a loader's state has the keys epoch and consumed, got {dict(state)}")
        position = _Position(**{key: check_integer(key, state[key], least=0) for key in state})
        self._next = self._reached = position

    def _batches_left(
        self, epoch: int, consumed: int
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Yields each batch with the one that comes some batches later, or with an empty one."""
        share = epoch_share(
            len(self.dataset),
            shuffle=self.shuffle,
            seed=self.seed,
            epoch=epoch,
            rank=self.rank,
            world_size=self.world_size,
            start=consumed,
        )
        size = self.batch_size
        if self.drop_last:
            share = share[: len(share) // size * size]
        ahead = size * batches_ahead(size * self.dataset.layout.image_bytes)
        for start in range(0, len(share), size):
            later = start + ahead
            yield share[start : start + size], share[later : later + size]

    def _fetch(self, batch: tuple[NDArray[np.int64], NDArray[np.int64]]) -> Sequence[Any]:
        """Fetches a batch, and announces the one that will be fetched later."""
        indices, later = batch
        self.dataset.advise(later)  # first, so that the disk reads while this batch is copied
        return self.dataset.fetch(indices, _pinned_images if self.pin_memory else None)

    def _collate(self, samples: Sequence[Any]) -> Any:
        if isinstance(samples, SampleBatch):
            batch = samples.collate()
        else:
            batch = default_collate(list(samples))
        if self.pin_memory:
            return pin_memory(batch)  # type: ignore[no-untyped-call]  # torch's function has no types
        return batch


class _BatchSampler(NamedTuple):
    sampler: BatchLoader[Any]


class _Position(NamedTuple):
    """How far an iteration has come: an epoch, and the samples of it that were read."""

    epoch: int = 0
    consumed: int = 0


def _pinned_images(shape: tuple[int, ...], dtype: np.dtype[Any]) -> torch.Tensor:
    torch_dtype = torch.from_numpy(np.empty(0, dtype)).dtype
    return torch.empty(shape, dtype=torch_dtype, pin_memory=True)
