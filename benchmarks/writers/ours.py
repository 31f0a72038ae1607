"""This project's processor, and the limit: decoding and resizing without writing anything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from benchmarks.writers.writer import SIDE, Photograph, Sample, Writer, compare, letterboxed
from processing import DataProcessor, LazyNPZDataset
from processing.core.cpus import available_cpus

LIMIT: Final = "LIMIT"


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
