"""Formats for streaming from object storage, read from a local folder: LitData, MosaicML, tar.

They shuffle by themselves, among the samples of the shards that they hold at a time.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from functools import partial
from importlib.machinery import ModuleSpec
from itertools import chain, count, islice
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks.contenders.reader import Batch, Reader, Sample, Workload
from benchmarks.contenders.torch_loader import collate, data_loader


def sample_dict(workload: Workload, index: int) -> dict[str, Any]:
    """Return a sample as a dict of its fields."""
    return workload.sample(index)._asdict()


def collate_dicts(samples: list[dict[str, Any]]) -> Batch:
    """Collate dicts with the fields of a sample, and perhaps other fields."""
    return collate([Sample(s["image"], s["bboxes"], s["path"]) for s in samples])


class StreamReader(Reader):
    """Reads one endless stream in all passes, because these libraries are slow to start.

    Workers of MosaicML even die if an epoch is left before its end and another begins.
    """

    ordered = False
    loader: Any

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield as many batches as an epoch has."""
        if not hasattr(self, "_stream"):
            self._stream = chain.from_iterable(self.loader for _ in count())
        yield from islice(self._stream, -(-self.workload.samples // self.workload.batch_size))


class LitData(StreamReader):
    """`litdata.StreamingDataset` in its `StreamingDataLoader`, chunks of 64 MB."""

    files = "litdata"

    def __init__(self, workload: Workload, workers: int) -> None:
        super().__init__(workload)
        self.workers = workers
        self.name = f"LitData, {workers} workers"

    def prepare(self, data: Path, folder: Path) -> None:
        """Write the samples as chunks."""
        from litdata import optimize

        optimize(
            partial(sample_dict, self.workload),
            list(range(self.workload.samples)),
            output_dir=str(folder),
            chunk_bytes="64MB",
            num_workers=2,
        )

    def open(self, folder: Path) -> None:
        """Open the folder."""
        from litdata import StreamingDataLoader, StreamingDataset

        self.loader = StreamingDataLoader(
            StreamingDataset(str(folder), shuffle=True),
            batch_size=self.workload.batch_size,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            collate_fn=collate_dicts,
        )


def import_streaming() -> Any:
    """Import MosaicML's package, even if torchvision cannot be imported.

    The package needs torchvision only for its vision datasets. The import of torchvision fails if
    it was built for another torch, and there may be none for a CPU build of torch.
    """
    try:
        import torchvision  # noqa: F401 - tests whether the import works
    except (ImportError, RuntimeError):
        # Empty modules with the two names that MosaicML's package looks up at import.
        for name in (
            "torchvision",
            "torchvision.datasets",
            "torchvision.transforms",
            "torchvision.transforms.functional",
        ):
            module = sys.modules[name] = ModuleType(name)
            module.__spec__ = ModuleSpec(name, None)
            vars(module).update(VisionDataset=object, to_tensor=None)
    import streaming

    return streaming


class MosaicStreaming(StreamReader):
    """`streaming.StreamingDataset` in a DataLoader, uncompressed shards of 64 MB."""

    files = "mds"

    def __init__(self, workload: Workload, workers: int) -> None:
        super().__init__(workload)
        self.workers = workers
        self.name = f"MosaicML streaming, {workers} workers"

    def prepare(self, data: Path, folder: Path) -> None:
        """Write the shards."""
        streaming = import_streaming()

        size = self.workload.size
        columns = {
            "image": f"ndarray:uint8:{size},{size},3",
            "bboxes": "bytes",  # an ndarray column does not accept empty arrays
            "path": "str",
        }
        with streaming.MDSWriter(out=str(folder), columns=columns) as writer:
            for index in range(self.workload.samples):
                sample = self.workload.sample(index)
                writer.write({**sample._asdict(), "bboxes": sample.bboxes.tobytes()})

    def open(self, folder: Path) -> None:
        """Open a folder of hard links: two datasets must not use the same folder at a time."""
        streaming = import_streaming()

        links = folder.with_name(f"{folder.name}-{self.workers}-workers")
        shutil.rmtree(links, ignore_errors=True)
        shutil.copytree(folder, links, copy_function=os.link)
        dataset = streaming.StreamingDataset(
            local=str(links), shuffle=True, batch_size=self.workload.batch_size
        )
        self.loader = data_loader(
            dataset, self.workload, self.workers, collate_fn=collate_mds_samples
        )


def collate_mds_samples(samples: list[dict[str, Any]]) -> Batch:
    """Collate samples whose boxes are bytes."""
    return collate(
        [
            Sample(s["image"], np.frombuffer(s["bboxes"], np.float32).reshape(-1, 4), s["path"])
            for s in samples
        ]
    )


class WebDataset(StreamReader):
    """`webdataset.WebDataset`: tar files in sequence through a shuffle buffer of 1000 samples."""

    files = "webdataset"

    def __init__(self, workload: Workload, workers: int) -> None:
        super().__init__(workload)
        self.workers = workers
        self.name = f"webdataset (sequential), {workers} workers"

    def prepare(self, data: Path, folder: Path) -> None:
        """Write tar files of about 64 MB with raw pixels."""
        from webdataset import ShardWriter

        with ShardWriter(str(folder / "%05d.tar"), maxsize=64e6, verbose=0) as writer:
            for index in range(self.workload.samples):
                image, bboxes, path = self.workload.sample(index)
                key = path.removesuffix(".jpg")
                writer.write({"__key__": key, "image": image.tobytes(), "boxes": bboxes.tobytes()})

    def open(self, folder: Path) -> None:
        """Build the pipeline; the workers collate the batches."""
        import webdataset

        shards = [str(shard) for shard in sorted(folder.glob("*.tar"))]
        dataset = (
            webdataset.WebDataset(shards, shardshuffle=len(shards))
            .shuffle(1000, initial=100)
            .map(partial(decode_tar_sample, self.workload.size))
            .batched(self.workload.batch_size, collation_fn=collate)
        )
        self.loader = webdataset.WebLoader(
            dataset,
            batch_size=None,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
        )


def decode_tar_sample(size: int, sample: dict[str, Any]) -> Sample:
    """Return a sample from the bytes of its members, without copying."""
    return Sample(
        np.frombuffer(sample["image"], np.uint8).reshape(size, size, 3),
        np.frombuffer(sample["boxes"], np.float32).reshape(-1, 4),
        f"{sample['__key__']}.jpg",
    )


def contenders(workload: Workload) -> list[Reader]:
    """Return the contenders of this file."""
    readers: list[Reader] = []
    for kind in (LitData, MosaicStreaming, WebDataset):
        readers += [kind(workload, 0), kind(workload, 2)]
    return readers
