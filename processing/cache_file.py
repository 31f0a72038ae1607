"""Cache files: arrays that only save work, beside the NPZ files. Losing one does no harm."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from isal.isal_zlib import crc32
from numpy.typing import NDArray

from processing.durable import write_durably

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
