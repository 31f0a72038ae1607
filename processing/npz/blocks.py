"""BlockFile: collects small writes into large ones that end at multiples of 2 MiB of the file.

The page cache keeps a file in pieces as large as the aligned writes that made it. A piece of 2 MiB
is mapped by one page fault and found by one entry of the processor's address cache. Rows written
one by one make small pieces, and the first epoch through the file takes a page fault for each.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from processing.core.files import open_exclusively, open_own, sync

PIECE: Final = 2 << 20
"""Bytes of the largest piece that Linux keeps in the page cache."""
BLOCK: Final = 4 << 20
"""Most bytes of one write; a multiple of `PIECE`."""

_MOST_PARTS: Final = 512
"""Parts of one write; POSIX systems allow 1,024, some fewer. More are joined first."""


class BlockFile:
    """A file that is written in blocks of up to 4 MiB. Used by one thread at a time.

    A write that continues the one before it is collected with it. A full block is written at once,
    and the next one begins at a multiple of 2 MiB of the file. If a write fails, the block is kept:
    the same call may be repeated. What was flushed is not written again.

    Args:
        path: file to write, created if it does not exist. Links are not followed.

    Raises:
        OSError: from every method; errors of the open file carry no name.
    """

    def __init__(self, path: Path) -> None:
        opened = open_own(path) if path.exists() else open_exclusively(path)
        # The blocks replace Python's buffer, which would write each row by itself.
        self._file = cast("io.BufferedRandom", opened).detach()
        self._begin(0)

    def _begin(self, position: int) -> None:
        """Begins an empty block at a position of the file; it ends at a multiple of `PIECE`."""
        self._position = position
        self._parts: list[memoryview] = []
        self._filled = 0
        self._room = BLOCK - position % PIECE

    def write(self, position: int, data: bytes | NDArray[Any]) -> None:
        """Writes bytes at a position of the file, now or together with later ones.

        Args:
            position: bytes from the start of the file.
            data: bytes or a C-contiguous array. It is not copied and must not change before the
                next flush: a copy would cost a third of the time of writing.
        """
        if position != self._position + self._filled:
            self.flush()
            self._begin(position)
        left = np.frombuffer(data, np.uint8).data
        while left:
            part = left[: self._room - self._filled]
            left = left[len(part) :]
            self._parts.append(part)
            self._filled += len(part)
            if len(self._parts) == _MOST_PARTS:
                self._parts = [memoryview(b"".join(self._parts))]
            if self._filled == self._room:
                self.flush()

    def flush(self) -> None:
        """Hands all collected bytes to the system."""
        self._file.seek(self._position)
        left = self._parts
        while left:
            left = _after(left, _write(self._file, left))  # it writes a part if the disk is full
        self._begin(self._position + self._filled)

    def sync(self) -> None:
        """Makes everything written so far durable."""
        self.flush()
        sync(self._file.fileno())

    def size(self) -> int:
        """Returns the size of the file in bytes."""
        self.flush()
        return self._file.seek(0, os.SEEK_END)

    def truncate(self, size: int) -> None:
        """Cuts the file off at `size` bytes, or extends it with zeros."""
        self.flush()
        self._file.truncate(size)

    def close(self) -> None:
        """Flushes and closes the file; it is closed even if that fails."""
        if self._file.closed:
            return
        try:
            self.flush()
        finally:
            self._file.close()


def _write(file: io.RawIOBase, parts: list[memoryview]) -> int:
    """Writes parts by one call of the system; returns the number of bytes written."""
    if hasattr(os, "writev"):
        return os.writev(file.fileno(), parts)
    return file.write(b"".join(parts)) or 0  # Windows


def _after(parts: list[memoryview], written: int) -> list[memoryview]:
    """Returns the parts without their first bytes, which are written."""
    left = []
    for part in parts:
        if written < len(part):
            left.append(part[written:])
        written = max(0, written - len(part))
    return left
