"""Libraries with random access to records: lmdb, HF datasets, array_record with grain."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contenders.reader import Batch, Reader, Sample, Workload
from benchmarks.contenders.torch_loader import EpochOrder, collate, data_loader


def pack(sample: Sample) -> bytes:
    """Return a sample as one record: image, boxes, path, and one byte with the path's length."""
    path = sample.path.encode()
    return sample.image.tobytes() + sample.bboxes.tobytes() + path + bytes([len(path)])


def unpack(size: int, record: Any) -> Sample:
    """Return the sample of a record; its arrays are views of the record."""
    image_bytes, path_start = 3 * size**2, len(record) - 1 - record[-1]
    return Sample(
        np.frombuffer(record, np.uint8, image_bytes).reshape(size, size, 3),
        np.frombuffer(record[image_bytes:path_start], np.float32).reshape(-1, 4),
        bytes(record[path_start:-1]).decode(),
    )


class LMDB(Reader):
    """lmdb in a DataLoader: one record per sample, viewed in the map, no locks, no readahead."""

    files = "lmdb"

    def __init__(self, workload: Workload, workers: int) -> None:
        super().__init__(workload)
        self.workers = workers
        self.name = f"lmdb, {workers} workers"

    def prepare(self, data: Path, folder: Path) -> None:
        """Write the records."""
        import lmdb

        with (
            lmdb.open(str(folder), map_size=1 << 34) as environment,
            environment.begin(write=True) as transaction,
        ):
            for index in range(self.workload.samples):
                transaction.put(b"%08d" % index, pack(self.workload.sample(index)), append=True)

    def open(self, folder: Path) -> None:
        """Create the loader; each process opens the environment by itself."""
        self._order = EpochOrder(self.workload)
        self._loader = data_loader(
            LMDBDataset(folder, self.workload),
            self.workload,
            self.workers,
            sampler=self._order,
            collate_fn=collate,
        )

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield one epoch of the loader."""
        self._order.epoch = epoch
        yield from self._loader


class LMDBDataset:
    """Samples of an lmdb environment, which must be opened after a fork."""

    def __init__(self, folder: Path, workload: Workload) -> None:
        self.folder, self.workload = folder, workload
        self._transaction: Any = None

    def __len__(self) -> int:
        return self.workload.samples

    def __getitems__(self, indices: list[int]) -> list[Sample]:
        if self._transaction is None:  # the first batch of this process
            import lmdb

            environment = lmdb.open(str(self.folder), readonly=True, lock=False, readahead=False)
            self._transaction = environment.begin(buffers=True)
        get, size = self._transaction.get, self.workload.size
        return [unpack(size, get(b"%08d" % index)) for index in indices]


class HFDatasets(Reader):
    """HF datasets: samples as bytes in Arrow files, whole batches in Arrow format.

    This was measured to be at least 30 times as fast as `Array3D` in numpy or torch format.
    """

    files = "hf_datasets"

    def __init__(self, workload: Workload, workers: int) -> None:
        super().__init__(workload)
        self.workers = workers
        self.name = f"HF datasets, {workers} workers"

    def prepare(self, data: Path, folder: Path) -> None:
        """Write Arrow files."""
        from datasets import Dataset, Features, Value

        Dataset.from_generator(
            sample_bytes,
            gen_kwargs={"workload": self.workload},
            features=Features(image=Value("binary"), bboxes=Value("binary"), path=Value("string")),
            cache_dir=str(folder / "cache"),
            writer_batch_size=64,
        ).save_to_disk(str(folder / "samples"))
        shutil.rmtree(folder / "cache")  # a second copy of all samples

    def open(self, folder: Path) -> None:
        """Map the Arrow files."""
        from datasets import load_from_disk

        self._order = EpochOrder(self.workload)
        self._loader = data_loader(
            ArrowDataset(load_from_disk(str(folder / "samples")).with_format("arrow")),
            self.workload,
            self.workers,
            sampler=self._order,
            collate_fn=partial(arrow_batch, self.workload.size),
        )

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield one epoch of the loader."""
        self._order.epoch = epoch
        yield from self._loader


class ArrowDataset:
    """Whole batches of a dataset as Arrow tables."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, indices: list[int]) -> Any:
        return self.dataset[indices]


def sample_bytes(workload: Workload) -> Iterator[dict[str, Any]]:
    """Yield all samples, with arrays as bytes."""
    for index in range(workload.samples):
        image, bboxes, path = workload.sample(index)
        yield {"image": image.tobytes(), "bboxes": bboxes.tobytes(), "path": path}


def arrow_batch(size: int, table: Any) -> Batch:
    """Return a batch of views of an Arrow table's buffers; all images have the same size."""
    import torch

    images = table["image"].combine_chunks()
    pixels: Any = np.frombuffer(images.buffers()[2], np.uint8).reshape(-1, size, size, 3)
    bboxes = [np.frombuffer(b, np.float32).reshape(-1, 4) for b in table["bboxes"].to_pylist()]
    if torch.utils.data.get_worker_info() is not None:
        pixels = torch.from_numpy(
            pixels.copy()
        )  # a numpy array would be pickled, a tensor goes through shared memory
    return Batch(pixels, bboxes, table["path"].to_pylist())


class Grain(Reader):
    """grain: `MapDataset` over uncompressed array_record files with one record per group."""

    files = "array_record"
    ordered = False

    def __init__(self, workload: Workload, workers: int) -> None:
        super().__init__(workload)
        self.workers = workers
        self.name = f"grain + array_record, {workers} workers"

    def prepare(self, data: Path, folder: Path) -> None:
        """Write the records."""
        from array_record.python.array_record_module import ArrayRecordWriter

        writer = ArrayRecordWriter(
            str(folder / "samples.array_record"), "group_size:1,uncompressed"
        )
        for index in range(self.workload.samples):
            writer.write(pack(self.workload.sample(index)))
        writer.close()

    def open(self, folder: Path) -> None:
        """Build the pipeline with batches of numpy arrays."""
        import grain

        source = grain.sources.ArrayRecordDataSource([str(folder / "samples.array_record")])
        dataset = (
            grain.MapDataset.source(source)
            .seed(0)
            .shuffle()
            .map(partial(unpack, self.workload.size))
            .repeat()
            .to_iter_dataset(grain.ReadOptions(num_threads=2))
            .batch(self.workload.batch_size, batch_fn=stack)
        )
        if self.workers:
            options = grain.MultiprocessingOptions(num_workers=self.workers)
            dataset = dataset.mp_prefetch(options)
        self._iterator = iter(dataset)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield as many batches as an epoch has, from an endless sequence of epochs."""
        yield from islice(self._iterator, -(-self.workload.samples // self.workload.batch_size))


def stack(samples: Sequence[Sample]) -> Batch:
    """Collate samples as numpy arrays."""
    images, bboxes, paths = zip(*samples, strict=True)
    return Batch(np.stack(images), list(bboxes), list(paths))


def contenders(workload: Workload) -> list[Reader]:
    """Return the contenders of this file."""
    readers: list[Reader] = []
    for kind in (LMDB, HFDatasets, Grain):
        readers += [kind(workload, 0), kind(workload, 2)]
    return readers
