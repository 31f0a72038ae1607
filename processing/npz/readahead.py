"""Readahead: requests rows of a mapped file from the disk before they are read.

A page fault waits for the disk, for one page or one window around it at a time. If all rows of a
batch are requested beforehand, the system reads them together, and the faults find them in memory
or on their way. The data that is read never changes. Linux only: other systems do not tell a thread
how often it waited for a disk, and nothing happens there.

Measured on one virtual disk (virtio, 8 MiB read-ahead window, 2 cores, November 2026): cold,
shuffled batches of 64 rows of 49,152 and 196,608 bytes; medians of interleaved passes. 1.00 is fio
with direct random reads of one row each, 8 at a time.

- `BatchLoader` reaches 0.90 and 0.81 to 0.89 with 0 workers, 0.85 and 0.76 with 1. Requests 16, 24,
  32 or 48 MiB ahead, of the first batches too, or of whole rows instead of 128 KiB, changed nothing
  (0.82 to 0.91).
- The bound for rows of 196,608 bytes: requests of all rows, which nobody reads, reach 0.78 to 0.84,
  by one thread or two. This disk serves deep queues more slowly, and readahead makes them deep: fio
  itself reaches 0.85 with 32 reads at a time and 0.77 with 128. Only 8, 16 or 64 rows in flight,
  waited for in turn, reach 0.80, 0.86 and 0.78.
- Threads that read rows by `preadv`, 8 of them, reach 0.78 and 0.93 in a bare loop where requests
  one batch of 12 MiB, or three of 3 MiB, ahead reach 0.89 and 0.88. The threads of fio, which do
  not share an interpreter, reach 0.99 with 8 reads through the page cache.
- Without any request, rows of 49,152 bytes reached 0.03 over the first batches.

fio varied by a fifth between passes, so smaller differences are noise.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]  # mypy knows it as a module


def can_advise() -> bool:
    """Whether this system takes advice and tells a thread how often it waited for a disk."""
    return hasattr(os, "posix_fadvise") and hasattr(resource, "RUSAGE_THREAD")


_CAN_ADVISE: Final = can_advise()
# Older C libraries lack this function.
_preadv2 = getattr(ctypes.CDLL(None), "preadv2", None) if _CAN_ADVISE else None

_BYTES_AHEAD: Final = 8 << 20
"""Bytes to request before they are read. In the measurement above, more was not faster."""

_PATIENCE: Final = 64
"""Consecutive requests that find their first row in memory until the file counts as cached."""

_LARGEST_REQUEST: Final = 128 << 10
"""Bytes. Linux shortens a request to the device's read-ahead window (128 KiB by default) or to its
largest transfer, if that is more."""

_RWF_NOWAIT: Final = 8  # linux/fs.h; not in `os` where Python was built with an old C library


def batches_ahead(batch_bytes: int) -> int:
    """Returns how many batches ahead of reading a batch should be requested.

    Args:
        batch_bytes: bytes of a batch in the file.
    """
    return max(1, -(-_BYTES_AHEAD // max(batch_bytes, 1)))


class Readahead:
    """Requests rows of one array in a file; safe from several threads and across fork.

    A request costs a microsecond per row even if all rows are in memory. So requests stop once
    `_PATIENCE` of them in a row found their first row in memory. They start again when a calling
    thread had to wait for a page of any file since its last request, so call `advise` in the
    threads that read. A call that requests nothing costs 2 microseconds.

    Keeps the file open until it is garbage-collected. Reports no errors: reading the rows does.

    Args:
        path: the file.
        start: where the array begins, in bytes.
        row_bytes: bytes of one row; rows follow each other.
    """

    def __init__(self, path: Path, start: int, row_bytes: int) -> None:
        self._start = start
        self._row_bytes = row_bytes
        self._patience = _PATIENCE  # not locked: two threads may lose a count, which is harmless
        self._thread = threading.local()
        self._file = -1
        if _CAN_ADVISE:
            self._file = os.open(path, os.O_RDONLY)
            weakref.finalize(self, os.close, self._file)

    def advise(self, rows: NDArray[np.intp]) -> None:
        """Starts reading rows in the background, unless the file seems to be in memory.

        Args:
            rows: (B,), non-negative; rows beyond the end of the file are ignored.
        """
        if self._may_be_cold():  # first, because it is the shortest when nothing is requested
            starts = rows * self._row_bytes
            self._request(starts, starts + self._row_bytes)

    def advise_spans(self, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> None:
        """Does the same for rows of different lengths.

        Args:
            starts: (B,) where rows begin, in bytes from the start of the array.
            ends: (B,) where they end.
        """
        if self._may_be_cold():
            self._request(starts, ends)

    def _request(self, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> None:
        if len(starts) == 0:
            return
        offsets: list[int] = (starts + self._start).tolist()
        if _in_memory(self._file, offsets[0]):
            self._patience -= 1
        else:
            self._patience = _PATIENCE
        for offset, row_bytes in zip(offsets, (ends - starts).tolist(), strict=True):
            for part in range(0, row_bytes, _LARGEST_REQUEST):
                length = min(_LARGEST_REQUEST, row_bytes - part)
                os.posix_fadvise(self._file, offset + part, length, os.POSIX_FADV_WILLNEED)

    def _may_be_cold(self) -> bool:
        if not _CAN_ADVISE:
            return False
        # Major faults are those that waited for a disk.
        faults = resource.getrusage(resource.RUSAGE_THREAD).ru_majflt
        if faults != getattr(self._thread, "faults", faults):
            self._patience = _PATIENCE
        self._thread.faults = faults
        return self._patience > 0


class _IOVector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def _in_memory(file: int, offset: int) -> bool:
    """Whether a byte can be read without waiting; False if the system cannot say.

    `mincore` would need write permission for the file. `os.preadv` knows this flag only if Python
    was built with a recent C library, so the C function is called directly.
    """
    if _preadv2 is None:
        return False
    byte = ctypes.create_string_buffer(1)
    vector = _IOVector(ctypes.addressof(byte), 1)
    read: int = _preadv2(file, ctypes.byref(vector), 1, ctypes.c_int64(offset), _RWF_NOWAIT)
    return read >= 0
