"""RowCache: rows of files at URLs that were read before, in one directory of limited size.

A full cache takes no more rows. An epoch reads every row once, so a cache that drops the oldest row
for the newest one would never hold a row when it is needed again.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Self

from processing.core.urls import URL
from processing.npz.sparse_file import SparseFile

_LOG = logging.getLogger(__name__)

_ENDING: Final = ".rows"
_LEAST_LOOKS: Final = 16
"""How often a cache is measured while it fills, at least."""
_BETWEEN_LOOKS: Final = 64 << 20
"""Bytes that a process may add before it measures the directory again; others may fill it too."""
_BLOCK: Final = 512  # bytes: the unit of st_blocks, on all systems


class RowCache:
    """The rows of one file that were read, in a local file of the same layout.

    Safe from several threads, and several processes may share the directory.

    Args:
        path: of the local file, which may exist.
        size: bytes of the file.
        budget: of the directory.

    Attributes:
        path: of the local file.
        file: the local file.
    """

    def __init__(self, path: Path, size: int, budget: _Budget) -> None:
        self.path, self.file, self._budget = path, SparseFile(size, path), budget

    @classmethod
    def open(
        cls, directory: Path, url: URL, content: str, size: int, limit: int, least: int
    ) -> Self | None:
        """Returns the cache of a file; None if there is no room for it.

        Args:
            directory: of all caches; made if absent.
            url: of the file.
            content: text that is different if the file has other content. Rows of older content of
                the same URL are removed.
            size: bytes of the file.
            limit: bytes of all caches in the directory.
            least: bytes that the file takes without any row.
        """
        directory.mkdir(parents=True, exist_ok=True)
        place, version = _hash(str(url)), _hash(content)
        path = directory / f"{place}-{version}{_ENDING}"
        for older in directory.glob(f"{place}-*{_ENDING}"):
            if older != path:
                older.unlink(missing_ok=True)
        budget = _budget(directory, limit)
        if path.exists() or budget.take(least):
            return cls(path, size, budget)
        return None

    def keep(self, begin: int, row: Any) -> None:
        """Writes a row to its place, if there is room.

        Args:
            begin: of the row in the file.
            row: its bytes.
        """
        # The row is there: a full disk, or a directory that was removed, must not cost the batch.
        try:
            if self._budget.take(len(row)):
                self.file.write(begin, row)
        except OSError as error:
            self._budget.close()
            _LOG.warning("%s: no more rows are kept: %s", self.path, error)


class _Budget:
    """How many bytes may still be added to a directory, as far as this process knows."""

    def __init__(self, directory: Path, limit: int) -> None:
        self._directory, self._limit = directory, limit
        self._lock = threading.Lock()
        self._left = 0
        self._used = 0
        self._is_full = False

    def close(self) -> None:
        """Takes no more bytes."""
        with self._lock:
            self._is_full = True

    def take(self, nbytes: int) -> bool:
        """Whether there is room for some bytes, which then are taken."""
        with self._lock:
            if self._left < nbytes and not self._is_full:
                # Other processes write, too; and what threads have taken may not be written yet.
                self._used = max(self._used, _used(self._directory))
                room = self._limit - self._used
                self._left = min(room, max(self._limit // _LEAST_LOOKS, nbytes), _BETWEEN_LOOKS)
                self._is_full = self._left < nbytes
            if self._is_full:
                return False
            self._left -= nbytes
            self._used += nbytes
            return True


@functools.lru_cache(maxsize=64)
def _budget(directory: Path, limit: int) -> _Budget:
    """Returns the budget that all files of a directory share in this process."""
    return _Budget(directory, limit)


def _used(directory: Path) -> int:
    """Returns the bytes on disk of all caches; holes do not count."""
    total = 0
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.endswith(_ENDING):
                try:
                    status = entry.stat()
                except FileNotFoundError:  # another process removed older rows of its URL
                    continue
                total += getattr(status, "st_blocks", -(-status.st_size // _BLOCK)) * _BLOCK
    return total


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:24]
