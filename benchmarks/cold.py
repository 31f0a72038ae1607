"""`python -m benchmarks.cold`: reading a file of which nothing is in memory yet.

Each pass begins a shuffled epoch in batches of 64 and is broken off after a quarter of the file, as
long as the file is still cold: it was dropped from the page cache just before. Opening and starting
worker processes count. The yardstick is fio: random reads as large as an image, 8 at a time, past
the page cache, by its own clock. Linux only; what caches below a virtual disk cannot be dropped
from here and helps all alike.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import mmap
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks import results
from benchmarks.contenders.reader import Batch, Reader, Workload
from benchmarks.harness import ContenderError, ContenderProcess, Pass, Result
from benchmarks.reading import write_samples

FIO: Final = "fio, 8 direct reads at a time"
SAMPLES: Final = {128: 80_000, 256: 20_000}
"""Samples by height and width: 3.9 GB each."""

_MOST_SECONDS: Final = 10.0
"""For a pass of a slow contender."""

_log = logging.getLogger(__name__)


class _ColdReader(Reader):
    """Opens the file in each pass and leaves none of it mapped: mapped pages cannot be dropped."""

    files = "npz"

    def open(self, folder: Path) -> None:
        """Nothing: `batches` opens the file."""

    def make_ready(self, folder: Path) -> None:
        """Nothing: what is in memory is dropped in each pass."""

    def run(self, folder: Path) -> int:
        """Reads the first quarter of an epoch."""
        self._epoch += 1
        samples, start = 0, time.perf_counter()
        for batch in self.batches(self._epoch):
            samples += len(batch.images)
            late = time.perf_counter() - start > self.workload.most_seconds
            if late or samples >= self.workload.samples // 4:
                break
        return samples


class MappedImages(_ColdReader):
    """Copies each batch out of the mapped file and leaves the rest to the system."""

    name = "np.take from the map"

    def batches(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch."""
        from processing import LazyNPZDataset

        with LazyNPZDataset(self.workload.data) as dataset:
            for indices in self.workload.batches(epoch):
                bboxes, paths = dataset.bboxes, dataset.image_paths[indices]
                assert bboxes is not None
                images = np.take(dataset.images, indices, axis=0, mode="clip")
                yield Batch(images, [bboxes[index] for index in indices], paths)


class Threads(_ColdReader):
    """BatchLoader."""

    ordered = False

    def __init__(self, workload: Workload, threads: int) -> None:
        super().__init__(workload)
        self.threads = threads
        self.name = f"BatchLoader, {threads} thread{'s' * (threads > 1)}"

    def batches(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch."""
        from processing import BatchLoader, LazyNPZDataset

        with LazyNPZDataset(self.workload.data) as dataset:
            loader = BatchLoader(dataset, self.workload.batch_size, True, self.threads)
            loader.set_epoch(epoch)
            yield from map(_as_batch, loader)


class Processes(_ColdReader):
    """The same dataset in torch's DataLoader, with workers forked in each pass."""

    ordered = False
    name = "DataLoader, 2 processes"

    def batches(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch."""
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
    """Measures, prints, and writes what it is asked to."""
    parser = results.argument_parser("cold", __doc__)
    parser.add_argument("--sizes", type=int, nargs="+", choices=list(SAMPLES), default=[*SAMPLES])
    parser.add_argument("--passes", type=int, default=5)
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
    by_size = {int(size): results.load_results(of) for size, of in saved["sizes"].items()}
    print("\n".join(tables(by_size)))
    if options.write_docs:
        results.write_section(results.DOCS / "benchmarks.md", "cold", _section(saved, by_size))


def _measure_size(size: int, work: Path, passes: int) -> dict[str, Result]:
    folder = work / str(size)
    folder.mkdir(parents=True, exist_ok=True)
    workload = Workload(folder / "samples.npz", SAMPLES[size], size, most_seconds=_MOST_SECONDS)
    write_samples(workload)
    readers = [
        MappedImages(workload),
        Threads(workload, 1),
        Threads(workload, 2),
        Processes(workload),
    ]
    return measure_cold(readers, workload, folder, passes=passes)


def tables(by_size: dict[int, dict[str, Result]]) -> Iterator[str]:
    """A heading and a table for each size."""
    for size, of_size in by_size.items():
        rows = [[name, *_cells(result, of_size[FIO], size)] for name, result in of_size.items()]
        heads = ["", "samples/s", "MB/s", "of fio", "CPU s per 10,000"]
        yield f"### {SAMPLES[size]:,} images of {size}x{size}\n"
        yield results.markdown_table(heads, rows)


def _cells(result: Result, reference: Result, size: int) -> list[str]:
    """Medians and ranges; ratios are those of each round."""
    if result.problem is not None:
        return [result.problem]
    rates = [one.rate for one in result.passes]
    ratio = "-"
    if reference.problem is None:
        ratio = results.median_and_range(results.ratios(result.passes, reference.passes), ".2f")
    cpu = statistics.median(1e4 * one.cpu_seconds / one.samples for one in result.passes)
    megabytes = statistics.median(rates) * 3 * size**2 / 1e6
    return [results.median_and_range(rates, ",.0f"), f"{megabytes:,.0f}", ratio, f"{cpu:.2f}"]


def _section(saved: dict[str, Any], by_size: dict[int, dict[str, Result]]) -> str:
    passes = max(len(result.passes) for of in by_size.values() for result in of.values())
    return "\n".join(
        [
            "## Cold files\n",
            "`python -m benchmarks.cold --write-docs` made this section. Each pass begins a"
            " shuffled epoch, in batches of 64, of a file that was just dropped from the page cache"
            " (which is checked), and is broken off after a quarter of the file or"
            f" {_MOST_SECONDS:.0f} s. Opening and starting workers count. fio: random reads as"
            " large as an image, 8 at a time, direct, by libaio, by fio's own clock. What caches"
            f" below a virtual disk stays as it is. {passes} interleaved passes: median (least to"
            " greatest); ratios are formed within a round.\n",
            *tables(by_size),
            f"Machine: {saved['machine']}. Versions: {saved['versions']}.",
        ]
    )


def measure_cold(
    readers: Sequence[Reader], workload: Workload, work: Path, *, passes: int
) -> dict[str, Result]:
    """Measures readers and fio, interleaved, each pass on a file that is not in memory.

    Args:
        readers: each checked first, then measured in a process of its own.
        workload: what they read.
        work: directory for their output.
        passes: of each.

    Returns:
        By name, fio first.
    """
    measured = {name: Result() for name in [FIO, *(reader.name for reader in readers)]}
    (work / _ColdReader.files).mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        processes: dict[str, ContenderProcess] = {}
        for reader in readers:
            with _reported(measured[reader.name]):
                process = stack.enter_context(ContenderProcess(reader, workload.data, work))
                process.call("check")
                process.pause()
                processes[reader.name] = process
        for number in range(passes):
            with _reported(measured[FIO]):
                drop(workload.data)
                measured[FIO].passes.append(fio(workload))
            for name, process in processes.items():
                if measured[name].problem is None:
                    with _reported(measured[name]):
                        drop(workload.data)
                        measured[name].passes.append(process.timed_pass())
            _log.info("pass %d of %d is done", number + 1, passes)
    return measured


@contextlib.contextmanager
def _reported(result: Result) -> Iterator[None]:
    try:
        yield
    except ContenderError as error:
        result.problem = str(error)
        _log.warning("%s", error)


def fio(workload: Workload) -> Pass:
    """Has fio read as much as one pass.

    Raises:
        ContenderError: it is not installed, or fails.
    """
    if shutil.which("fio") is None:
        raise ContenderError("not installed (fio)")
    row_bytes = 3 * workload.size**2
    options = {
        "name": "cold",
        "filename": str(workload.data.absolute()).replace(":", "\\:"),
        "ioengine": "libaio",
        "direct": 1,
        "iodepth": 8,
        "rw": "randread",
        "bs": row_bytes,
        "size": row_bytes * workload.samples,
        "io_size": row_bytes * (workload.samples // 4),
        "randrepeat": 0,
        "output-format": "json",
    }
    command = ["fio", "--readonly", *(f"--{key}={value}" for key, value in options.items())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ContenderError(f"fio: {(done.stderr or done.stdout).strip()[:300]}")
    job = json.loads(done.stdout[done.stdout.index("{") :])["jobs"][0]
    seconds = job["read"]["runtime"] / 1000
    cpu_seconds = (job["usr_cpu"] + job["sys_cpu"]) / 100 * seconds
    return Pass(job["read"]["total_ios"], seconds, cpu_seconds)


def drop(path: Path) -> None:
    """Drops a file from the page cache.

    Raises:
        ContenderError: some of it is still there.
    """
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    left = int(in_memory(path).sum())
    if left:
        raise ContenderError(f"{path}: {left} pages stay in memory: is it open in some program?")


def in_memory(path: Path) -> NDArray[np.bool_]:
    """Which pages of a file, which is not empty and our own, are in memory."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        data = np.frombuffer(mapped, np.uint8)
        pages = np.zeros(-(-len(data) // mmap.PAGESIZE), np.uint8)
        libc = ctypes.CDLL(None, use_errno=True)
        address, length = ctypes.c_void_p(data.ctypes.data), ctypes.c_size_t(len(data))
        del data  # the map cannot be closed while it is viewed
        if libc.mincore(address, length, ctypes.c_void_p(pages.ctypes.data)):
            raise OSError(ctypes.get_errno(), "mincore", str(path))
    return (pages & 1).astype(bool)


if __name__ == "__main__":
    main()
