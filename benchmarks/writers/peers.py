"""Other libraries that store a data set, and the loop that a notebook would have.

Libraries are imported in methods: a missing one is reported as the problem of its contender only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.writers.writer import SIDE, Photograph, Sample, Writer, letterboxed
from processing.core.cpus import available_cpus


class LitData(Writer):
    """`litdata.optimize`."""

    name, files = "litdata.optimize", "litdata"

    def write(self, photographs: Sequence[Photograph], output: Path) -> None:
        """Write chunks of 64 MB, with one worker per core."""
        import litdata

        litdata.optimize(
            _as_dict,
            list(photographs),
            output_dir=str(output),
            chunk_bytes="64MB",
            num_workers=available_cpus(),
        )

    def stored(self, output: Path) -> Iterator[Sample]:
        """Yield the rows of the streaming data set."""
        import litdata

        for row in litdata.StreamingDataset(str(output)):
            yield Sample(np.asarray(row["image"]), np.asarray(row["bboxes"]), row["path"])


def _as_dict(photograph: Photograph) -> dict[str, Any]:
    return letterboxed(photograph)._asdict()


class MosaicML(Writer):
    """`MDSWriter` in one process per core, then `merge_index`."""

    name, files = "MosaicML MDSWriter", "mds"

    def write(self, photographs: Sequence[Photograph], output: Path) -> None:
        """Write the shards of each process into a folder of its own."""
        from benchmarks.contenders.streaming import import_streaming

        import_streaming()
        from streaming.base.util import merge_index

        cpus = available_cpus()
        parts = [(output / str(i), photographs[i::cpus]) for i in range(cpus)]
        with get_context("fork").Pool(cpus) as pool:
            pool.starmap(_write_mds, parts)
        merge_index(str(output), keep_local=True)

    def stored(self, output: Path) -> Iterator[Sample]:
        """Yield the rows of the streaming data set."""
        from benchmarks.contenders.streaming import import_streaming

        dataset = import_streaming().StreamingDataset(
            local=str(output), shuffle=False, batch_size=1
        )
        for index in range(len(dataset)):
            row = dataset[index]
            yield Sample(row["image"], row["bboxes"].reshape(-1, 4), row["path"])


def _write_mds(output: Path, photographs: Iterable[Photograph]) -> None:
    from streaming import MDSWriter

    columns = {
        "image": f"ndarray:uint8:{SIDE},{SIDE},3",
        "bboxes": "ndarray:float32",
        "path": "str",
    }
    with MDSWriter(out=str(output), columns=columns) as writer:
        for photograph in photographs:
            writer.write(_as_dict(photograph))


class Datasets(Writer):
    """`datasets.Dataset.map`, which writes one Arrow file per process."""

    name, files = "datasets.map", "datasets"

    def write(self, photographs: Sequence[Photograph], output: Path) -> None:
        """Map the numbers of the photographs to samples."""
        import datasets

        features = datasets.Features(
            image=datasets.Array3D((SIDE, SIDE, 3), "uint8"),
            bboxes=datasets.Sequence(datasets.Sequence(datasets.Value("float32"), length=4)),
            path=datasets.Value("string"),
        )
        listed = datasets.Dataset.from_dict({"number": list(range(len(photographs)))})
        self._stored = listed.map(
            partial(_numbered, list(photographs)),
            input_columns="number",
            remove_columns="number",
            features=features,
            num_proc=available_cpus(),
            cache_file_name=str(output / "samples.arrow"),
            load_from_cache_file=False,
        )

    def stored(self, output: Path) -> Iterator[Sample]:
        """Yield the rows of the Arrow files."""
        for row in self._stored.with_format("numpy"):
            boxes = np.asarray(row["bboxes"], np.float32).reshape(-1, 4)
            # The numpy format returns every integer as int64, also those stored as uint8.
            yield Sample(np.asarray(row["image"], np.uint8), boxes, str(row["path"]))


def _numbered(photographs: Sequence[Photograph], number: int) -> dict[str, Any]:
    # A module-level function: `datasets` pickles it to its processes and hashes it.
    return _as_dict(photographs[number])


class NaiveLoop(Writer):
    """A loop over the photographs and `np.savez`, as in many notebooks."""

    name, files = "loop and np.savez", "loop"

    def write(self, photographs: Sequence[Photograph], output: Path) -> None:
        """Collect all samples in memory, then save them; ragged boxes become an object array."""
        samples = [letterboxed(photograph) for photograph in photographs]
        bboxes = np.empty(len(samples), object)
        for row, sample in enumerate(samples):
            bboxes[row] = sample.bboxes
        np.savez(
            output / "samples.npz",
            images=np.stack([sample.image for sample in samples]),
            bboxes=bboxes,
            image_paths=[sample.path for sample in samples],
        )

    def stored(self, output: Path) -> Iterator[Sample]:
        """Yield the rows of the arrays."""
        with np.load(output / "samples.npz", allow_pickle=True) as arrays:
            # Each access reads the whole member: take all three before the loop.
            columns = arrays["images"], arrays["bboxes"], arrays["image_paths"]
            for image, bboxes, path in zip(*columns, strict=True):
                yield Sample(image, bboxes, path)
