"""Libraries that store records and give any of them: lmdb, HF datasets, array_record with grain."""

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
    """A sample as one record: image, boxes, path, and the length of the path in one byte."""
    path = sample.path.encode()
    return sample.image.tobytes() + sample.bboxes.tobytes() + path + bytes([len(path)])


def unpack(size: int, record: Any) -> Sample:
    """The sample of a record, as views of it."""
    image_bytes, path_start = 3 * size**2, len(record) - 1 - record[-1]
    return Sample(
        np.frombuffer(record, np.uint8, image_bytes).reshape(size, size, 3),
        np.frombuffer(record[image_bytes:path_start], np.float32).reshape(-1, 4),
        bytes(record[path_start:-1]).decode(),
    )


class LMDB(Reader):
    """lmdb: one record a sample, viewed in the map, without locks or readahead; a DataLoader."""

    files = "lmdb"

    def __init__(self, workload: Workload, workers: int) -> None:
        super().__init__(workload)
        self.workers = workers
        self.name = f"lmdb, {workers} workers"

    def prepare(self, data: Path, folder: Path) -> None:
        """Writes the records."""
        import lmdb

        with (
            lmdb.open(str(folder), map_size=1 << 34) as environment,
            environment.begin(write=True) as transaction,
        ):
            for index in range(self.workload.samples):
                transaction.put(b"%08d" % index, pack(self.workload.sample(index)), append=True)

    def open(self, folder: Path) -> None:
        """Sets up the loader; each process opens the environment for itself."""
        self._order = EpochOrder(self.workload)
        self._loader = data_loader(
            LMDBDataset(folder, self.workload),
            self.workload,
            self.workers,
            sampler=self._order,
            collate_fn=collate,
        )

    def batches(self, epoch: int) -> Iterator[Batch]:
        """One epoch of the loader."""
        self._order.epoch = epoch
        yield from self._loader


class LMDBDataset:
    """Samples of an lmdb environment, which must not be carried across a fork."""

    def __init__(self, folder: Path, workload: Workload) -> None:
        self.folder, self.workload = folder, workload
        self._transaction: Any = None

    def __len__(self) -> int:
        return self.workload.samples

    def __getitems__(self, indices: list[int]) -> list[Sample]:
        if self._transaction is None:
            import lmdb

            environment = lmdb.open(str(self.folder), readonly=True, lock=False, readahead=False)
            self._transaction = environment.begin(buffers=True)
        get, size = self._transaction.get, self.workload.size
        return [unpack(size, get(b"%08d" % index)) for index in indices]


class HFDatasets(Reader):
    """HF datasets: samples as bytes in Arrow files, whole batches in Arrow format.

    Measured faster than its `Array3D` in numpy or torch format, 30 times and more.
    """

    files = "hf_datasets"

    def __init__(self, workload: Workload, workers: int) -> None:
        super().__init__(workload)
        self.workers = workers
        self.name = f"HF datasets, {workers} workers"

    def prepare(self, data: Path, folder: Path) -> None:
        """Writes Arrow files."""
        from datasets import Dataset, Features, Value

        Dataset.from_generator(
            sample_bytes,
            gen_kwargs={"workload": self.workload},
            features=Features(image=Value("binary"), bboxes=Value("binary"), path=Value("string")),
            cache_dir=str(folder / "cache"),
            writer_batch_size=64,
        ).save_to_disk(str(folder / "samples"))
        shutil.rmtree(folder / "cache")

    def open(self, folder: Path) -> None:
        """Maps the Arrow files."""
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
        """One epoch of the loader."""
        self._order.epoch = epoch
        yield from self._loader


class ArrowDataset:
    """Whole batches of a data set, as Arrow tables."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, indices: list[int]) -> Any:
        return self.dataset[indices]


def sample_bytes(workload: Workload) -> Iterator[dict[str, Any]]:
    """All samples, as bytes where they are arrays."""
    for index in range(workload.samples):
        image, bboxes, path = workload.sample(index)
        yield {"image": image.tobytes(), "bboxes": bboxes.tobytes(), "path": path}


def arrow_batch(size: int, table: Any) -> Batch:
    """A batch as views of an Arrow table's buffers; images have equally many bytes each."""
    import torch

    images = table["image"].combine_chunks()
    pixels: Any = np.frombuffer(images.buffers()[2], np.uint8).reshape(-1, size, size, 3)
    bboxes = [np.frombuffer(b, np.float32).reshape(-1, 4) for b in table["bboxes"].to_pylist()]
    if torch.utils.data.get_worker_info() is not None:
        pixels = torch.from_numpy(pixels.copy())  # else it would be pickled
    return Batch(pixels, bboxes, table["path"].to_pylist())


class Grain(Reader):
    """grain: `MapDataset` over uncompressed array_record files of one record a group."""

    files = "array_record"
    ordered = False

    def __init__(self, workload: Workload, workers: int) -> None:
        super().__init__(workload)
        self.workers = workers
        self.name = f"grain + array_record, {workers} workers"

    def prepare(self, data: Path, folder: Path) -> None:
        """Writes the records."""
        from array_record.python.array_record_module import ArrayRecordWriter

        writer = ArrayRecordWriter(
            str(folder / "samples.array_record"), "group_size:1,uncompressed"
        )
        for index in range(self.workload.samples):
            writer.write(pack(self.workload.sample(index)))
        writer.close()

    def open(self, folder: Path) -> None:
        """Builds the pipeline, batches of numpy arrays."""
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
        """As many batches as an epoch has, of a sequence of epochs without end."""
        yield from islice(self._iterator, -(-self.workload.samples // self.workload.batch_size))


def stack(samples: Sequence[Sample]) -> Batch:
    """Collates samples as numpy arrays."""
    return Batch(
        np.stack([sample.image for sample in samples]),
        [sample.bboxes for sample in samples],
        [sample.path for sample in samples],
    )


def contenders(workload: Workload) -> list[Reader]:
    """All of this file."""
    return [reader(workload, workers) for reader in (LMDB, HFDatasets, Grain) for workers in (0, 2)]
