"""FFCV: one file; compiled threads gather the batches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contenders.reader import Batch, Reader, Sample, Workload, counted

PATH_BYTES = 64


class Samples:
    """Samples in the form of FFCV's fields: boxes and paths are padded to one shape."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.most_boxes = workload.most_boxes

    def __len__(self) -> int:
        return self.workload.samples

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        image, bboxes, path = self.workload.sample(index)
        padded = np.zeros((self.most_boxes, 4), np.float32)
        padded[: len(bboxes)] = bboxes
        path_bytes = np.frombuffer(path.encode().ljust(PATH_BYTES, b"\0"), np.uint8)
        return image, padded, len(bboxes), path_bytes


class FFCV(Reader):
    """`ffcv.Loader` of raw images or of JPEGs, in random order, data in the page cache.

    Each field has one shape, so boxes stay padded and paths stay bytes. FFCV reuses its buffers
    although the consumer may still hold them.

    Args:
        workload: the samples to read.
        threads: number of threads that gather batches.
        quality: of JPEGs, encoded by OpenCV with 4:2:0; None: raw images.
    """

    ordered = False

    def __init__(self, workload: Workload, threads: int, quality: int | None = None) -> None:
        super().__init__(workload)
        self.threads, self.quality = threads, quality
        self.files = "ffcv" if quality is None else f"ffcv-jpg-{quality}"
        label = "FFCV" if quality is None else "4:2:0: FFCV jpg"
        self.name = f"{label}, {counted(threads, 'thread')}"

    def prepare(self, data: Path, folder: Path) -> None:
        """Write the file."""
        from ffcv.fields import IntField, NDArrayField, RGBImageField
        from ffcv.writer import DatasetWriter

        jpeg = {} if self.quality is None else {"write_mode": "jpg", "jpeg_quality": self.quality}
        fields = {
            "image": RGBImageField(**jpeg),
            "bboxes": NDArrayField(np.dtype("float32"), (self.workload.most_boxes, 4)),
            "count": IntField(),
            "path": NDArrayField(np.dtype("uint8"), (PATH_BYTES,)),
        }
        writer = DatasetWriter(str(folder / "samples.beton"), fields, num_workers=2)
        writer.from_indexed_dataset(Samples(self.workload))

    def open(self, folder: Path) -> None:
        """Compile the loader, with the default pipeline of each field."""
        from ffcv.loader import Loader, OrderOption

        self._loader = Loader(
            str(folder / "samples.beton"),
            batch_size=self.workload.batch_size,
            num_workers=self.threads,
            os_cache=True,
            order=OrderOption.RANDOM,
            drop_last=False,
        )

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield one epoch. The loader counts epochs itself."""
        for images, bboxes, counts, paths in self._loader:
            yield Batch(images, (bboxes, counts), paths)

    def rows(self, batch: Batch) -> Iterator[Sample]:
        """Yield the samples without their padding."""
        for image, bboxes, count, path in zip(
            batch.images, *batch.bboxes, batch.paths, strict=True
        ):
            path_text = path.numpy().tobytes().rstrip(b"\0").decode()
            yield Sample(image.numpy(), bboxes.numpy()[: int(count)], path_text)


def contenders(workload: Workload) -> list[Reader]:
    """Return the contenders of this file."""
    return [FFCV(workload, 1), FFCV(workload, 2)]
