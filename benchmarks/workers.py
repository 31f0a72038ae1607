"""``python -m benchmarks.workers``: how many threads suit consumers of three kinds.

`BatchLoader` starts fewer threads than there are CPUs, because a consumer that waits gathers as
well. This benchmark measures that rule: some contenders start as many threads as they are told to.
A consumer that computes on all CPUs loses time to any other thread. Two contenders without a loader
show how much.
"""

from __future__ import annotations

import json
import logging
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from benchmarks import results
from benchmarks.contenders.limit import GatherWithLists
from benchmarks.contenders.ours import OursBatchLoader
from benchmarks.contenders.reader import Batch, Workload
from benchmarks.harness import Result, measure
from benchmarks.page_cache import drop, read_in_sequence
from benchmarks.reading import write_samples
from processing import BatchLoader, LazyNPZDataset
from processing.core.cpus import available_cpus
from processing.datasets.collate import Sample

SAMPLES: Final = 20_000
SIZE: Final = 128
PACKAGES: Final = ("numpy", "torch")
CHANNELS: Final = 8
"""Channels of the convolution of a consumer that computes."""
PROCESSES: Final = 5
"""Of each setting, one after the other. One program that computes with torch's threads differs
twofold between processes, which is more than settings differ."""


def brighten(sample: Sample) -> dict[str, Any]:
    """Transform a sample slowly: an image as floats, brightened and mirrored."""
    image = np.asarray(sample["image"], np.float32)[:, ::-1]
    image = np.clip(image * 1.1 + 5.0, 0.0, 255.0)
    return {**sample, "image": np.round(image).astype(np.uint8)}


class AllThreads(BatchLoader[Any]):
    """A loader that starts as many threads as it is told to."""

    @property
    def _threads(self) -> int:
        return self.num_workers


class Uses(OursBatchLoader):
    """A consumer that makes the lists of each batch."""

    consumer = "uses the lists only"
    transform: Callable[[Sample], Any] | None = None

    def __init__(self, workload: Workload, threads: int, *, capped: bool) -> None:
        super().__init__(workload, threads)
        self.capped = capped
        self.setting = f"num_workers={threads}" if capped else f"{threads} threads in fact"
        self.name = f"{self.consumer}: {self.setting}"

    def open(self, folder: Path) -> None:
        """Open the dataset."""
        loader = BatchLoader if self.capped else AllThreads
        self._loader = loader(
            LazyNPZDataset(self.workload.data, transform=self.transform),
            batch_size=self.workload.batch_size,
            shuffle=True,
            num_workers=self.threads,
        )


class Computes(Uses):
    """A consumer that computes on all CPUs with each batch, as a small model does."""

    consumer = "computes on all CPUs"

    def open(self, folder: Path) -> None:
        """Open the dataset and make the layer."""
        super().open(folder)
        torch.set_num_threads(available_cpus())
        self._layer = torch.nn.Conv2d(3, CHANNELS, 3, stride=4)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield one epoch, and compute before the next batch."""
        for batch in self._read_batches(epoch):
            with torch.no_grad():
                self._layer(torch.as_tensor(batch.images).permute(0, 3, 1, 2).float())
            yield batch

    def _read_batches(self, epoch: int) -> Iterator[Batch]:
        return super().batches(epoch)


class ComputesWithoutLoader(Computes):
    """The same consumer with a bare loop: it gathers each batch itself, or one thread does.

    The thread is one batch ahead, so no loader can cost the consumer less than this thread does.
    """

    def __init__(self, workload: Workload, threads: int) -> None:
        super().__init__(workload, threads, capped=False)
        self.setting = "no loader, one thread gathers" if threads else "no loader"
        self.name = f"{self.consumer}: {self.setting}"
        self._loop = GatherWithLists(workload, threads=1)

    def open(self, folder: Path) -> None:
        """Open the loop's dataset and make the layer."""
        super().open(folder)
        self._loop.open(folder)

    def _read_batches(self, epoch: int) -> Iterator[Batch]:
        batches = self._loop.batches(epoch)
        if not self.threads:
            yield from batches
            return
        with ThreadPoolExecutor(1) as pool:
            following = pool.submit(next, batches, None)
            while (batch := following.result()) is not None:
                following = pool.submit(next, batches, None)
                yield batch


class Transforms(Uses):
    """A consumer whose dataset has a slow transform; its samples differ from those in the file."""

    consumer = "slow transform"
    transform = staticmethod(brighten)

    def check(self, data: Path, folder: Path) -> None:
        """Check nothing: the images are others than those in the file."""


CONSUMERS: Final = (Uses, Computes, Transforms)


def contenders(workload: Workload) -> list[Uses]:
    """Return the settings of each consumer: with the loader's own limit of threads, and without."""
    everyone: list[Uses] = []
    for consumer in CONSUMERS:
        everyone += [consumer(workload, threads, capped=True) for threads in (0, 1, 2, 4)]
        everyone += [consumer(workload, threads, capped=False) for threads in (2, 4)]
    return [*everyone, *(ComputesWithoutLoader(workload, threads) for threads in (0, 1))]


def measure_in_processes(workload: Workload, passes: int) -> dict[str, Result]:
    """Measure each setting in several processes; return its passes in all of them.

    Args:
        workload: the samples to read.
        passes: of each process.
    """
    folder = workload.data.parent
    measured: dict[str, Result] = {}
    for _ in range(PROCESSES):
        turn = measure(contenders(workload), data=workload.data, work=folder, passes=passes)
        for name, result in turn.items():
            everything = measured.setdefault(name, Result())
            everything.passes += result.passes
            everything.problem = everything.problem or result.problem
    return measured


def table(measured: Mapping[str, Result]) -> str:
    """Return the rates of each setting, as shares of ``num_workers=1`` in the same turn."""
    consumers = list(dict.fromkeys(name.partition(": ")[0] for name in measured))
    rows: dict[str, list[str]] = {}
    for name, result in measured.items():
        consumer, _, setting = name.partition(": ")
        cell = result.problem
        if cell is None:
            shares = results.ratios(result.passes, measured[f"{consumer}: num_workers=1"].passes)
            cell = (
                f"{statistics.median(shares):.2f} ({statistics.median(results.rates(result)):,.0f})"
            )
        cells = rows.setdefault(setting, [""] * len(consumers))
        cells[consumers.index(consumer)] = cell
    return results.markdown_table(
        ["setting", *consumers], [[name, *cells] for name, cells in rows.items()]
    )


def section(saved: Mapping[str, Any], measured: Mapping[str, Result]) -> str:
    """Return the section of the page."""
    return (
        "## Number of workers\n\n"
        "Written by `python -m benchmarks.workers --write-docs`. Rates of `BatchLoader`, as shares"
        f" of those with `num_workers=1` (in brackets: samples/s), {SAMPLES:,} images of"
        f" {SIZE}x{SIZE}, {results.most_passes([measured])} interleaved passes in {PROCESSES}"
        " processes: medians. The loader starts at most one thread fewer than there are CPUs; here"
        f" {saved['cores']}. Two rows start all threads that they name. The consumer computes a"
        " convolution, and the transform makes floats, brightens and mirrors. Without a loader, a"
        " bare loop gathers images and makes lists, in the consumer or in one thread beside it.\n\n"
        f"{table(measured)}\n"
        f"Machine: {saved['machine']}. Versions: {saved['versions']}."
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, and update the page if asked to."""
    parser = results.argument_parser("workers", __doc__)
    results.add_passes(parser, default=2)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    saved_file = options.work / "results.json"
    if not options.from_saved:
        workload = Workload.below(options.work, SAMPLES, SIZE)
        write_samples(workload)
        drop(workload.data)
        read_in_sequence(workload.data)
        measured = measure_in_processes(workload, options.passes)
        results.save(
            saved_file,
            machine=results.machine(options.work),
            cores=available_cpus(),
            versions=results.versions(PACKAGES),
            measured=measured,
        )
    saved = json.loads(saved_file.read_text())
    measured = results.load_results(saved["measured"])
    print(table(measured))
    if options.write_docs:
        results.write_section(results.DOCS / "benchmarks.md", "workers", section(saved, measured))


if __name__ == "__main__":
    main()
