"""BatchLoader: yields batches of a dataset, each gathered at once by a thread.

For mapped files, threads are faster than worker processes: a batch is gathered from the map into
the memory that the consumer receives, and nothing is copied between processes. The gathering
threads share only the dataset, which is safe from several threads.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import default_collate
from torch.utils.data._utils.pin_memory import pin_memory  # what DataLoader does to any batch

from processing.core.threads import map_in_order
from processing.datasets.batch import Batch
from processing.datasets.collate import SampleBatch
from processing.datasets.resumable import RankBatches, ResumableLoader
from processing.datasets.sample_dataset import T_co
from processing.npz.readahead import batches_ahead


class BatchLoader(ResumableLoader[T_co]):
    """Iterates over a dataset in batches, as a `torch.utils.data.DataLoader` does.

    Each iteration is one epoch, starting with epoch 0; `set_epoch` and `load_state_dict` choose
    another one. The order of the samples depends only on seed and epoch. Ranks take turns in that
    order. All ranks get the same number of batches, and each sample belongs to one rank. If a rank
    has fewer samples than batches, it repeats a sample. With several ranks, batches have the key
    ``valid``, bool (B,), which is False for such a sample.

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
        rank: which share of the samples to read, in ``[0, world_size)``. None: the rank of this
            process in `torch.distributed`, looked up when it is needed.
        world_size: number of ranks; to be given together with `rank`.
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

    if TYPE_CHECKING:  # samples become a `Batch`, also those of a transform that returns dicts

        @overload
        def __iter__(self: BatchLoader[dict[str, Any]]) -> Generator[Batch]: ...
        @overload
        def __iter__(self: BatchLoader[Any]) -> Generator[Any]: ...
        def __iter__(self) -> Generator[Any]:
            """Yields the batches of one epoch.

            Yields:
                `Batch` objects. If a transform returns other objects than dicts, what
                `torch.utils.data.default_collate` makes of these.

            Raises:
                Exception: whatever reading raises, when the batch that cannot be read is due.
            """

    def _read(self, plan: RankBatches) -> Generator[Any]:
        fetched = map_in_order(
            self._fetch,
            self._indices(plan),
            threads=self.num_workers,
            ahead=self.num_workers * self.prefetch_factor,
            consumer_helps=True,
        )
        with contextlib.closing(fetched):
            for samples in fetched:
                batch = self._collate(samples)
                del samples
                yield batch
                del batch

    def _indices(self, plan: RankBatches) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Yields each batch with the one that comes some batches later, or with an empty one."""
        ahead = batches_ahead(self.batch_size * self.dataset.stored_image_bytes)
        for step in range(len(plan)):
            yield plan.indices(step), plan.indices(step + ahead)

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


def _pinned_images(shape: tuple[int, ...], dtype: np.dtype[Any]) -> torch.Tensor:
    torch_dtype = torch.from_numpy(np.empty(0, dtype)).dtype
    return torch.empty(shape, dtype=torch_dtype, pin_memory=True)
