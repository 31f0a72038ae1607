"""InputCache: the CRC-32 of each input image, remembered by path, size and modification time.

It only saves reading: whether a stored file is up to date is decided by the images' content, and an
entry that is missing costs one read of that image. So the NPZ files depend on content alone, and a
lost cache does no harm.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from processing.core.errors import is_of_one_file
from processing.core.files import read_cache, write_cache
from processing.output_directory import INPUTS_CACHE_NAME

MISSING: Final = np.uint64(0)
"""Key of an image that is not there."""


def input_keys(raw_dir: Path, paths: Iterable[str]) -> NDArray[np.uint64]:
    """uint64 (N,): a hash of each image's path, size in bytes and modification time in ns."""
    return np.fromiter((_key(raw_dir, path) for path in paths), dtype=np.uint64)


def _key(raw_dir: Path, path: str) -> int:
    try:
        status = os.stat(f"{raw_dir}/{path}")  # noqa: PTH116 - a Path per image would double the time
    except OSError as error:
        if not is_of_one_file(error):
            raise
        return int(MISSING)
    if not stat.S_ISREG(status.st_mode):
        return int(MISSING)
    text = f"{path}\0{status.st_size}\0{status.st_mtime_ns}"
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
        """CRC-32 uint32 (N,) and whether it is known, bool (N,); a missing image is known, as 0."""
        position = np.searchsorted(self._keys, keys)
        found = np.zeros(len(keys), dtype=bool)
        inside = position < len(self._keys)
        found[inside] = self._keys[position[inside]] == keys[inside]
        checksums = np.zeros(len(keys), dtype=np.uint32)
        checksums[found] = self._crc32[position[found]]
        return checksums, found | (keys == MISSING)

    def update(self, keys: NDArray[np.uint64], checksums: NDArray[np.uint32]) -> None:
        """Adds entries and writes the file, atomically, if any is new.

        Images that could not be read, whose CRC-32 is given as 0, are asked for again next time:
        once they may be read, neither their size nor their time tells.
        """
        present = (keys != MISSING) & (checksums != 0)
        all_keys = np.concatenate([keys[present], self._keys])
        all_checksums = np.concatenate([checksums[present], self._crc32])
        merged, first = np.unique(all_keys, return_index=True)
        if np.array_equal(merged, self._keys) and np.array_equal(all_checksums[first], self._crc32):
            return
        self._keys, self._crc32 = merged, all_checksums[first]
        write_cache(self._path, {"keys": self._keys, "crc32": self._crc32})
