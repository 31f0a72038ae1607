"""What a process and its descendants use: memory and CPU time, read from /proc. Linux only."""

from __future__ import annotations

import contextlib
import os
import resource
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Self


class PeakMemory:
    """Samples the memory of a process tree while its block runs; `peak` is the greatest, in bytes.

    Counted is the proportional set size without pages of files: those belong to the page cache,
    are not charged to whoever reads files without mapping them, and can be dropped at any time.
    Samples come every 50 ms, or as fast as the kernel gives them.
    """

    def __init__(self, pid: int) -> None:
        self.peak = 0
        self._pid = pid
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peak-memory")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._sample()

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            self._sample()

    def _sample(self) -> None:
        memory = tree_memory(self._pid)
        self.peak = max(self.peak, memory["Pss"] - memory["Pss_File"])


def tree_memory(pid: int) -> Counter[str]:
    """What ``smaps_rollup`` says of a process and its descendants, added up.

    Returns:
        Bytes by the kernel's names: Rss, Pss, Pss_Anon, Pss_File, Private_Dirty, ….
    """
    total: Counter[str] = Counter()
    for member in process_tree(pid):
        # A process may end at any time.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()[1:]:
                name, kibibytes, _ = line.split()
                total[name.removesuffix(":")] += 1024 * int(kibibytes)
    return total


def process_tree(pid: int) -> list[int]:
    """A process and its descendants, as far as they are alive."""
    tree = [pid]
    for member in tree:  # grows meanwhile
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for task in Path(f"/proc/{member}/task").iterdir():
                tree.extend(int(child) for child in (task / "children").read_text().split())
    return tree


def cpu_ticks(pid: int) -> float:
    """CPU seconds of a process tree, children that ended included; in steps of 10 ms."""
    return sum(map(_process_ticks, process_tree(pid)))


def _process_ticks(pid: int) -> float:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def own_cpu_seconds() -> float:
    """CPU seconds of this process and its descendants; of this process itself exactly."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    alive = sum(map(_process_ticks, process_tree(os.getpid())[1:]))
    return time.process_time() + ended.ru_utime + ended.ru_stime + alive
