"""BatchLoader: batches of a dataset, gathered whole by threads.

For mapped data threads beat worker processes: a batch is gathered straight from the map into the
memory that the consumer gets, and nothing is copied between processes. An iterator belongs to one
thread; the gathering threads share nothing but the dataset, which is safe from several.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice, repeat, tee
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import default_collate
from torch.utils.data._utils.pin_memory import pin_memory  # what DataLoader does to any batch

from processing.core.arguments import check_flag, check_integer
from processing.core.threads import map_in_order
from processing.datasets.collate import SampleBatch
from processing.datasets.sample_dataset import SampleDataset, check_dataset
from processing.datasets.sampling import epoch_order, rank_share, share_size
from processing.npz.readahead import batches_ahead

_LOG = logging.getLogger(__name__)


class BatchLoader:
    """Iterates over a dataset in batches, as a `torch.utils.data.DataLoader` does.

    Each iteration is one epoch, the first is 0; `set_epoch` and `load_state_dict` name another. The
    order is a function of (seed, epoch) alone, shared out among ranks sample by sample. With
    `shuffle` all ranks get equally many samples, a few of them twice if need be; without, every
    sample belongs to exactly one rank.

    Batches are the consumer's own: memory is used again only when nobody holds the batch that was
    in it. A transform of the dataset runs in the loader's threads; one that is slow and written in
    Python runs faster in a DataLoader's processes.

    Args:
        dataset: what to read; left open.
        batch_size: samples a batch and rank.
        shuffle: whether the order is random.
        num_workers: threads that gather ahead. A consumer that has to wait for a batch gathers too;
            with 0 it is the only one.
        drop_last: whether an epoch's last, smaller batch is left out.
        seed: of the order; not negative.
        rank: which share of the samples to read, in ``[0, world_size)``.
        world_size: number of ranks.
        pin_memory: whether batches lie in page-locked memory, from which a CUDA device can copy
            while the host goes on; torch's allocator waits for such copies before it uses the
            memory again. Without such a device a warning is logged, and memory is ordinary.
        prefetch_factor: batches that each thread gathers ahead.

    Raises:
        TypeError, ValueError: an argument of another type or out of range.

    Example:
        >>> loader = BatchLoader(dataset, 64, shuffle=True, num_workers=2)  # doctest: +SKIP
        >>> next(iter(loader))["image"].shape  # doctest: +SKIP
        torch.Size([64, 256, 256, 3])
    """

    def __init__(
        self,
        dataset: SampleDataset,
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
        """Has the loader as its `sampler`: there Lightning looks for `set_epoch`."""
        return _BatchSampler(self)

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        samples = share_size(len(self.dataset), self.rank, self.world_size, pad=self.shuffle)
        return samples // self.batch_size if self.drop_last else -(-samples // self.batch_size)

    def __iter__(self) -> Generator[Any]:
        """The batches of one epoch, each a `Batch`; the next iteration is the next epoch.

        Which epoch it is counts from the first `next` on: `set_epoch` may still follow `iter`.

        Raises:
            Whatever reading raises, at the batch that could not be read.
        """
        epoch, consumed = self._next
        self._next = _Position(epoch + 1)
        fetched = map_in_order(
            self._fetch,
            _with_later(self._batches_left(epoch, consumed), self._batches_ahead()),
            threads=self.num_workers,
            ahead=self.num_workers * self.prefetch_factor,
            consumer_helps=True,
        )
        with contextlib.closing(fetched):
            for samples in fetched:
                consumed += self.batch_size * self.world_size
                self._reached = _Position(epoch, consumed)
                batch = self._collate(samples)
                del samples  # the consumer alone holds the batch, and decides when it is let go of
                yield batch
                del batch
        self._reached = _Position(epoch + 1)

    def set_epoch(self, epoch: int) -> None:
        """Says which epoch the next iteration is.

        It begins with the epoch's first batch, unless `load_state_dict` named a later one of it.

        Raises:
            TypeError, ValueError: not an integer, or a negative one.
        """
        if check_integer("epoch", epoch, least=0) != self._next.epoch:
            self._next = _Position(epoch)

    def state_dict(self) -> dict[str, int]:
        """How far the iteration has come, the same on all ranks: two integers.

        ``epoch``, and ``consumed``: samples of it that all ranks together have been given.
        """
        return self._reached._asdict()

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Makes the next iteration go on where another loader stood.

        Args:
            state: of `state_dict`, of a loader of the same data and seed; its batch size and number
                of ranks may have been others.
        """
        self._next = self._reached = _Position(**state)

    def _batches_left(self, epoch: int, consumed: int) -> Iterator[NDArray[np.int64]]:
        n = len(self.dataset)
        order = epoch_order(n, seed=self.seed, epoch=epoch) if self.shuffle else np.arange(n)
        share = rank_share(order, self.rank, self.world_size, pad=self.shuffle, start=consumed)
        end = len(share) - len(share) % self.batch_size if self.drop_last else len(share)
        for start in range(0, end, self.batch_size):
            yield share[start : start + self.batch_size]

    def _batches_ahead(self) -> int:
        return batches_ahead(self.batch_size * self.dataset.layout.image_bytes)

    def _fetch(self, batch: tuple[NDArray[np.int64], NDArray[np.int64]]) -> Sequence[Any]:
        """Fetches a batch, and says which one will be fetched later."""
        indices, later = batch
        self.dataset.advise(later)
        return self.dataset.fetch(indices, _pinned_images if self.pin_memory else None)

    def _collate(self, samples: Sequence[Any]) -> Any:
        batch = (
            samples.collate()
            if isinstance(samples, SampleBatch)
            else default_collate(list(samples))
        )
        # torch's function has no types.
        return pin_memory(batch) if self.pin_memory else batch  # type: ignore[no-untyped-call]  # torch's


class _BatchSampler(NamedTuple):
    sampler: BatchLoader


class _Position(NamedTuple):
    epoch: int = 0
    consumed: int = 0


def _with_later(
    batches: Iterable[NDArray[np.int64]], ahead: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Each batch with the one that comes `ahead` batches later, an empty one at the end."""
    now, later = tee(batches)
    nothing = np.empty(0, np.int64)
    return zip(now, chain(islice(later, ahead, None), repeat(nothing)), strict=False)


def _pinned_images(shape: tuple[int, ...], dtype: np.dtype[Any]) -> torch.Tensor:
    torch_dtype = torch.from_numpy(np.empty(0, dtype)).dtype
    return torch.empty(shape, dtype=torch_dtype, pin_memory=True)
