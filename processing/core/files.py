"""Files that are whole under their name or absent, and caches that may be lost.

The order is the one that survives a power cut on POSIX file systems: data, fsync, rename, fsync of
the directory.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from isal.isal_zlib import crc32
from numpy.typing import NDArray

from processing.core.error_notes import with_filename
from processing.core.errors import InterferenceError

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
        with with_filename(path):
            self._file: Any = path.open(mode)  # buffered; for reading, writing, or both

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; fewer only at the end of the file."""
        with with_filename(self.path):
            content: bytes = self._file.read(size)
        return content

    def write(self, content: bytes | memoryview) -> None:
        """Writes all of it."""
        with with_filename(self.path):
            self._file.write(content)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Goes to a position, which it returns."""
        with with_filename(self.path):
            position: int = self._file.seek(offset, whence)
        return position

    def tell(self) -> int:
        """The position."""
        with with_filename(self.path):
            position: int = self._file.tell()
        return position

    def truncate(self, size: int | None = None) -> None:
        """Cuts the file, or lengthens it, to `size`; None: to the position."""
        with with_filename(self.path):
            self._file.truncate(size)

    def sync(self) -> None:
        """Makes all that was written durable."""
        with with_filename(self.path):
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
            with with_filename(self.path):
                fcntl.flock(self._file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InterferenceError(
                f"{self.path}: another process is writing it, although this one holds the lock of "
                "that directory: was a lock file deleted? Wait for that process, or stop it"
            ) from error

    def close(self) -> None:
        """Closes the file; what is still in its buffer is written first."""
        with with_filename(self.path):
            self._file.close()


def make_directory(directory: Path) -> None:
    """Makes a directory and its missing parents, if it is absent, and makes their names durable."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Makes the names in `directory` durable; Windows, which cannot open one, does so itself."""
    if os.name == "nt":
        return
    with with_filename(directory):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_durably(path: Path, content: bytes) -> None:
    """Replaces `path` by `content` atomically, through a sibling named ``NAME.partial``."""
    partial = _partial(path)
    with contextlib.closing(NamedFile(partial, "wb")) as file:
        file.write(content)
        file.sync()
    partial.replace(path)
    sync_directory(path.parent)


def remove_durably(path: Path) -> None:
    """Removes `path`, if it is there, and what a killed `write_durably` left beside it."""
    path.unlink(missing_ok=True)
    _partial(path).unlink(missing_ok=True)
    sync_directory(path.parent)


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


_CHECKSUM_BYTES: Final = 4


def read_cache(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of a cache file, by name; none, and no file, where it is not as it was written."""
    if not path.exists():
        return {}
    try:
        content = path.read_bytes()
    except OSError:
        content = b""
    if content[:_CHECKSUM_BYTES] != _checksum(content[_CHECKSUM_BYTES:]):
        path.unlink()  # it will be made anew
        return {}
    with np.load(io.BytesIO(content[_CHECKSUM_BYTES:]), allow_pickle=False) as stored:
        return dict(stored)


def write_cache(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Replaces a cache file, atomically: a CRC-32 of all that follows, then an NPZ archive."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    content = buffer.getvalue()
    write_durably(path, _checksum(content) + content)


def _checksum(content: bytes) -> bytes:
    return crc32(content).to_bytes(_CHECKSUM_BYTES, "little")
