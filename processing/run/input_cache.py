"""InputCache: what earlier runs have read of the input images.

It saves reading an image again that is still the same file. A missing entry costs one read, so the
NPZ files depend on content only, and losing the cache does no harm.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from processing.core.files import read_cache, write_cache
from processing.imaging.contents import ImageContent
from processing.imaging.photo import ImageHeader
from processing.imaging.photographs import Photographs
from processing.run.output_directory import INPUTS_CACHE_NAME

MISSING: Final = np.uint64(0)
"""Key of an image that is not there."""

_ENTRY: Final = np.dtype(
    [
        ("path", "<u8"),  # hash of the image's path; the cache is in this order
        ("key", "<u8"),  # see `input_keys`
        ("size", "<i8"),
        ("crc32", "<u4"),
        ("format", "S12"),  # empty if the header is not known
        ("width", "<i4"),
        ("height", "<i4"),
        ("orientation", "|i1"),
    ]
)


def input_keys(photographs: Photographs, paths: Iterable[str]) -> NDArray[np.uint64]:
    """uint64 (N,): a hash of everything that tells whether an image is still the same file.

    Args:
        photographs: knows the files.
        paths: relative to the raw directory.
    """
    identities = photographs.identities(paths)
    return np.fromiter(map(_key, identities), dtype=np.uint64)


def _key(identity: str | None) -> int:
    return int(MISSING) if identity is None else _hash(identity) or 1


def _hash(text: str) -> int:
    digest = hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8)
    return int.from_bytes(digest.digest(), "little")


def new_entries(paths: Iterable[str]) -> NDArray[Any]:
    """Returns empty entries (N,) for images."""
    hashes = np.fromiter(map(_hash, paths), dtype=np.uint64)
    entries = np.zeros(len(hashes), dtype=_ENTRY)
    entries["path"] = hashes
    return entries


def entries_of(
    paths: NDArray[np.uint64], keys: NDArray[np.uint64], contents: Sequence[ImageContent]
) -> NDArray[Any]:
    """Entries (N,) of images whose content is known.

    Args:
        paths: uint64 (N,), the hashes of their paths.
        keys: uint64 (N,), see `input_keys`.
        contents: N contents.
    """
    entries = np.zeros(len(contents), dtype=_ENTRY)
    entries["path"], entries["key"] = paths, keys
    entries["size"] = [content.size for content in contents]
    entries["crc32"] = [content.crc32 for content in contents]
    headers = [content.header for content in contents]
    entries["format"] = [header.format.encode() for header in headers]
    entries["width"] = [header.width for header in headers]
    entries["height"] = [header.height for header in headers]
    entries["orientation"] = [header.orientation for header in headers]
    return entries


def contents_in(entries: NDArray[Any]) -> list[ImageContent | None]:
    """Returns the contents that entries describe; None where the header is not known."""
    contents: list[ImageContent | None] = []
    # One conversion of all entries: numpy takes far longer to look at the fields of each.
    for _, _, size, crc32, image_format, *sides in entries.tolist():
        header = ImageHeader(image_format.decode(), *sides)
        contents.append(ImageContent(size, crc32, header) if image_format else None)
    return contents


class InputCache:
    """The cache file of one output directory: an entry for each image.

    Args:
        directory: the output directory; the file is read if it is there and readable.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / INPUTS_CACHE_NAME
        nothing: NDArray[Any] = np.zeros(0, dtype=_ENTRY)
        entries = read_cache(self._path).get("entries", nothing)
        self._entries = entries if entries.dtype == _ENTRY and entries.ndim == 1 else nothing

    def __len__(self) -> int:
        return len(self._entries)

    def lookup(self, paths: Iterable[str], keys: NDArray[np.uint64]) -> NDArray[Any]:
        """Returns the entries (N,) of images; only the hash of the path where none is known.

        Args:
            paths: relative to the raw directory.
            keys: uint64 (N,), see `input_keys`.
        """
        found = new_entries(paths)
        stored = self._stored(found)
        same = (stored["path"] == found["path"]) & (stored["key"] == keys) & (keys != MISSING)
        found[same] = stored[same]
        return found

    def _stored(self, entries: NDArray[Any]) -> NDArray[Any]:
        """The stored entries of the same paths; those of other paths where there are none."""
        if not len(self._entries):
            return np.zeros(len(entries), dtype=_ENTRY)
        position = np.searchsorted(self._entries["path"], entries["path"])
        position[position == len(self._entries)] = 0
        stored: NDArray[Any] = self._entries[position]
        return stored

    def known_crc32(self, paths: Iterable[str]) -> NDArray[np.uint32]:
        """uint32 (N,): CRC-32 of images as they were when they were last read; 0 if not known."""
        wanted = new_entries(paths)
        stored = self._stored(wanted)
        same = stored["path"] == wanted["path"]
        checksums: NDArray[np.uint32] = np.where(same, stored["crc32"], 0).astype(np.uint32)
        return checksums

    def count_unchanged(self, entries: NDArray[Any]) -> int:
        """How many images have an entry of the same path and the same content."""
        stored = self._stored(entries)
        same = (stored["path"] == entries["path"]) & (stored["crc32"] == entries["crc32"])
        return int(np.count_nonzero(same & (entries["crc32"] != 0)))

    def update(self, entries: NDArray[Any], listed: Iterable[str]) -> None:
        """Adds or replaces entries and writes the file, atomically, if any changed.

        Images that could not be read, with a CRC-32 of 0, are not cached: when the disk is mended,
        the file has not changed. Entries of images that the annotations no longer list are dropped.

        Args:
            entries: of this run's images; those with the key `MISSING` are not added.
            listed: paths of all images that the annotations list.
        """
        is_known = (entries["key"] != MISSING) & (entries["crc32"] != 0)
        is_of_others = ~np.isin(self._entries["path"], entries["path"])
        merged = np.concatenate([entries[is_known], self._entries[is_of_others]])
        merged = merged[np.isin(merged["path"], new_entries(listed)["path"])]
        merged = merged[np.argsort(merged["path"], kind="stable")]
        if not np.array_equal(merged, self._entries):
            self._entries = merged
            write_cache(self._path, {"entries": merged})
