"""SparseFile: a local file with holes. It is mapped, and filled while it is mapped."""

from __future__ import annotations

import mmap
import os
import tempfile
import threading
import weakref
from pathlib import Path
from typing import Any, Final

from processing.core.error_notes import with_filename

_BINARY: Final = getattr(os, "O_BINARY", 0)  # Windows would change line ends


class SparseFile:
    """A file of a given length. Bytes that were never written are zeros and take no space.

    Safe from several threads and across fork. Holds one descriptor until it is garbage-collected.

    Args:
        size: bytes.
        path: of the file. It may exist with the same content. None: a file without a name.

    Attributes:
        file: its descriptor.
    """

    def __init__(self, size: int, path: Path | None = None) -> None:
        self._place = tempfile.gettempdir() if path is None else path
        if path is None:
            with tempfile.TemporaryFile(prefix="npz-") as scratch:
                self.file = os.dup(scratch.fileno())
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.file = os.open(path, os.O_RDWR | os.O_CREAT | _BINARY, 0o600)
        weakref.finalize(self, os.close, self.file)
        os.ftruncate(self.file, size)
        self._lock = threading.Lock()

    def write(self, begin: int, data: Any) -> None:
        """Writes bytes at a place.

        Args:
            begin: of the place.
            data: an object with the buffer protocol.

        Raises:
            OSError: the disk is full, for example; names the file, or the directory.
        """
        left = memoryview(data).cast("B")
        while left:
            with with_filename(self._place):
                written = self._write(left, begin)
            left, begin = left[written:], begin + written

    def _write(self, data: memoryview, begin: int) -> int:
        if hasattr(os, "pwrite"):
            return os.pwrite(self.file, data, begin)
        with self._lock:  # threads share the position
            os.lseek(self.file, begin, os.SEEK_SET)
            return os.write(self.file, data)

    def map(self) -> mmap.mmap:
        """Returns a read-only map that sees all later writes."""
        return mmap.mmap(self.file, 0, access=mmap.ACCESS_READ)
