"""BatchLoader: yields batches of a dataset, each gathered at once by a thread.

For mapped files, threads are faster than worker processes: a batch is gathered from the map into
the memory that the consumer receives, and nothing is copied between processes. The gathering
threads share only the dataset, which is safe from several threads.

The way of a batch:

1. `ResumableLoader` plans the epoch: the indices of each batch.
2. The loader makes a job of each batch. Some batches after each other form a `BatchGroup`.
3. A thread takes the next job. It announces a later batch to the system, which reads it ahead.
4. If the group has no annotations and paths yet, the thread gathers those of all its batches. The
   other threads do not wait for it until their images are copied.
5. The thread takes memory from a `BufferPool` and has the images copied or decoded into it. A
   transform gets the samples one by one, and its results are collated.
6. The consumer gets the batches in order. If the next one is not ready, the consumer does the first
   job that no thread has begun. So one thread fewer than there are CPUs is enough: more would
   only take turns with the consumer.
7. When the consumer has dropped a batch, its memory goes back to the pool.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data._utils.pin_memory import pin_memory  # what DataLoader does to any batch

from processing.core.cpus import available_cpus
from processing.core.threads import map_in_order
from processing.datasets.batch import Batch
from processing.datasets.batch_groups import BatchGroup, batches_in_group
from processing.datasets.buffers import BufferPool
from processing.datasets.resumable import ResumableLoader
from processing.datasets.sample_dataset import T_co
from processing.datasets.sampling import RankBatches
from processing.npz.readahead import batches_ahead

_IN_USE: Final = 3
"""Batches in use besides those gathered ahead: the consumer's, its last one, and the next one."""

_KEPT_BYTES: Final = 64 << 20
"""Memory of batches that a loader keeps between epochs."""


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
        shuffle: whether the order is random. That of a dataset with weights must be; after any
            number of batches, each part has its share to within one sample. ``"shards"`` shuffles
            the files, and the samples of each 8 files together, which suits slow disks and sets of
            many shards.
        num_workers: number of threads that gather batches ahead; with 0 the consumer gathers all
            of them. A consumer that would have to wait gathers a batch itself. So no more threads
            are started than the CPUs that this process may use, less one, but at least one.
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

    @property
    def _threads(self) -> int:
        """Number of threads to start."""
        return min(self.num_workers, max(1, available_cpus() - 1))

    @functools.cached_property
    def _image(self) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Shape and dtype of an image."""
        layout = self.dataset.layout
        return layout.image_shape, layout.image_dtype

    @functools.cached_property
    def _buffers(self) -> BufferPool:
        """Memory of batches that are not pinned."""
        return BufferPool(keep=self._threads * self.prefetch_factor + _IN_USE)

    def _read(self, plan: RankBatches) -> Generator[Any]:
        fetched = map_in_order(
            self._fetch,
            self._jobs(plan),
            threads=self._threads,
            ahead=self._threads * self.prefetch_factor,
            consumer_helps=True,
        )
        try:
            with contextlib.closing(fetched):
                for batch in fetched:
                    if self.pin_memory:
                        batch = pin_memory(batch)  # type: ignore[no-untyped-call]  # torch's function has no types
                    yield batch
                    del batch
        finally:
            self._buffers.clear(keep_bytes=_KEPT_BYTES)

    def _jobs(self, plan: RankBatches) -> Iterator[_Job]:
        """Yields a job for each batch, in order."""
        ahead = batches_ahead(self.batch_size * self.dataset.stored_image_bytes)
        size = batches_in_group(self.batch_size)
        for begin in range(0, len(plan), size):
            end = min(begin + size, len(plan))
            batches = [plan.indices(step) for step in range(begin, end)]
            group = BatchGroup(self.dataset, batches)
            for position, indices in enumerate(batches):
                yield _Job(group, position, indices, plan.indices(begin + position + ahead))

    def _fetch(self, job: _Job) -> Any:
        """Reads a batch, and announces the one that will be read later."""
        group, position, indices, later = job
        self.dataset.advise(later)  # first, so that the disk reads while this batch is copied
        group.prepare()  # other threads copy their images meanwhile
        shape, dtype = self._image
        images = self._empty_images((len(indices), *shape), dtype)
        self.dataset.gather_images(indices, images.numpy())
        return group.batch(position, images)

    def _empty_images(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> torch.Tensor:
        """Returns memory for the images of a batch."""
        if self.pin_memory:
            return _pinned_images(shape, dtype)
        return torch.from_numpy(self._buffers.empty(shape, dtype))


class _Job(NamedTuple):
    """A batch to read.

    Args:
        group: gathers the annotations.
        position: of the batch in its group.
        indices: int64 (B,).
        later: the indices of a batch that will be read soon; may be empty.
    """

    group: BatchGroup
    position: int
    indices: NDArray[np.int64]
    later: NDArray[np.int64]


def _pinned_images(shape: tuple[int, ...], dtype: np.dtype[Any]) -> torch.Tensor:
    torch_dtype = torch.from_numpy(np.empty(0, dtype)).dtype
    return torch.empty(shape, dtype=torch_dtype, pin_memory=True)
