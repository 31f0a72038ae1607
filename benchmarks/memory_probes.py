"""Functions that `benchmarks.memory` calls in fresh processes.

Each imports only what it measures, inside the function: an import takes memory as well.
"""

from __future__ import annotations

import os
import pickle
import statistics
import time
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from benchmarks.process_tree import process_tree, tree_memory

STORED_SIDE: Final = 64
_BATCH: Final = 64
_BATCHES_BETWEEN_LOOKS: Final = 1000


def process(raw: Path, output: Path) -> int:
    """Process a raw directory for all tasks; return the number of rows of the detector's files."""
    from processing import DataProcessor

    processor = DataProcessor(raw, output, image_size=STORED_SIDE, progress=False)
    report = processor.process_all()
    return sum(file.rows for file in report.files if "detector" in file.path.name)


class Opening(NamedTuple):
    """Costs of opening a file: times in seconds, memory and pickled size in bytes."""

    first: float
    again: float
    memory: int
    batch: float
    shuffled_batch: float
    pickled: int


def open_file(path: Path) -> Opening:
    """Open a file and read a batch of it."""
    from processing import BatchLoader, LazyNPZDataset

    before = start_of_growth()
    # The first opening of a process is slower: it also initialises what later ones reuse.
    first, dataset = _timed(lambda: LazyNPZDataset(path))
    # Right after the first opening: later steps would raise the peak.
    memory = status("VmHWM") - before
    again = [_timed(lambda: LazyNPZDataset(path))[0] for _ in range(20)]
    rows = np.random.default_rng(0).integers(0, len(dataset), _BATCH)
    batch, _ = _timed(lambda: dataset.get_batch(rows.tolist()))
    shuffled, _ = _timed(lambda: next(iter(BatchLoader(dataset, _BATCH, shuffle=True))))
    pickled = len(pickle.dumps(dataset))
    return Opening(first, statistics.median(again), memory, batch, shuffled, pickled)


def _timed(function: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def start_of_growth() -> int:
    """Reset the peak of this process's memory; return its present memory in bytes."""
    Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets VmHWM
    return status("VmRSS")


def status(name: str) -> int:
    """Return a size from ``/proc/self/status`` in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise KeyError(name)


class Epoch(NamedTuple):
    """Costs of reading one epoch.

    Args:
        rows: number of rows that were read.
        seconds: time of the whole epoch.
        before: private memory that was written, in bytes, after the first batch of every reader.
        peak: largest such memory during the epoch, in bytes.
        cached: largest size of file pages that only one reader maps, in bytes; they belong to the
            page cache.
    """

    rows: int
    seconds: float
    before: int
    peak: int
    cached: int


def read_by_processes(path: Path, readers: int) -> Epoch:
    """Read an epoch with a DataLoader and worker processes."""
    from torch.utils.data import DataLoader

    from processing import LazyNPZDataset

    dataset = LazyNPZDataset(path)
    # This process was spawned, so its default is spawning; in a user's program it is forking.
    loader: Iterable[Any] = DataLoader(
        dataset, _BATCH, shuffle=True, num_workers=readers, multiprocessing_context="fork"
    )
    return _epoch(loader, readers, lambda: process_tree(os.getpid())[1:])


def read_by_threads(path: Path, readers: int) -> Epoch:
    """Read an epoch with a BatchLoader and threads."""
    from processing import BatchLoader, LazyNPZDataset

    loader = BatchLoader(LazyNPZDataset(path), _BATCH, shuffle=True, num_workers=readers)
    return _epoch(loader, readers, lambda: [os.getpid()])


def _epoch(loader: Iterable[Any], readers: int, pids: Callable[[], list[int]]) -> Epoch:
    start = time.perf_counter()
    batches = iter(loader)
    rows = sum(len(batch["image"]) for batch in islice(batches, readers))
    before, cached = private(pids())
    peak = before
    for number, batch in enumerate(batches):
        rows += len(batch["image"])
        if number % _BATCHES_BETWEEN_LOOKS == 0:  # a look walks page tables, which takes time
            own, pages = private(pids())
            peak, cached = max(peak, own), max(cached, pages)
    return Epoch(rows, time.perf_counter() - start, before, peak, cached)


def private(pids: Iterable[int]) -> tuple[int, int]:
    """Return the private bytes of processes: (memory that was written, pages of files)."""
    dirty = clean = 0
    for pid in pids:
        memory = tree_memory(pid)
        dirty, clean = dirty + memory["Private_Dirty"], clean + memory["Private_Clean"]
    return dirty, clean


class Parsing(NamedTuple):
    """Costs of reading annotations: times in seconds, memory in bytes."""

    images: int
    boxes: int
    listing: float
    seconds: float
    cpu_seconds: float
    memory: int


def parse(folder: Path) -> Parsing:
    """Read the annotations of a raw directory."""
    from processing.sources import read_sources
    from processing.sources.raw_directory import RawDirectory

    listing, _ = _timed(lambda: RawDirectory(folder))
    before, cpu = start_of_growth(), time.process_time()
    seconds, reading = _timed(lambda: read_sources(folder))
    cpu = time.process_time() - cpu
    table = reading.table
    grown = status("VmHWM") - before
    return Parsing(len(table), len(table.boxes), listing, seconds, cpu, grown)
