"""Reader: what all contenders of the reading benchmark share: the samples, their order, one pass.

A reader delivers batches of images, ragged boxes and paths in whatever form it does so naturally;
the one who measures only counts them. `check` compares some with the samples as they were made,
which any row can be: a sample is a function of its index.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

CHECKED_BATCHES: Final = 4
CHECKED_EPOCH: Final = 1_000_000
"""An epoch that no pass reaches."""


@dataclass(frozen=True, slots=True)
class Workload:
    """What is to be read.

    Args:
        data: this project's NPZ file with the samples; what all others are made from.
        samples: how many there are.
        size: height and width of the images, pixels.
        batch_size: samples a batch.
        least_seconds: a pass takes at least so long, epoch after epoch.
        most_seconds: and is broken off, in mid-epoch, after so long.
    """

    data: Path
    samples: int
    size: int
    batch_size: int = 64
    least_seconds: float = 0.5
    most_seconds: float = 2.0

    def order(self, epoch: int) -> NDArray[np.int64]:
        """All indices in the random order of an epoch, the same for every reader."""
        return np.random.default_rng((0, epoch)).permutation(self.samples)

    def batches(self, epoch: int) -> Iterator[NDArray[np.int64]]:
        """The indices of each batch of an epoch."""
        order = self.order(epoch)
        for start in range(0, self.samples, self.batch_size):
            yield order[start : start + self.batch_size]

    def sample(self, index: int) -> Sample:
        """One sample: noise, which no codec or file system can make smaller."""
        rng = np.random.default_rng((1, index))
        image = np.frombuffer(rng.bytes(3 * self.size**2), np.uint8)
        corners = np.sort(rng.random((rng.integers(0, 21), 2, 2), np.float32) * self.size, axis=1)
        return Sample(image.reshape(self.size, self.size, 3), corners.reshape(-1, 4), path(index))


class Sample(NamedTuple):
    """uint8 (H, W, 3), float32 (k, 4) with 0 <= k <= 20, and a path that tells the index."""

    image: NDArray[np.uint8]
    bboxes: NDArray[np.float32]
    path: str


class Batch(NamedTuple):
    """A batch as delivered: arrays, tensors or lists, whose length is the batch's."""

    images: Any
    bboxes: Any
    paths: Any


def path(index: int) -> str:
    """The image path of a sample."""
    return f"photos/{index // 1000:04d}/{index:08d}.jpg"


def index_of(image_path: str) -> int:
    """The sample that has a path."""
    return int(Path(image_path).stem)


class Reader(ABC):
    """A contender of the reading benchmark; adding one means `prepare`, `open` and `batches`.

    Args:
        workload: what it reads.
    """

    name: str
    files: str
    ordered = True
    """Whether it reads in the workload's order; otherwise it shuffles by itself."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self._epoch = -1

    def prepare(self, data: Path, folder: Path) -> None:  # noqa: B027 - may stay as it is
        """Writes the samples in its own format; readers of the NPZ file have nothing to do."""

    @abstractmethod
    def open(self, folder: Path) -> None:
        """Opens what `batches` reads from; called once, in the reader's own process."""

    @abstractmethod
    def batches(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch."""

    def rows(self, batch: Batch) -> Iterator[Sample]:
        """The samples of a batch as numpy arrays, for the check alone."""
        for image, bboxes, image_path in zip(*batch, strict=True):
            yield Sample(np.asarray(image), np.asarray(bboxes), str(image_path))

    def make_ready(self, folder: Path) -> None:
        """Has its files in the page cache again, where others may have taken their room."""
        for file in [self.workload.data, *folder.rglob("*")]:
            read_through(file)

    def run(self, folder: Path) -> int:
        """Counts samples until the pass is over."""
        if self._epoch < 0:
            for file in [self.workload.data, *folder.rglob("*")]:
                read_back(file)
            self.open(folder)
        samples, start = 0, time.perf_counter()
        while time.perf_counter() - start < self.workload.least_seconds:
            self._epoch += 1
            for length in self.read(self._epoch):
                samples += length
                if time.perf_counter() - start > self.workload.most_seconds:
                    break
        return samples

    def read(self, epoch: int) -> Iterator[int]:
        """Reads an epoch and counts the samples of each batch."""
        for batch in self.batches(epoch):
            yield len(batch.images)

    def check(self, data: Path, folder: Path) -> None:
        """Compares a few batches with the samples as they were made.

        Raises:
            ValueError: an image, boxes or a path differ, or the order does.
        """
        order = self.workload.order(CHECKED_EPOCH).tolist()
        for batch in islice(self.batches(CHECKED_EPOCH), CHECKED_BATCHES):
            indices = [self._checked_index(row) for row in self.rows(batch)]
            asked, order = order[: len(indices)], order[len(indices) :]
            if self.ordered and indices != asked:
                raise ValueError(f"{self.name}: samples come in another order than asked for")
            # Batches of an endless stream may belong to two epochs, so each stands for itself.
            if len(indices) > 1 and indices == sorted(indices):
                raise ValueError(f"{self.name}: samples are not shuffled: {indices[:8]}")
            if len(set(indices)) < len(indices):
                raise ValueError(f"{self.name}: samples repeat: {indices}")

    def _checked_index(self, row: Sample) -> int:
        index = index_of(row.path)
        truth = self.workload.sample(index)
        if not same(row.image, truth.image):
            raise ValueError(f"{self.name}: sample {index} has a wrong image")
        if not same(row.bboxes, truth.bboxes):
            raise ValueError(f"{self.name}: sample {index} has wrong boxes")
        if row.path != truth.path:
            raise ValueError(f"{self.name}: sample {index} has the path {row.path!r}")
        return index


def same(found: NDArray[Any], expected: NDArray[Any]) -> bool:
    """Whether two arrays are equal, form included."""
    form = (found.dtype, found.shape) == (expected.dtype, expected.shape)
    return form and np.array_equal(found, expected)


def read_back(file: Path) -> None:
    """Leaves a file in the page cache as reading it in sequence does.

    How long a random access takes depends on the size of the pages there, and that on who put them
    there: pages left by a writer are as small as its writes were. Pages that are mapped stay.
    """
    if not file.is_file():
        return
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fdatasync(descriptor)  # unwritten pages would not be dropped
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
    read_through(file)


def read_through(file: Path) -> None:
    """Reads a file in sequence, so that the page cache holds it."""
    if file.is_file():
        with file.open("rb", buffering=0) as stream:
            while stream.read(1 << 20):
                pass
