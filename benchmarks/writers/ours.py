"""This project's processor, the limit, and a bare loop that shows what a processor can reach."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Final

import numpy as np
import simplejpeg
from isal import isal_zlib
from numpy.typing import NDArray

from benchmarks.writers.writer import SIDE, Photograph, Sample, Writer, compare, fitted, letterboxed
from processing import DataProcessor, LazyNPZDataset
from processing.core.coordinates import Rect, source_to_stored
from processing.core.cpus import available_cpus
from processing.imaging.photo import Photo
from processing.imaging.placement import crop_rect, letterbox_rect
from processing.imaging.resizing import render

LIMIT: Final = "LIMIT"
_BATCH: Final = 32
_BATCHES_OF_SYNC: Final = 75
"""After as many batches the file is synced: about as often as ours syncs its files."""
_MOST_BUFFERS: Final = 1024
"""Of one call of `pwritev`: Linux's IOV_MAX."""
_SIZE: Final = (SIDE, SIDE)
_CROP_MARGIN: Final = 0.25
"""The default of `DataProcessor`."""


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
        rows_of_parts = [sum(map(self._rows, part)) for part in parts]
        starts = accumulate(rows_of_parts, initial=0)
        self._samples = []
        cpus = available_cpus()
        with (
            (output / "rows").open("wb") as file,
            ThreadPoolExecutor(cpus) as pool,
            ThreadPoolExecutor(1) as syncing,
        ):
            write = partial(self._write_rows, file.fileno())
            syncs = []
            for count, samples in enumerate(pool.map(write, starts, parts), 1):
                self._samples.extend(samples)
                if count % _BATCHES_OF_SYNC == 0 or count == len(parts):
                    syncs.append(syncing.submit(os.fsync, file.fileno()))
            for sync in syncs:
                sync.result()

    def stored(self, output: Path) -> Iterator[Sample]:
        """Yield the rows of the whole photographs, with the boxes of the last pass."""
        images = np.memmap(output / "rows", np.uint8, "r").reshape(-1, SIDE, SIDE, 3)
        row = 0
        for bboxes, path, rows in self._samples:
            yield Sample(images[row], bboxes, path)
            row += rows
        if row != len(images):
            raise ValueError(f"stored {len(images)} rows: expected {row}")

    def _write_rows(
        self, file: int, start: int, photographs: Sequence[Photograph]
    ) -> list[tuple[NDArray[np.float32], str, int]]:
        """Write the rows of some photographs from row `start` on.

        Returns:
            Of each photograph the boxes, the path, and the number of its rows.
        """
        images: list[NDArray[np.uint8]] = []
        samples = []
        for photograph in photographs:
            data = photograph.file.read_bytes()
            isal_zlib.crc32(data)
            sample, crops = self._make(photograph, data)
            images += [sample.image, *crops]
            samples.append((sample.bboxes, sample.path, 1 + len(crops)))
        for at in range(0, len(images), _MOST_BUFFERS):
            buffers = [image.data for image in images[at : at + _MOST_BUFFERS]]
            os.pwritev(file, buffers, (start + at) * SIDE * SIDE * 3)
        return samples

    def _rows(self, photograph: Photograph) -> int:
        """Return the number of rows that a photograph gives."""
        return 1

    def _make(
        self, photograph: Photograph, data: bytes
    ) -> tuple[Sample, Sequence[NDArray[np.uint8]]]:
        """Return the sample of the whole photograph, and its crops."""
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
        scale = SIDE / max(height, width)
        pixels = simplejpeg.decode_jpeg(
            data, "RGB", min_height=round(height * scale), min_width=round(width * scale)
        )
        return fitted(photograph, pixels, scale), ()


class BareLoopAllTasks(BareLoop):
    """The same for all tasks: the photograph is decoded at full size, which its crops need.

    A crop is rendered once, and stored for the landmarker and for the teacher.
    """

    name, files = "bare loop that writes, all tasks", "bare-all"

    def _rows(self, photograph: Photograph) -> int:
        return 1 + 2 * len(photograph.bboxes)

    def _make(
        self, photograph: Photograph, data: bytes
    ) -> tuple[Sample, Sequence[NDArray[np.uint8]]]:
        pixels = simplejpeg.decode_jpeg(data, "RGB")
        height, width = pixels.shape[:2]
        photo = Photo(pixels, (height, width))
        whole, rect = _rendered(photo, letterbox_rect(photo.source_size, _SIZE))
        boxes = source_to_stored(np.clip(photograph.bboxes, 0, [width, height] * 2), rect, _SIZE)
        crops = []
        for box in photograph.bboxes:
            crop, _ = _rendered(photo, crop_rect(box, _CROP_MARGIN, _SIZE))
            crops += [crop, crop]
        return Sample(whole, boxes, photograph.path), crops


def _rendered(photo: Photo, rect: Rect) -> tuple[NDArray[np.uint8], Rect]:
    """Return an image of a rectangle, and the rectangle after rounding to pixels."""
    image = np.empty((*_SIZE, 3), np.uint8)
    shown = render(photo, rect, _SIZE, image)
    assert shown is not None  # the boxes lie in their photographs
    return image, shown


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


class OursDefaultSizes(OursAllTasks):
    """`DataProcessor.process_all` with the sizes that each task has by default.

    The detector's default is `SIDE`, so its file is that of the other contenders.
    """

    name, files = "ours, process_all, default sizes", "ours-default"

    def write(self, photographs: Sequence[Photograph], output: Path) -> None:
        """Process the whole raw folder."""
        self._process(DataProcessor(output.parents[1] / "raw", output, progress=False))
