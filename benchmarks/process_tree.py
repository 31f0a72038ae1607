"""Memory and CPU time of a process and its descendants, read from /proc. Linux only."""

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
    """Samples the memory of a process tree while its block runs; `peak` is the maximum in bytes.

    Memory means the proportional set size without pages of files. Pages of files belong to the page
    cache, can be dropped at any time, and do not count for readers that do not map their files.
    Samples are taken every 50 ms, or as fast as the kernel delivers them.
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
    """Return the sums of ``smaps_rollup`` over a process and its descendants.

    Returns:
        Bytes by the kernel's names: Rss, Pss, Pss_Anon, Pss_File, Private_Dirty, ….
    """
    total: Counter[str] = Counter()
    for member in process_tree(pid):
        total += _smaps_sums(member)
    return total


def _smaps_sums(pid: int) -> Counter[str]:
    """Return the bytes in ``smaps_rollup`` of one process by the kernel's names."""
    sums: Counter[str] = Counter()
    # A process may end at any time.
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, kibibytes, _ = line.split()
            sums[name.removesuffix(":")] = 1024 * int(kibibytes)
    return sums


def huge_pages(pid: int) -> int:
    """Return the bytes of files that a process maps in pages of 2 MiB.

    Of a process and its descendants, the one that maps the most counts: workers map the same files.
    """
    return max((_smaps_sums(member)["FilePmdMapped"] for member in process_tree(pid)), default=0)


def process_tree(pid: int) -> list[int]:
    """Return the ids of a process and of its living descendants."""
    tree = [pid]
    for member in tree:  # the loop appends to the list that it walks
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for task in Path(f"/proc/{member}/task").iterdir():
                tree.extend(int(child) for child in (task / "children").read_text().split())
    return tree


def cpu_ticks(pid: int) -> float:
    """Return the CPU seconds of a process tree and its ended children, in steps of 10 ms."""
    return sum(map(_process_ticks, process_tree(pid)))


def _process_ticks(pid: int) -> float:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        # The name of the program comes first and may contain spaces; utime to cstime follow it.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def busy_cpu_seconds() -> float:
    """Return the CPU seconds that all programs of the machine used since its start."""
    line = Path("/proc/stat").read_text().partition("\n")[0]
    user, nice, system, _, _, interrupts, *_ = map(int, line.split()[1:])
    return (user + nice + system + interrupts) / os.sysconf("SC_CLK_TCK")


def own_cpu_seconds() -> float:
    """Return the CPU seconds of this process and its descendants.

    The share of this process is exact, that of living descendants is in steps of 10 ms.
    """
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    alive = sum(map(_process_ticks, process_tree(os.getpid())[1:]))
    return time.process_time() + ended.ru_utime + ended.ru_stime + alive
