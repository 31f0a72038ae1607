"""Rows stored as JPEG: of this project, of FFCV, and decoding without a loader as their limit."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from benchmarks.contenders.ffcv import FFCV
from benchmarks.contenders.ours import OursBatchLoader
from benchmarks.contenders.reader import Batch, Reader, Sample, Workload, counted
from processing import DataProcessor, LazyNPZDataset

QUALITY: Final = 95
SUBSAMPLINGS: Final = {"444": "4:4:4", "420": "4:2:0"}
"""Names of the subsamplings of colour, by the processor's."""
_LEAST_DECIBEL: Final = 20.0
"""Smallest PSNR of a decoded row to its image; two different photographs have about 10 dB."""


@functools.cache
def _rows(data: Path) -> LazyNPZDataset:
    return LazyNPZDataset(data)


@functools.cache
def _indices(data: Path) -> dict[str, int]:
    return {str(path): index for index, path in enumerate(_rows(data).image_paths)}


@dataclass(frozen=True, slots=True)
class Photographs(Workload):
    """Samples in a file of this project with raw rows, made from a directory of photographs.

    Args:
        raw: the directory.
    """

    raw: Path = Path()

    def sample(self, index: int) -> Sample:
        """Return one row of the file."""
        row = _rows(self.data)[index]
        return Sample(row["image"], row["bboxes"], row["image_path"])

    @property
    def most_boxes(self) -> int:
        """Return the largest number of boxes of a row."""
        bboxes = _rows(self.data).bboxes
        assert bboxes is not None
        return max(map(len, bboxes))

    def index_of(self, image_path: str) -> int:
        """Return the row with this path."""
        return _indices(self.data)[image_path]

    def shows(self, image: NDArray[Any], truth: NDArray[np.uint8]) -> bool:
        """Return whether an image is the row's, with some loss."""
        if (image.dtype, image.shape) != (truth.dtype, truth.shape):
            return False
        return cv2.PSNR(image, truth) >= _LEAST_DECIBEL


def process(raw: Path, output: Path, size: int, **store: Any) -> Path:
    """Process a directory of photographs; return the file with all images."""
    processor = DataProcessor(raw, output, image_size=size, progress=False, **store)
    processor.process_detector(train_split=1.0)
    return output / "train_detector.npz"


class OursEncoded(OursBatchLoader):
    """`BatchLoader` over rows that are JPEGs."""

    def __init__(self, workload: Photographs, threads: int, subsampling: str) -> None:
        super().__init__(workload, threads)
        self.raw, self.subsampling = workload.raw, subsampling
        self.files = f"jpeg-{QUALITY}-{subsampling}"
        self.name = f"{SUBSAMPLINGS[subsampling]}: ours, {counted(threads, 'thread')}"

    def prepare(self, data: Path, folder: Path) -> None:
        """Process the photographs."""
        process(
            self.raw,
            folder,
            self.workload.size,
            store="jpeg",
            jpeg_quality=QUALITY,
            jpeg_subsampling=self.subsampling,
        )

    def file(self, folder: Path) -> Path:
        """Return the file that was processed."""
        return folder / "train_detector.npz"


class Decode(OursEncoded):
    """The limit: the JPEGs of the same file decoded one by one into an existing buffer.

    Each thread has a buffer of its own and a share of the batches; no boxes, no paths.
    """

    def __init__(self, workload: Photographs, threads: int, subsampling: str) -> None:
        super().__init__(workload, threads, subsampling)
        self.name = f"{SUBSAMPLINGS[subsampling]}: decode alone, {counted(threads, 'thread')}"

    def open(self, folder: Path) -> None:
        """Read all JPEGs into memory."""
        with np.load(self.file(folder)) as arrays:
            self._bytes, self._offsets = arrays["images_jpeg"], arrays["images_offsets"]
            self._paths = arrays["image_paths"]
        shape = (self.workload.batch_size, self.workload.size, self.workload.size, 3)
        self._buffers = [np.zeros(shape, np.uint8) for _ in range(self.threads)]
        self._pool = ThreadPoolExecutor(self.threads)

    def read(self, epoch: int) -> Iterator[int]:
        """Decode an epoch; yield the number of samples of each thread."""
        batches = list(self.workload.batches(epoch))
        shares = [batches[thread :: self.threads] for thread in range(self.threads)]
        yield from self._pool.map(self._decode, self._buffers, shares)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the buffer after each batch, for the check."""
        for indices in self.workload.batches(epoch):
            self._decode(self._buffers[0], [indices])
            bboxes = [self.workload.sample(int(index)).bboxes for index in indices]
            yield Batch(self._buffers[0][: len(indices)], bboxes, self._paths[indices])

    def _decode(self, buffer: NDArray[np.uint8], batches: list[NDArray[np.int64]]) -> int:
        for indices in batches:
            for place, index in enumerate(indices.tolist()):
                jpeg = self._bytes[self._offsets[index] : self._offsets[index + 1]]
                simplejpeg.decode_jpeg(jpeg, "RGB", buffer=buffer[place])
        return sum(map(len, batches))


class OursRaw(OursBatchLoader):
    """`BatchLoader` over the raw rows."""

    def __init__(self, workload: Photographs, threads: int) -> None:
        super().__init__(workload, threads)
        self.name = f"raw: ours, {counted(threads, 'thread')}"


def contenders(workload: Photographs) -> list[Reader]:
    """Return all contenders, with raw rows for comparison."""
    readers: list[Reader] = []
    for subsampling in SUBSAMPLINGS:
        readers += [Decode(workload, threads, subsampling) for threads in (1, 2)]
        readers += [OursEncoded(workload, threads, subsampling) for threads in (0, 1, 2)]
    readers += [FFCV(workload, threads, QUALITY) for threads in (1, 2)]
    readers += [OursRaw(workload, threads) for threads in (0, 1)]
    return readers
