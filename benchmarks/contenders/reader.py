"""Reader: the base class of the contenders, with the samples, their order, and one pass.

A reader delivers batches of images, ragged boxes and paths in its natural form; a pass only counts
them. `check` compares some batches with the truth. Any row can be checked, because a sample is a
function of its index.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from benchmarks.page_cache import files_below, in_memory, read_in_sequence

CHECKED_BATCHES: Final = 4
_NAMED: Final = 5
"""Files that a message names."""
CHECKED_EPOCH: Final = 1_000_000
"""Epoch of the check; no pass gets so far."""


@dataclass(frozen=True, slots=True)
class Workload:
    """The samples to read, and the length of a pass.

    Args:
        data: this project's NPZ file with the samples; the files of all peers are made from it.
        samples: number of samples.
        size: height and width of the images, in pixels.
        batch_size: samples per batch.
        least_seconds: a pass reads epoch after epoch until this time is over.
        most_seconds: a pass stops in the middle of an epoch after this time.
    """

    data: Path
    samples: int
    size: int
    batch_size: int = 64
    least_seconds: float = 1.0
    most_seconds: float = 2.0

    @classmethod
    def below(cls, work: Path, samples: int, size: int, *, most_seconds: float = 2.0) -> Self:
        """Return a workload whose folder in `work` is named by all that decides its samples."""
        folder = work / f"{samples}-images-of-{size}x{size}"
        return cls(folder / "samples.npz", samples, size, most_seconds=most_seconds)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return all indices in the random order of an epoch, the same for every reader."""
        return np.random.default_rng((0, epoch)).permutation(self.samples)

    def batches(self, epoch: int) -> Iterator[NDArray[np.int64]]:
        """Yield the indices of each batch of an epoch."""
        order = self.order(epoch)
        for start in range(0, self.samples, self.batch_size):
            yield order[start : start + self.batch_size]

    def sample(self, index: int) -> Sample:
        """Return one sample; it is noise, so that no codec or file system can compress it."""
        rng = np.random.default_rng((1, index))
        image = np.frombuffer(rng.bytes(3 * self.size**2), np.uint8)
        corners = np.sort(rng.random((rng.integers(0, 21), 2, 2), np.float32) * self.size, axis=1)
        return Sample(image.reshape(self.size, self.size, 3), corners.reshape(-1, 4), path(index))

    @property
    def most_boxes(self) -> int:
        """Return the largest number of boxes of a sample."""
        return 20

    def index_of(self, image_path: str) -> int:
        """Return the index of the sample with this path."""
        return int(Path(image_path).stem)

    def shows(self, image: NDArray[Any], truth: NDArray[np.uint8]) -> bool:
        """Return whether a delivered image is that of the sample."""
        return same(image, truth)


class Sample(NamedTuple):
    """Image uint8 (H, W, 3), boxes float32 (k, 4) with 0 <= k <= 20, and a path with the index."""

    image: NDArray[np.uint8]
    bboxes: NDArray[np.float32]
    path: str


class Batch(NamedTuple):
    """A batch as delivered: arrays, tensors or lists with one entry per sample."""

    images: Any
    bboxes: Any
    paths: Any


def path(index: int) -> str:
    """Return the image path of a sample."""
    return f"photos/{index // 1000:04d}/{index:08d}.jpg"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: "1 thread", "2 threads"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


class Reader(ABC):
    """A contender of the reading benchmark; a new one implements `prepare`, `open` and `batches`.

    Args:
        workload: the samples to read.
    """

    name: str
    files: str
    ordered = True
    """Whether the reader follows the workload's order; otherwise it shuffles by itself."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self._epoch = -1

    def prepare(self, data: Path, folder: Path) -> None:  # noqa: B027 - readers of the NPZ file need not override it
        """Write the samples in the reader's own format; by default nothing."""

    @abstractmethod
    def open(self, folder: Path) -> None:
        """Open the files of `batches`; called once, in the reader's own process."""

    def start(self, folder: Path) -> None:
        """Open the files and read one batch, which starts workers and compiles what must be."""
        self.open(folder)
        next(iter(self.batches(CHECKED_EPOCH)))

    @abstractmethod
    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of one epoch."""

    def rows(self, batch: Batch) -> Iterator[Sample]:
        """Yield the samples of a batch as numpy arrays; used only by the check."""
        for image, bboxes, image_path in zip(*batch, strict=True):
            yield Sample(np.asarray(image), np.asarray(bboxes), str(image_path))

    def make_ready(self, folder: Path) -> str | None:
        """Read the files again if pages are missing, and say so: smaller pages replace them."""
        evicted = []
        for file in [self.workload.data, *files_below(folder)]:
            if not in_memory(file).all():
                evicted.append(file.name)
                read_in_sequence(file)
        if not evicted:
            return None
        named = ", ".join(evicted[:_NAMED]) + (", …" if len(evicted) > _NAMED else "")
        return f"{self.name}: too little memory, parts were evicted of {named}"

    def run(self, folder: Path) -> int:
        """Read at least one epoch, until the pass is over; return the number of samples."""
        samples, start = 0, time.perf_counter()
        while samples == 0 or time.perf_counter() - start < self.workload.least_seconds:
            self._epoch += 1
            for length in self.read(self._epoch):
                samples += length
                if time.perf_counter() - start > self.workload.most_seconds:
                    break
        return samples

    def read(self, epoch: int) -> Iterator[int]:
        """Read an epoch; yield the number of samples of each batch."""
        for batch in self.batches(epoch):
            yield len(batch.images)

    def check(self, data: Path, folder: Path) -> None:
        """Compare a few batches with the truth.

        Raises:
            ValueError: an image, boxes, a path or the order is wrong.
        """
        order = self.workload.order(CHECKED_EPOCH).tolist()
        for batch in islice(self.batches(CHECKED_EPOCH), CHECKED_BATCHES):
            indices = [self._checked_index(row) for row in self.rows(batch)]
            asked, order = order[: len(indices)], order[len(indices) :]
            if self.ordered and indices != asked:
                raise ValueError(f"{self.name}: samples come in another order than asked for")
            # Two batches of an endless stream may be of two epochs: check each batch by itself.
            if len(indices) > 1 and indices == sorted(indices):
                raise ValueError(f"{self.name}: samples are not shuffled: {indices[:8]}")
            if len(set(indices)) < len(indices):
                raise ValueError(f"{self.name}: samples repeat: {indices}")

    def _checked_index(self, row: Sample) -> int:
        index = self.workload.index_of(row.path)
        truth = self.workload.sample(index)
        if not self.workload.shows(row.image, truth.image):
            raise ValueError(f"{self.name}: sample {index} has a wrong image")
        if not same(row.bboxes, truth.bboxes):
            raise ValueError(f"{self.name}: sample {index} has wrong boxes")
        if row.path != truth.path:
            raise ValueError(f"{self.name}: sample {index} has the path {row.path!r}")
        return index


def same(found: NDArray[Any], expected: NDArray[Any]) -> bool:
    """Return whether two arrays have the same dtype, shape and values."""
    form = (found.dtype, found.shape) == (expected.dtype, expected.shape)
    return form and np.array_equal(found, expected)
