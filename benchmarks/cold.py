"""``python -m benchmarks.cold``: reads a file that is not in the page cache.

The file is dropped from the page cache before each pass. A pass is the beginning of a shuffled
epoch in batches of 64. It stops after a quarter of the file, because readahead would have brought
much of the rest into memory by then.
Opening the file and starting worker processes count. The reference is fio: random reads of the size
of an image, 8 at a time, past the page cache, by its own clock. Readahead has far more requests in
flight, which some disks serve more slowly; fio with 32 at a time shows whether this one does. The
bound of a memory map is fio through the page cache: filling the cache costs CPU time. Linux only.
Caches below a virtual disk cannot be dropped from here; they help all contenders alike.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks import results
from benchmarks.contenders.reader import Batch, Reader, Workload, counted
from benchmarks.harness import ContenderError, ContenderProcess, Pass, Result
from benchmarks.page_cache import StaysInMemoryError, drop
from benchmarks.reading import write_samples

FIO: Final = "fio, 8 direct reads at a time"
FIO_OPTIONS: Final[dict[str, dict[str, str | int]]] = {
    FIO: {"ioengine": "libaio", "direct": 1, "iodepth": 8},
    "fio, 32 direct reads at a time": {"ioengine": "libaio", "direct": 1, "iodepth": 32},
    "fio, 8 threads, page cache": {
        **{"ioengine": "psync", "direct": 0, "invalidate": 0},
        **{"numjobs": 8, "thread": 1, "group_reporting": 1},
    },
}
"""Ways in which fio reads the file; the first one is the reference."""

SAMPLES: Final = {128: 80_000, 256: 20_000}
"""Number of samples by image size: 3.9 GB each."""

_MOST_SECONDS: Final = 10.0
"""Longest pass; a slow contender stops before a quarter of the file."""

_log = logging.getLogger(__name__)


class _ColdReader(Reader):
    """Opens and closes the file in each pass, because mapped pages cannot be dropped."""

    files = "npz"

    def open(self, folder: Path) -> None:
        """Do nothing: `batches` opens the file."""

    def make_ready(self, folder: Path) -> None:
        """Do nothing: the file must not be read before the pass."""

    def run(self, folder: Path) -> int:
        """Read the first quarter of an epoch; return the number of samples."""
        self._epoch += 1
        samples, start = 0, time.perf_counter()
        for batch in self.batches(self._epoch):
            samples += len(batch.images)
            late = time.perf_counter() - start > self.workload.most_seconds
            if late or samples >= self.workload.samples // 4:
                break
        return samples


class MappedImages(_ColdReader):
    """Copies each batch from the mapped file and leaves readahead to the system."""

    name = "np.take from the map"

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of one epoch."""
        from processing import LazyNPZDataset

        with LazyNPZDataset(self.workload.data) as dataset:
            for indices in self.workload.batches(epoch):
                bboxes, paths = dataset.bboxes, dataset.image_paths[indices]
                assert bboxes is not None
                images = np.take(dataset.images, indices, axis=0, mode="clip")
                yield Batch(images, [bboxes[index] for index in indices], paths)


class Threads(_ColdReader):
    """`BatchLoader`."""

    ordered = False

    def __init__(self, workload: Workload, threads: int) -> None:
        super().__init__(workload)
        self.threads = threads
        self.name = f"BatchLoader, {counted(threads, 'thread')}"

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of one epoch."""
        from processing import BatchLoader, LazyNPZDataset

        with LazyNPZDataset(self.workload.data) as dataset:
            loader = BatchLoader(dataset, self.workload.batch_size, True, self.threads)
            loader.set_epoch(epoch)
            yield from map(_as_batch, loader)


class Processes(_ColdReader):
    """The same dataset in torch's DataLoader, whose workers are forked in each pass."""

    ordered = False
    name = "DataLoader, 2 processes"

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of one epoch."""
        import torch
        from torch.utils.data import DataLoader

        from processing import LazyNPZDataset

        with LazyNPZDataset(self.workload.data) as dataset:
            generator = torch.Generator().manual_seed(epoch)
            loader = DataLoader(
                dataset,
                batch_size=self.workload.batch_size,
                shuffle=True,
                num_workers=2,
                generator=generator,
                multiprocessing_context="fork",
            )
            yield from map(_as_batch, loader)


def _as_batch(batch: dict[str, Any]) -> Batch:
    return Batch(batch["image"], batch["bboxes"], batch["image_path"])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables, and update the page if asked to."""
    parser = results.argument_parser("cold", __doc__)
    results.add_sizes(parser, SAMPLES)
    results.add_passes(parser)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    saved_file = options.work / "results.json"
    if not options.from_saved:
        measured = {
            size: _measure_size(size, options.work, options.passes) for size in options.sizes
        }
        results.save(
            saved_file,
            machine=results.machine(options.work),
            versions=results.versions(["numpy", "torch"]),
            sizes=measured,
        )
    saved = json.loads(saved_file.read_text())
    by_size = results.load_by_size(saved)
    print("\n".join(tables(by_size)))
    if options.write_docs:
        results.write_section(results.DOCS / "benchmarks.md", "cold", _section(saved, by_size))


def _measure_size(size: int, work: Path, passes: int) -> dict[str, Result]:
    workload = Workload.below(work, SAMPLES[size], size, most_seconds=_MOST_SECONDS)
    write_samples(workload)
    readers = [
        MappedImages(workload),
        *(Threads(workload, threads) for threads in (0, 1, 2)),
        Processes(workload),
    ]
    return measure_cold(readers, workload, workload.data.parent, passes=passes)


def tables(by_size: dict[int, dict[str, Result]]) -> Iterator[str]:
    """Yield a heading and a table for each size."""
    for size, of_size in by_size.items():
        rows = [[name, *_cells(result, of_size[FIO], size)] for name, result in of_size.items()]
        heads = ["reader", "samples/s", "MB/s", "ratio to fio", "CPU s per 10,000 samples"]
        yield f"### {SAMPLES[size]:,} images of {size}x{size}\n"
        yield results.markdown_table(heads, rows)


def _cells(result: Result, reference: Result, size: int) -> list[str]:
    """Return the cells of one row: medians and ranges; ratios are formed within a pass."""
    if result.problem is not None:
        return [result.problem]
    ratio = "-"
    if reference.problem is None:
        ratio = results.median_and_range(results.ratios(result.passes, reference.passes), ".2f")
    rates = results.rates(result)
    megabytes = statistics.median(rates) * 3 * size**2 / 1e6  # 3 bytes per pixel
    return [
        results.median_and_range(rates, ",.0f"),
        f"{megabytes:,.0f}",
        ratio,
        f"{results.cpu_per_10_000(result):.2f}",
    ]


def _section(saved: dict[str, Any], by_size: dict[int, dict[str, Result]]) -> str:
    passes = results.most_passes(by_size.values())
    return "\n".join(
        [
            "## Cold files\n",
            "Written by `python -m benchmarks.cold --write-docs`. Each pass is the beginning of a"
            " shuffled epoch, in batches of 64, of a file that was just dropped from the page cache"
            " (this is checked); it stops after a quarter of the file or"
            f" {_MOST_SECONDS:.0f} s. Opening the file and starting workers count. fio: random"
            " reads of the size of an image, by fio's own clock. Through the page cache, which"
            " every memory map fills, they cost far more CPU time than past it. Caches below a"
            f" virtual disk are not dropped. {passes} interleaved passes: median (minimum to"
            " maximum); ratios are formed within a pass.\n",
            *tables(by_size),
            f"Machine: {saved['machine']}. Versions: {saved['versions']}.",
        ]
    )


def measure_cold(
    readers: Sequence[Reader], workload: Workload, work: Path, *, passes: int
) -> dict[str, Result]:
    """Measure fio and readers in turns, each pass on a file that is not in memory.

    Args:
        readers: each is checked first, then measured in a process of its own.
        workload: the file and its samples.
        work: directory for the output of the readers.
        passes: measured passes of each reader.

    Returns:
        The results by name, those of fio first.
    """
    measured = {name: Result() for name in FIO_OPTIONS}
    for reader in readers:
        measured[reader.name] = Result()
    (work / _ColdReader.files).mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        processes: dict[str, ContenderProcess] = {}
        for reader in readers:
            with _reported(measured[reader.name]):
                process = stack.enter_context(ContenderProcess(reader, workload.data, work))
                process.call("check")  # reads the file: it is dropped before the first pass
                process.pause()
                processes[reader.name] = process
        for number in range(passes):
            for name in FIO_OPTIONS:
                with _reported(measured[name]):
                    drop(workload.data)
                    measured[name].passes.append(fio(workload, name))
            for name, process in processes.items():
                if measured[name].problem is None:
                    with _reported(measured[name]):
                        drop(workload.data)
                        measured[name].passes.append(process.timed_pass())
            _log.info("pass %d of %d is done", number + 1, passes)
    return measured


@contextlib.contextmanager
def _reported(result: Result) -> Iterator[None]:
    """Turn the failure of a contender into its result, so that the others go on."""
    try:
        yield
    except (ContenderError, StaysInMemoryError) as error:
        result.problem = str(error)
        _log.warning("%s", error)


def fio(workload: Workload, name: str = FIO) -> Pass:
    """Let fio read as much as one pass of a reader.

    Args:
        workload: the file and its samples.
        name: of its options.

    Raises:
        ContenderError: fio is not installed, or it fails.
    """
    if shutil.which("fio") is None:
        raise ContenderError("not installed (fio)")
    row_bytes = 3 * workload.size**2
    of_name = FIO_OPTIONS[name]
    reads = workload.samples // 4 // int(of_name.get("numjobs", 1))
    options = {
        **of_name,
        "name": "cold",
        # fio separates several file names by colons.
        "filename": str(workload.data.absolute()).replace(":", "\\:"),
        "rw": "randread",
        "bs": row_bytes,
        "size": row_bytes * workload.samples,
        "io_size": row_bytes * reads,  # of each thread
        "randrepeat": 0,  # other reads in each pass, as for the readers
        "output-format": "json",
    }
    command = ["fio", "--readonly", *(f"--{key}={value}" for key, value in options.items())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ContenderError(f"fio: {(done.stderr or done.stdout).strip()[:300]}")
    # fio may print notes before the JSON.
    job = json.loads(done.stdout[done.stdout.index("{") :])["jobs"][0]
    seconds = job["read"]["runtime"] / 1000
    # Its shares are of the time of all threads together.
    cpu_seconds = (job["usr_cpu"] + job["sys_cpu"]) / 100 * job["job_runtime"] / 1000
    return Pass(job["read"]["total_ios"], seconds, cpu_seconds)


if __name__ == "__main__":
    main()
