"""The limit: no reader of images can be faster. With lists: no loader in Python can be faster."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.contenders.reader import Batch, Reader, Sample, Workload, counted, path
from processing.core.columns import RaggedArray, gather_rows

_GROUP: Final = 512
"""Samples whose boxes and paths are gathered together."""


class Gather(Reader):
    """Copies the images of each batch into an existing buffer; no boxes, no paths.

    Args:
        workload: the samples to read.
        threads: number of threads; each has a buffer of its own and a share of the batches.
        mapped: True: rows of the mapped file; False: rows of an array in RAM, for which numpy uses
            huge pages.
    """

    files = "npz"

    def __init__(self, workload: Workload, threads: int, *, mapped: bool = True) -> None:
        super().__init__(workload)
        self.threads, self.mapped = threads, mapped
        self.name = f"LIMIT-{threads}" if mapped else f"LIMIT-{threads}, copied from RAM"

    def open(self, folder: Path) -> None:
        """Map the images, or read them all."""
        from processing import LazyNPZDataset

        images: NDArray[Any] = LazyNPZDataset(self.workload.data).images
        self._images = images if self.mapped else images.copy()  # a copy lies in RAM
        shape = (self.workload.batch_size, *images.shape[1:])
        self._buffers = [np.zeros(shape, np.uint8) for _ in range(self.threads)]
        self._pool = ThreadPoolExecutor(self.threads)

    def read(self, epoch: int) -> Iterator[int]:
        """Gather an epoch; yield the number of samples of each thread."""
        batches = list(self.workload.batches(epoch))
        shares = [batches[thread :: self.threads] for thread in range(self.threads)]
        yield from self._pool.map(self._gather, self._buffers, shares)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the buffer after each batch, for the check."""
        for indices in self.workload.batches(epoch):
            self._gather(self._buffers[0], [indices])
            yield Batch(self._buffers[0][: len(indices)], None, indices.tolist())

    def rows(self, batch: Batch) -> Iterator[Sample]:
        """Yield samples with boxes and paths from the workload, because the limit reads none."""
        for image, index in zip(batch.images, batch.paths, strict=True):
            yield Sample(image, self.workload.sample(index).bboxes, path(index))

    def _gather(self, buffer: NDArray[np.uint8], batches: list[NDArray[np.int64]]) -> int:
        for indices in batches:
            # Without mode="clip" numpy gathers into a temporary buffer and copies it to `out`.
            np.take(self._images, indices, axis=0, out=buffer[: len(indices)], mode="clip")
        return sum(map(len, batches))


class GatherWithLists(Reader):
    """A bare loop that delivers lists of boxes and paths too.

    Each thread copies images into two buffers in turns, because a consumer keeps a batch while the
    next one is gathered. Nothing is checked, announced, ordered or handed over.

    Args:
        workload: the samples to read.
        threads: number of threads; each has buffers of its own and a share of the batches.
    """

    files = "npz"

    def __init__(self, workload: Workload, threads: int) -> None:
        super().__init__(workload)
        self.threads = threads
        self.name = f"bare loop with lists, {counted(threads, 'thread')}"

    def open(self, folder: Path) -> None:
        """Map the file."""
        from processing import LazyNPZDataset

        dataset = LazyNPZDataset(self.workload.data)
        assert isinstance(dataset.bboxes, RaggedArray)
        self._images, self._bboxes, self._paths = (
            dataset.images,
            dataset.bboxes,
            dataset.image_paths,
        )
        shape = (self.workload.batch_size, *self._images.shape[1:])
        self._buffers = [
            cycle([np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)])
            for _ in range(self.threads)
        ]
        self._pool = ThreadPoolExecutor(self.threads)

    def read(self, epoch: int) -> Iterator[int]:
        """Gather an epoch; yield the number of samples of each thread."""
        groups = list(self._groups(epoch))
        shares = [groups[thread :: self.threads] for thread in range(self.threads)]
        yield from self._pool.map(self._count, self._buffers, shares)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of all groups."""
        for group in self._groups(epoch):
            yield from self._gather(self._buffers[0], group)

    def _groups(self, epoch: int) -> Iterator[list[NDArray[np.int64]]]:
        batches = list(self.workload.batches(epoch))
        size = _GROUP // self.workload.batch_size
        for begin in range(0, len(batches), size):
            yield batches[begin : begin + size]

    def _count(
        self, buffers: Iterator[NDArray[np.uint8]], groups: list[list[NDArray[np.int64]]]
    ) -> int:
        return sum(len(batch.images) for group in groups for batch in self._gather(buffers, group))

    def _gather(
        self, buffers: Iterator[NDArray[np.uint8]], group: list[NDArray[np.int64]]
    ) -> Iterator[Batch]:
        import torch

        indices = np.concatenate(group)
        starts = self._bboxes.offsets[indices]
        lengths = self._bboxes.offsets[indices + 1] - starts
        rows = gather_rows(self._bboxes.values, starts, lengths)
        bounds, numbers, paths = (
            rows.offsets.tolist(),
            lengths.tolist(),
            self._paths[indices].tolist(),
        )
        begin = 0
        for batch in group:
            end = begin + len(batch)
            values = torch.from_numpy(rows.values[bounds[begin] : bounds[end]])
            bboxes = torch.unsafe_split_with_sizes(values, numbers[begin:end])
            images = next(buffers)[: len(batch)]
            np.take(self._images, batch, axis=0, out=images, mode="clip")
            yield Batch(images, bboxes, paths[begin:end])
            begin = end


def contenders(workload: Workload) -> list[Reader]:
    """Return the contenders of this file."""
    return [
        Gather(workload, 1),
        Gather(workload, 2),
        Gather(workload, 1, mapped=False),
        Gather(workload, 2, mapped=False),
        GatherWithLists(workload, 1),
        GatherWithLists(workload, 2),
    ]
