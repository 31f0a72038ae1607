"""``python -m benchmarks.workers``: how many threads suit consumers of three kinds.

`BatchLoader` starts fewer threads than there are CPUs, because a consumer that waits gathers as
well. This benchmark measures that rule: some contenders start as many threads as they are told to.
"""

from __future__ import annotations

import json
import logging
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from benchmarks import results
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
        """Yield one epoch of the loader, and compute before the next batch."""
        for batch in super().batches(epoch):
            with torch.no_grad():
                self._layer(batch.images.permute(0, 3, 1, 2).float())
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
    return everyone


def table(measured: Mapping[str, Result]) -> str:
    """Return the rates of each setting, as shares of ``num_workers=1`` in the same turn."""
    by_setting: dict[str, list[str]] = {}
    for name, result in measured.items():
        consumer, _, setting = name.partition(": ")
        cell = result.problem
        if cell is None:
            shares = results.ratios(result.passes, measured[f"{consumer}: num_workers=1"].passes)
            cell = (
                f"{statistics.median(shares):.2f} ({statistics.median(results.rates(result)):,.0f})"
            )
        by_setting.setdefault(setting, []).append(cell)
    heads = ["setting", *(consumer.consumer for consumer in CONSUMERS)]
    return results.markdown_table(heads, [[name, *cells] for name, cells in by_setting.items()])


def section(saved: Mapping[str, Any], measured: Mapping[str, Result]) -> str:
    """Return the section of the page."""
    return (
        "## Number of workers\n\n"
        "Written by `python -m benchmarks.workers --write-docs`. Rates of `BatchLoader`, as shares"
        f" of those with `num_workers=1` (in brackets: samples/s), {SAMPLES:,} images of"
        f" {SIZE}x{SIZE}, {results.most_passes([measured])} interleaved passes: medians. The loader"
        f" starts at most one thread fewer than there are CPUs; here {saved['cores']}. The last"
        " rows start all threads that they name. The consumer computes a convolution, and the"
        " transform makes floats, brightens and mirrors.\n\n"
        f"{table(measured)}\n"
        f"Machine: {saved['machine']}. Versions: {saved['versions']}."
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, and update the page if asked to."""
    parser = results.argument_parser("workers", __doc__)
    results.add_passes(parser)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    saved_file = options.work / "results.json"
    if not options.from_saved:
        workload = Workload.below(options.work, SAMPLES, SIZE)
        write_samples(workload)
        drop(workload.data)
        read_in_sequence(workload.data)
        folder = workload.data.parent
        measured = measure(
            contenders(workload), data=workload.data, work=folder, passes=options.passes
        )
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
