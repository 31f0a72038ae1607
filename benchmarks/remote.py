"""``python -m benchmarks.remote``: batches from a web server that answers 30 ms late.

The server is a process of this machine, and takes CPU time from the reader. With 32 requests in
flight, no reader can make more than 32 requests in 30 ms: that is LIMIT. The local file is dropped
from the page cache before each of its passes.
"""

from __future__ import annotations

import itertools
import json
import logging
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from benchmarks import results
from benchmarks.contenders.reader import Batch, Reader, Workload, counted
from benchmarks.harness import Result, measure
from benchmarks.page_cache import drop
from benchmarks.range_server import serving
from benchmarks.reading import write_samples

SAMPLES_OF_SIZE: Final = {256: 4_000, 512: 1_500}
"""Number of images by their side."""
DELAY: Final = 0.03
"""Seconds before each answer."""
IN_FLIGHT: Final = 32
PACKAGES: Final = ("numpy", "torch", "obstore", "fsspec", "aiohttp")
LOCAL: Final = "local disk, BatchLoader, 1 thread"


class Remote(Reader):
    """`BatchLoader` over a URL."""

    files = "npz"
    ordered = False

    def __init__(self, workload: Workload, url: str, threads: int, *, shuffle: bool = True) -> None:
        super().__init__(workload)
        self.url, self.threads, self.shuffle = url, threads, shuffle
        order = "" if shuffle else ", stored order"
        self.name = f"URL, BatchLoader, {counted(threads, 'thread')}{order}"

    def open(self, folder: Path) -> None:
        """Open the file by its URL."""
        from processing import BatchLoader, LazyNPZDataset

        dataset = LazyNPZDataset(self.url)
        self._loader = BatchLoader(
            dataset, self.workload.batch_size, self.shuffle, self.threads, drop_last=True
        )

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield one epoch of the loader."""
        self._loader.set_epoch(epoch)
        for batch in self._loader:
            yield Batch(batch["image"], list(batch["bboxes"]), list(batch["image_path"]))

    def check(self, data: Path, folder: Path) -> None:
        """Compare a few batches with the truth; the stored order is not shuffled."""
        if self.shuffle:
            super().check(data, folder)


class Local(Remote):
    """The same from the local disk, from a cold file."""

    def __init__(self, workload: Workload, threads: int) -> None:
        super().__init__(workload, str(workload.data), threads)
        self.name = LOCAL

    def open(self, folder: Path) -> None:
        """Do nothing: mapped pages cannot be dropped, so `batches` opens the file."""

    def make_ready(self, folder: Path) -> str | None:
        """Drop the file from the page cache."""
        drop(self.workload.data)
        return None

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield a quarter of an epoch: later, readahead would have brought the rest."""
        from processing import BatchLoader, LazyNPZDataset

        quarter = self.workload.samples // 4 // self.workload.batch_size
        with LazyNPZDataset(self.workload.data) as dataset:
            loader = BatchLoader(dataset, self.workload.batch_size, True, self.threads)
            loader.set_epoch(epoch)
            for batch in itertools.islice(loader, quarter):
                yield Batch(batch["image"], batch["bboxes"], batch["image_path"])

    def run(self, folder: Path) -> int:
        """Read the first quarter of an epoch; return the number of samples."""
        self._epoch += 1
        return sum(self.read(self._epoch))


class FsspecRanges(Reader):
    """fsspec's `cat_ranges`, which has all rows of a batch in flight; images only."""

    name = "URL, fsspec.cat_ranges, images only"
    files = "npz"

    def __init__(self, workload: Workload, url: str) -> None:
        super().__init__(workload)
        self.url = url

    def open(self, folder: Path) -> None:
        """Connect, and find the images in the file."""
        import fsspec

        from processing.npz.mapped import MappedNPZ

        self._files = fsspec.filesystem("http")
        _, self._begin = MappedNPZ(self.workload.data).file_of("images")

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the bytes of one epoch."""
        row = 3 * self.workload.size**2
        for indices in self.workload.batches(epoch):
            starts = (indices * row + self._begin).tolist()
            ends = [start + row for start in starts]
            yield Batch(self._files.cat_ranges([self.url] * len(starts), starts, ends), None, None)

    def check(self, data: Path, folder: Path) -> None:
        """Compare nothing: there are neither boxes nor paths."""


def contenders(local: Workload, served: Workload, url: str) -> list[Reader]:
    """Return all readers: of the local file, and of the file that is served."""
    return [
        Local(local, 1),
        Remote(served, url, 0),
        Remote(served, url, 1),
        Remote(served, url, 2),
        Remote(served, url, 1, shuffle=False),
        FsspecRanges(served, url),
    ]


def table(measured: dict[str, Result]) -> str:
    """Return the rates for one size, as shares of the local disk and of LIMIT."""
    limit = IN_FLIGHT / DELAY
    rows = []
    for name, result in measured.items():
        if result.problem is not None:
            rows.append([name, result.problem])
            continue
        rates = results.rates(result)
        local = measured[LOCAL]
        share = "-"
        if local.problem is None:
            share = results.median_and_range(results.ratios(result.passes, local.passes), ".2f")
        rows.append(
            [
                name,
                results.median_and_range(rates, ",.0f"),
                share,
                ""
                if name == LOCAL
                else results.median_and_range([r / limit for r in rates], ".2f"),
                f"{results.cpu_per_10_000(result):.2f}",
            ]
        )
    heads = ["reader", "samples/s", "of the local disk", "of LIMIT", "CPU s per 10,000 samples"]
    return results.markdown_table(heads, rows)


def tables(measured: dict[int, dict[str, Result]]) -> str:
    """Return a table for each size."""
    return "\n".join(
        f"### {SAMPLES_OF_SIZE[size]:,} images of {size}x{size} from a URL\n\n{table(one)}"
        for size, one in measured.items()
    )


def section(saved: dict[str, Any], measured: dict[int, dict[str, Result]]) -> str:
    """Return the section of the page."""
    return "\n".join(
        [
            "## From a URL\n",
            "Written by `python -m benchmarks.remote --write-docs`. Batches of 64, by requests to a"
            f" web server of this machine that answers {DELAY * 1000:.0f} ms late. LIMIT is one row"
            f" for each of {IN_FLIGHT} requests in {DELAY * 1000:.0f} ms:"
            f" {IN_FLIGHT / DELAY:,.0f} rows/s. The local file is dropped from the page cache"
            " before each pass."
            f" {results.most_passes([*measured.values()])} interleaved passes: median (minimum to"
            " maximum); ratios are formed within a pass. In the stored order, the rows of a batch"
            " are neighbours, and are read by two requests.\n",
            tables(measured),
            f"Machine: {saved['machine']}. Versions: {saved['versions']}.",
        ]
    )


def _measure(work: Path, size: int, passes: int) -> dict[str, Result]:
    """Serve a file of images of one size, and measure all readers."""
    workload = Workload.below(work, SAMPLES_OF_SIZE[size], size)
    write_samples(workload)
    folder = workload.data.parent
    # A copy, because the file of the local reader is dropped from the page cache.
    served = replace(workload, data=folder / "served" / workload.data.name)
    served.data.parent.mkdir(exist_ok=True)
    shutil.copy(workload.data, served.data)
    with serving(served.data.parent, DELAY) as url:
        readers = contenders(workload, served, f"{url}/{served.data.name}")
        return measure(readers, data=workload.data, work=folder, passes=passes)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables, and update the page if asked to."""
    parser = results.argument_parser("remote", __doc__)
    results.add_passes(parser)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    saved_file = options.work / "results.json"
    if not options.from_saved:
        results.save(
            saved_file,
            machine=results.machine(options.work),
            versions=results.versions(PACKAGES),
            sizes={size: _measure(options.work, size, options.passes) for size in SAMPLES_OF_SIZE},
        )
    saved = json.loads(saved_file.read_text())
    measured = results.load_by_size(saved)
    print(tables(measured))
    if options.write_docs:
        results.write_section(results.DOCS / "benchmarks.md", "remote", section(saved, measured))


if __name__ == "__main__":
    main()
