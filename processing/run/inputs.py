"""The images of one run, as they are now and as they were when it began.

The content of an image decides its rows. `InputCache` saves reading it again: it remembers the
CRC-32 of each image by path, size and modification time. A missing entry costs one read of that
image, so the NPZ files depend on content only, and losing the cache does no harm.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from isal.isal_zlib import crc32
from numpy.typing import NDArray

from processing.core.errors import ImageError, Rejection, concerns_single_file
from processing.core.files import read_cache, write_cache
from processing.core.threads import map_in_order
from processing.imaging.reading import read_inside
from processing.run.journal import Progress
from processing.run.output_directory import INPUTS_CACHE_NAME

MISSING: Final = np.uint64(0)
"""Key of an image that is not there."""

_WITHOUT_LINKS: Final = np.uint64(0x9E3779B97F4A7C15)


def input_keys(raw_dir: Path, paths: Iterable[str]) -> NDArray[np.uint64]:
    """uint64 (N,): a hash of each image's path, size in bytes and modification time in ns."""
    return np.fromiter((_key(raw_dir, path) for path in paths), dtype=np.uint64)


def _key(raw_dir: Path, path: str) -> int:
    try:
        status = os.stat(f"{raw_dir}/{path}")  # noqa: PTH116 - a Path per image would double the time
    except OSError as error:
        if not concerns_single_file(error):
            raise
        return int(MISSING)
    if not stat.S_ISREG(status.st_mode):
        return int(MISSING)
    text = f"{path}\0{status.st_size}\0{status.st_mtime_ns}"  # no path holds a NUL
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") or 1


class InputCache:
    """The cache file of one output directory.

    Args:
        directory: the output directory; the file is read if it is there and readable.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / INPUTS_CACHE_NAME
        stored = read_cache(self._path)
        self._keys = stored.get("keys", np.empty(0, dtype=np.uint64))  # ascending
        self._crc32 = stored.get("crc32", np.empty(0, dtype=np.uint32))
        if len(self._keys) != len(self._crc32):
            self._keys, self._crc32 = self._keys[:0], self._crc32[:0]

    def lookup(self, keys: NDArray[np.uint64]) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
        """CRC-32 uint32 (N,), and bool (N,) whether it is known; a missing image is known, as 0."""
        position = np.searchsorted(self._keys, keys)
        found = np.zeros(len(keys), dtype=bool)
        inside = position < len(self._keys)
        found[inside] = self._keys[position[inside]] == keys[inside]
        checksums = np.zeros(len(keys), dtype=np.uint32)
        checksums[found] = self._crc32[position[found]]
        return checksums, found | (keys == MISSING)

    def update(self, keys: NDArray[np.uint64], checksums: NDArray[np.uint32]) -> None:
        """Adds entries and writes the file, atomically, if any is new.

        Images that could not be read, with a CRC-32 of 0, are not cached: when their permissions
        are mended, neither size nor time changes.
        """
        present = (keys != MISSING) & (checksums != 0)
        all_keys = np.concatenate([keys[present], self._keys])
        all_checksums = np.concatenate([checksums[present], self._crc32])
        merged, first = np.unique(all_keys, return_index=True)
        if np.array_equal(merged, self._keys) and np.array_equal(all_checksums[first], self._crc32):
            return
        self._keys, self._crc32 = merged, all_checksums[first]
        write_cache(self._path, {"keys": self._keys, "crc32": self._crc32})


class InputImages:
    """The images of a run, in its order.

    Args:
        raw_dir: where the images are.
        output_dir: where the cache of their checksums is.
        paths: (N,) relative to `raw_dir`.
        threads: how many threads read images.
        follow_links: whether links may lead out of `raw_dir`.

    Attributes:
        keys: uint64 (N,), of path, size and time when the run began; see `input_keys`.
    """

    def __init__(
        self,
        raw_dir: Path,
        output_dir: Path,
        paths: NDArray[Any],
        threads: int,
        *,
        follow_links: bool = True,
    ) -> None:
        self._raw_dir, self._paths, self._threads = raw_dir, paths, threads
        self._read = functools.partial(_content_crc32, raw_dir, follow_links=follow_links)
        self._follow_links = follow_links
        self.keys = self._keys_now()
        self._cache = InputCache(output_dir)

    def _keys_now(self) -> NDArray[np.uint64]:
        keys = input_keys(self._raw_dir, self._paths)
        if self._follow_links:
            return keys
        # An image that was read through a link is another input once links are refused.
        return np.where(keys == MISSING, MISSING, keys ^ _WITHOUT_LINKS)

    def crc32(self) -> NDArray[np.uint32]:
        """CRC-32 of each image now, 0 if unreadable. Reads images whose size or time changed."""
        checksums, known = self._cache.lookup(self.keys)
        unknown = np.flatnonzero(~known)
        if len(unknown):
            paths = self._paths[unknown].tolist()
            found = map_in_order(self._read, paths, threads=self._threads, ahead=4 * self._threads)
            checksums[unknown] = [checksum for checksum, _ in found]
            self.save_checksums(checksums)
        return checksums

    def save_checksums(self, checksums: NDArray[np.uint32]) -> None:
        """Saves checksums for later runs, of the images that did not change during this run."""
        now = self._keys_now()
        # An image that changed during the run may have been read before or after the change.
        self._cache.update(np.where(now == self.keys, now, MISSING), checksums)

    def are_still_unreadable(self, progress: Progress) -> bool:
        """Whether every image that an interrupted run could not read is still unreadable."""
        checksums = np.array(progress.input_crc32, dtype=np.uint32)
        unread = self._paths[: len(checksums)][checksums == 0].tolist()
        reasons = {r.path: r.reason for r in progress.rejected_images() if r.stage == "read"}
        return all(self._read(path) == (0, reasons.get(path)) for path in unread)

    def check_not_lost(self, start: int, rejections: Sequence[Rejection | None]) -> None:
        """Raises if the raw directory disappeared during the run.

        A single missing file is treated as a bad image; a missing or empty folder is not, because
        storage that is unmounted must not turn all its images into rejections.

        Args:
            start: position of the first image of `rejections`.
            rejections: of consecutive images; None for an image that is not rejected.

        Raises:
            FileNotFoundError: an image was there when the run began, and now its folder is gone or
                empty.
        """
        keys = self.keys[start : start + len(rejections)].tolist()
        for key, rejection in zip(keys, rejections, strict=True):
            if rejection and rejection.reason == "missing_image" and key != MISSING:
                folder = (self._raw_dir / rejection.path).parent
                if not folder.is_dir() or not any(folder.iterdir()):
                    raise FileNotFoundError(
                        errno.ENOENT,
                        "held images when this run began, and is gone or empty now: is the storage "
                        "of the raw directory still there? Run again",
                        str(folder),
                    )


def _content_crc32(raw_dir: Path, path: str, *, follow_links: bool) -> tuple[int, str | None]:
    """CRC-32 of an image's bytes; 0 and the reason if it cannot be read."""
    try:
        return crc32(read_inside(raw_dir, path, follow_links=follow_links)), None
    except ImageError as error:
        return 0, error.reason
