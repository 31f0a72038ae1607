"""The limit: no reader of images can be faster."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.contenders.reader import Batch, Reader, Sample, Workload, path


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


def contenders(workload: Workload) -> list[Reader]:
    """Return the contenders of this file."""
    return [
        Gather(workload, 1),
        Gather(workload, 2),
        Gather(workload, 1, mapped=False),
        Gather(workload, 2, mapped=False),
    ]
