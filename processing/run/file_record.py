"""FileRecord: everything that finalizing a set needs of one shard's file, but for its pixels.

For shards in a directory, records are read from the files themselves. A shard at a URL has its
records next to it, so that a set is finalized without reading its shards.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from isal.isal_zlib import crc32
from numpy.typing import NDArray

from processing.core.error_notes import with_filename
from processing.core.errors import Rejection

CRC32_TYPE: Final = np.dtype("<u4")
TAIL_BYTES: Final = 64 << 10
"""Bytes at the end of a file that tell whether it is another one. In an NPZ file, the ZIP directory
is there, with size and CRC-32 of each member, and the hash of all inputs in ``metadata``."""
RECORD_BEGINNING: Final = b'{"recipe":'
"""How a record begins, also a damaged one, or one of another version of this package."""


def tail_crc32(path: Path) -> int:
    """The CRC-32 of the last bytes of a file; see `FileRecord.tails`."""
    with with_filename(path), path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        return crc32(file.read())


class FileRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What finalizing needs of one file.

    Args:
        recipe: see `PlannedFile`.
        fingerprint: see `PlannedFile.fingerprint`.
        counts: the fields of its `FileReport`.
        content_id: see `MappedNPZ.content_id`.
        sizes: bytes of the file and of each of its lists, by name.
        tails: CRC-32 of the last `TAIL_BYTES` of the same files, by name.
        bad_images: images that it lacks because something is wrong with them.
        crc32: of the content of each of its images as uint32, little endian; 0 if it is not known,
            or the image cannot be decoded.
    """

    recipe: str
    fingerprint: str
    counts: dict[str, Any]
    content_id: int
    sizes: dict[str, int]
    tails: dict[str, int]
    bad_images: list[Rejection]
    crc32: bytes

    def content_crc32(self) -> NDArray[np.uint32]:
        """uint32 (M,): `crc32` as an array."""
        return np.frombuffer(self.crc32, CRC32_TYPE)
