"""What the page cache holds of a file: dropping it, reading it in sequence, looking at it.

The time of a random access depends on the size of the cached pages. Pages left by a writer are as
small as its writes, those of a sequential read are large. So the result of a benchmark depends on
how its files came into the cache. Linux only.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class StaysInMemoryError(RuntimeError):
    """Pages of a file could not be dropped from the page cache."""


def files_below(folder: Path) -> list[Path]:
    """Return the files of a folder that are not empty, at any depth."""
    return [file for file in folder.rglob("*") if file.is_file() and file.stat().st_size]


def write_back(file: Path) -> None:
    """Wait until the disk has the content of a file."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def drop(file: Path) -> None:
    """Drop a file from the page cache.

    Raises:
        StaysInMemoryError: some pages of the file are still in memory.
    """
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)  # pages that are not written yet cannot be dropped
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
    left = int(in_memory(file).sum())
    if left:
        raise StaysInMemoryError(
            f"{file}: {left} pages stay in memory: is it open in some program?"
        )


def read_in_sequence(file: Path) -> None:
    """Read a file from its beginning to its end, so that the page cache holds it."""
    with file.open("rb", buffering=0) as stream:
        while stream.read(1 << 20):
            pass


def in_memory(file: Path) -> NDArray[np.bool_]:
    """Return for each page of a file whether it is in memory.

    The file must not be empty, and must belong to this user: the kernel hides other users' pages.
    """
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as map_:
        data = np.frombuffer(map_, np.uint8)
        pages = np.zeros(-(-len(data) // mmap.PAGESIZE), np.uint8)
        libc = ctypes.CDLL(None, use_errno=True)
        address, length = ctypes.c_void_p(data.ctypes.data), ctypes.c_size_t(len(data))
        del data  # a map with a view on it cannot be closed
        if libc.mincore(address, length, ctypes.c_void_p(pages.ctypes.data)):
            raise OSError(ctypes.get_errno(), "mincore", str(file))
    return (pages & 1).astype(bool)
