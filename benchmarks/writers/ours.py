"""This project's processor, the limit, and a bare loop that shows what a processor can reach."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import simplejpeg
from isal import isal_zlib
from numpy.typing import NDArray

from benchmarks.writers.writer import SIDE, Photograph, Sample, Writer, compare, fitted, letterboxed
from processing import DataProcessor, LazyNPZDataset
from processing.core.cpus import available_cpus

LIMIT: Final = "LIMIT"
_BATCH: Final = 32
_BATCHES_OF_SYNC: Final = 75
"""After as many batches the file is synced: about as often as ours syncs its files."""


class Limit(Writer):
    """Decoding and resizing in one thread per core; nothing is written."""

    name, files = LIMIT, "limit"

    def write(self, photographs: Sequence[Photograph], output: Path) -> None:
        """Make all samples; keep the last one of each thread for the check."""
        cpus = available_cpus()
        self._samples = []
        with ThreadPoolExecutor(cpus) as pool:
            shares = [photographs[first::cpus] for first in range(cpus)]
            # A share is empty if there are fewer photographs than cores.
            for sample in pool.map(_last_sample, shares):
                if sample is not None:
                    self._samples.append(sample)

    def check(self, data: Path, folder: Path) -> None:
        """Compare the last sample of each thread."""
        truth = {photograph.path: photograph for photograph in self._chosen(folder)}
        for sample in self.stored(folder):
            compare(sample, letterboxed(truth[sample.path]))

    def stored(self, output: Path) -> Iterable[Sample]:
        """Return the samples that were kept."""
        return self._samples


def _last_sample(photographs: Iterable[Photograph]) -> Sample | None:
    sample = None
    for photograph in photographs:
        sample = letterboxed(photograph)
    return sample


class BareLoop(Writer):
    """The work that no processor can avoid: read, check, decode at reduced scale, write, sync.

    It is no processor: it has no header, looks at no annotation, and keeps no journal.
    """

    name, files = "bare loop that writes", "bare"

    def write(self, photographs: Sequence[Photograph], output: Path) -> None:
        """Write the rows into one file, by one thread per core; another thread syncs it."""
        parts = [photographs[at : at + _BATCH] for at in range(0, len(photographs), _BATCH)]
        self._boxes = []
        cpus = available_cpus()
        with (
            (output / "rows").open("wb") as file,
            ThreadPoolExecutor(cpus) as pool,
            ThreadPoolExecutor(1) as syncing,
        ):
            row_bytes = SIDE * SIDE * 3
            make = partial(_write_rows, file.fileno(), row_bytes)
            starts = range(0, len(photographs), _BATCH)
            syncs = []
            for count, boxes in enumerate(pool.map(make, starts, parts), 1):
                self._boxes.extend(boxes)
                if count % _BATCHES_OF_SYNC == 0 or count == len(parts):
                    syncs.append(syncing.submit(os.fsync, file.fileno()))
            for sync in syncs:
                sync.result()

    def stored(self, output: Path) -> Iterator[Sample]:
        """Yield the rows of the file, and the boxes of the last pass."""
        rows = np.memmap(output / "rows", np.uint8, "r").reshape(-1, SIDE, SIDE, 3)
        for image, (bboxes, path) in zip(rows, self._boxes, strict=True):
            yield Sample(image, bboxes, path)


def _write_rows(
    file: int, row_bytes: int, start: int, photographs: Sequence[Photograph]
) -> list[tuple[NDArray[np.float32], str]]:
    """Write the rows of some photographs from row `start` on; return their boxes and paths."""
    images, boxes = [], []
    for photograph in photographs:
        data = photograph.file.read_bytes()
        isal_zlib.crc32(data)
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
        scale = SIDE / max(height, width)
        pixels = simplejpeg.decode_jpeg(
            data, "RGB", min_height=round(height * scale), min_width=round(width * scale)
        )
        sample = fitted(photograph, pixels, scale)
        images.append(sample.image)
        boxes.append((sample.bboxes, sample.path))
    os.pwritev(file, [image.data for image in images], start * row_bytes)
    return boxes


class Ours(Writer):
    """`DataProcessor.process_detector`, which also reads the annotations and syncs its files."""

    name, files = "ours", "ours"

    def write(self, photographs: Sequence[Photograph], output: Path) -> None:
        """Process the whole raw folder: the processor cannot be given a part of it."""
        raw = output.parents[1] / "raw"
        self._process(DataProcessor(raw, output, image_size=SIDE, progress=False))

    def _process(self, processor: DataProcessor) -> None:
        processor.process_detector(train_split=1.0)

    def stored(self, output: Path) -> Iterator[Sample]:
        """Yield the rows of the detector's file."""
        with LazyNPZDataset(output / "train_detector.npz") as dataset:
            for index in range(len(dataset)):
                row = dataset[index]
                yield Sample(row["image"], row["bboxes"], row["image_path"])


class OursAllTasks(Ours):
    """`DataProcessor.process_all`: every task that the annotations can feed."""

    name, files = "ours, process_all", "ours-all"

    def _process(self, processor: DataProcessor) -> None:
        processor.process_all(train_split=1.0)
