"""EarlierRows: stored images that need not be made again, looked up by the key of their image.

When files are made again because some inputs changed, the rows of all other images are copied: from
the files that are to be replaced, or from those of an abandoned run. The key of an image is a hash
of everything that decides the pixels of its rows. The keys of published files are in a cache file;
if it is lost, images are decoded again. The cache is written before files are replaced, with the
keys of both the old and the new files, because a killed run can leave either.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from isal.isal_zlib import crc32
from numpy.typing import NDArray

from processing.core.errors import ChecksumError, NPZFormatError
from processing.core.files import read_cache, write_cache
from processing.npz.format import JPEG_MEMBER, OFFSETS_MEMBER, RAW_MEMBER
from processing.npz.mapped import MappedNPZ
from processing.run.earlier_files import earlier_paths, keys_of_earlier
from processing.run.output_directory import ROWS_CACHE_NAME, npz_path, stored_metadata, task_of

_LOG = logging.getLogger(__name__)


class FileKeys(NamedTuple):
    """The keys of the images that one file was made from.

    Args:
        fingerprint: of the file; no other file of that name has it.
        keys: uint64 (M,), in any order; 0 for an image that was left out.
    """

    fingerprint: str
    keys: NDArray[np.uint64]


class _EarlierFile(NamedTuple):
    npz: MappedNPZ
    keys: NDArray[np.uint64]  # ascending

    def has(self, key: int) -> bool:
        at = int(np.searchsorted(self.keys, np.uint64(key)))
        return at < len(self.keys) and bool(self.keys[at] == key)


class EarlierRows:
    """The rows of the files in one output directory. Read-only, safe from several threads.

    Args:
        directory: the output directory. Files may be replaced by renaming while this is in use.
    """

    def __init__(self, directory: Path) -> None:
        self._files: dict[str, list[_EarlierFile]] = defaultdict(list)
        for name, keys in _of_published(directory).items():
            self._add(npz_path(directory, name), keys.keys)
        for path in earlier_paths(directory):
            self._add(path, keys_of_earlier(path))

    def _add(self, path: Path, keys: NDArray[np.uint64]) -> None:
        try:
            self._files[task_of(path)].append(_EarlierFile(MappedNPZ(path), keys))
        except NPZFormatError as error:
            _LOG.warning("rows cannot be copied, and are made anew: %s", error)

    @property
    def is_empty(self) -> bool:
        """Whether there are no files to copy from."""
        return not self._files

    def close(self) -> None:
        """Releases the files, even if a thread still refers to this object."""
        self._files.clear()

    def find(self, task: str, path: str, key: int) -> list[NDArray[np.uint8]] | None:
        """Looks for the images that a task has stored of one photograph.

        Args:
            task: name of the task.
            path: the photograph, as in `image_paths`.
            key: of the photograph, see the module.

        Returns:
            A copy of each row, in their order: uint8 (H, W, 3), or the bytes of an encoded image.
            None if no file has that key, or the rows are damaged.
        """
        found = None
        for file in self._files.get(task, ()):
            if file.has(key):
                try:
                    found = _rows_of(path, file.npz)
                except (NPZFormatError, KeyError) as error:
                    _LOG.warning("%s: made anew, since earlier rows are damaged: %s", path, error)
                    found = None
                    continue
                if len(found):  # each file of an abandoned run has the keys of all its splits
                    break
        return found


def _rows_of(path: str, npz: MappedNPZ) -> list[NDArray[np.uint8]]:
    """Copies a photograph's rows, which lie together, because rows are ordered by path."""
    npz.check_size()
    paths = npz["image_paths"]
    first, last = (int(np.searchsorted(paths, path, side=side)) for side in ("left", "right"))
    if JPEG_MEMBER in npz:
        bounds = npz[OFFSETS_MEMBER][first : last + 1].tolist()
        images = [npz[JPEG_MEMBER][start:end].copy() for start, end in pairwise(bounds)]
    else:
        images = list(npz[RAW_MEMBER][first:last].copy())
    expected = npz["image_crc32"][first:last].tolist()
    if [crc32(image) for image in images] != expected:
        raise ChecksumError(f"{npz.path}: rows {first} to {last} differ from their checksums")
    return images


def save_keys(directory: Path, files: Mapping[str, FileKeys]) -> None:
    """Saves the keys of the images of each file to be published, next to those published now."""
    arrays: dict[str, NDArray[Any]] = {}
    for several in (_of_published(directory), files):
        for name, (fingerprint, keys) in several.items():
            arrays[f"{name}.{fingerprint}"] = np.unique(keys[keys != 0])
    write_cache(directory / ROWS_CACHE_NAME, arrays)


def _of_published(directory: Path) -> dict[str, FileKeys]:
    """The saved keys of the files that are there, by name."""
    published = {}
    for name_and_fingerprint, keys in read_cache(directory / ROWS_CACHE_NAME).items():
        name, _, fingerprint = name_and_fingerprint.rpartition(".")
        if stored_metadata(npz_path(directory, name)).get("fingerprint") == fingerprint:
            published[name] = FileKeys(fingerprint, keys)
    return published
