"""EarlierRows: images that earlier files hold already, found by what they were made of.

When files are made again because some inputs changed, the rows of all others are copied from the
files that are to be replaced, or from those of a run that was killed before. Which image a file has
rows of, and how they were made, is kept as one key an image, in a cache file: where it is lost,
images are decoded again. It is written before files are replaced, and speaks of both the old and
the new ones, whichever a killed run has left.
Read-only once it is made, safe from several threads.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from isal.isal_zlib import crc32
from numpy.typing import NDArray

from processing.core.errors import ChecksumError, NPZFormatError
from processing.core.files import read_cache, write_cache
from processing.npz.mapped import MappedNPZ
from processing.run.abandoned_run import AbandonedRun
from processing.run.output_directory import ROWS_CACHE_NAME, npz_path, stored_metadata

_LOG = logging.getLogger(__name__)


class FileKeys(NamedTuple):
    """The keys of the images that one file was made from.

    Args:
        fingerprint: of the file, which another file of that name does not have.
        keys: uint64 (M,), in any order; 0 for an image that was left out.
    """

    fingerprint: str
    keys: NDArray[np.uint64]


class _EarlierFile(NamedTuple):
    npz: MappedNPZ
    keys: NDArray[np.uint64]  # ascending


class EarlierRows:
    """The rows of the files in one output directory.

    Args:
        directory: the output directory. Files may be replaced by renaming while this is in use.
    """

    def __init__(self, directory: Path) -> None:
        self._files: dict[str, list[_EarlierFile]] = defaultdict(list)
        for name, keys in _of_published(directory).items():
            path = npz_path(directory, name)
            task = stored_metadata(path)["task"]
            self._files[task].append(_EarlierFile(MappedNPZ(path), keys.keys))
        self._abandoned = AbandonedRun(directory)

    def close(self) -> None:
        """Lets go of the files, whoever still holds this."""
        self._files.clear()

    def find(self, task: str, path: str, key: int) -> NDArray[np.uint8] | None:
        """The images that a task's file holds of one photograph.

        Args:
            task: name of the task.
            path: the photograph, as in `image_paths`.
            key: what it was made of and how.

        Returns:
            uint8 (k, H, W, 3), a copy, in the order of the rows; None if no file has that key, or
            the rows are damaged.
        """
        for npz, keys in self._files.get(task, ()):
            at = np.searchsorted(keys, np.uint64(key))
            if at < len(keys) and keys[at] == key:
                try:
                    return _rows_of(path, npz)
                except (NPZFormatError, KeyError) as error:
                    _LOG.warning("%s: made anew, since earlier rows are damaged: %s", path, error)
        return self._abandoned.find(task, path, key)


def _rows_of(path: str, npz: MappedNPZ) -> NDArray[np.uint8]:
    """A copy of a photograph's rows, which lie together, in the order of the paths."""
    npz.check_size()
    first, last = (
        int(np.searchsorted(npz["image_paths"], path, side=side)) for side in ("left", "right")
    )
    images: NDArray[np.uint8] = npz["images"][first:last].copy()
    expected = npz["image_crc32"][first:last].tolist()
    if [crc32(image) for image in images] != expected:
        raise ChecksumError(f"{npz.path}: rows {first} to {last} differ from their checksums")
    return images


def save_keys(directory: Path, files: Mapping[str, FileKeys]) -> None:
    """Notes of which images files are to be made, by name, beside what is noted of those there."""
    arrays: dict[str, NDArray[Any]] = {}
    for several in (_of_published(directory), files):
        for name, (fingerprint, keys) in several.items():
            arrays[f"{name}.{fingerprint}"] = np.unique(keys[keys != 0])
    write_cache(directory / ROWS_CACHE_NAME, arrays)


def _of_published(directory: Path) -> dict[str, FileKeys]:
    """What is noted of the files that are there, by name."""
    published = {}
    for noted, keys in read_cache(directory / ROWS_CACHE_NAME).items():
        name, _, fingerprint = noted.rpartition(".")
        if stored_metadata(npz_path(directory, name)).get("fingerprint") == fingerprint:
            published[name] = FileKeys(fingerprint, keys)
    return published
