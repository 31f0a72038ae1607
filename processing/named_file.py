"""NamedFile: a binary file whose errors name it, which those of Python's own files do not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from processing.error_notes import naming
from processing.errors import InterferenceError

try:
    import fcntl
except ImportError:  # Windows keeps others from removing an open file by itself
    fcntl = None  # type: ignore[assignment]  # a module elsewhere


class NamedFile:
    """A file opened for binary reading or writing; the methods are those of Python's files.

    Args:
        path: the file.
        mode: as for `open`.

    Raises:
        OSError: from every method, with the path as its `filename`.
    """

    def __init__(self, path: Path, mode: str) -> None:
        self.path = path
        with naming(path):
            self._file: Any = path.open(mode)  # buffered; for reading, writing, or both

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; fewer only at the end of the file."""
        with naming(self.path):
            content: bytes = self._file.read(size)
        return content

    def write(self, content: bytes | memoryview) -> None:
        """Writes all of it."""
        with naming(self.path):
            self._file.write(content)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Goes to a position, which it returns."""
        with naming(self.path):
            position: int = self._file.seek(offset, whence)
        return position

    def tell(self) -> int:
        """The position."""
        with naming(self.path):
            position: int = self._file.tell()
        return position

    def truncate(self, size: int | None = None) -> None:
        """Cuts the file, or lengthens it, to `size`; None: to the position."""
        with naming(self.path):
            self._file.truncate(size)

    def sync(self) -> None:
        """Makes all that was written durable."""
        with naming(self.path):
            self._file.flush()
            os.fsync(self._file.fileno())

    def lock(self) -> None:
        """Keeps every other process from locking the file while it is open here.

        Raises:
            InterferenceError: another process does so.
        """
        if fcntl is None:
            return  # type: ignore[unreachable]  # where types are checked, it is there
        try:
            with naming(self.path):
                fcntl.flock(self._file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InterferenceError(
                f"{self.path}: another process is writing it, although this one holds the lock of "
                "that directory: was a lock file deleted? Wait for that process, or stop it"
            ) from error

    def close(self) -> None:
        """Closes the file; what is still in its buffer is written first."""
        with naming(self.path):
            self._file.close()
