"""Whether `NPZWriter` wrote a file, as far as its bytes can still tell.

Every member that it writes has a padding field in its local header, which numpy never writes, and
data at a multiple of the page size. One such header is proof enough: damage may have changed all
the others. A file that another program saved again, with our metadata in it, has none.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Final

from processing.core.error_notes import with_filename
from processing.npz.format import ALIGNMENT, LOCAL_SIGNATURE, local_header_pattern

_WINDOW: Final = 64 << 20
"""Bytes that are searched at each end of a file. The first member begins the file, and the small
ones end it, however large the images between them are."""
_NPY_MAGIC: Final = b"\x93NUMPY\x01\x00"
_NPY_LENGTH: Final = struct.Struct("<H")
_PATTERN: Final = re.compile(local_header_pattern(), re.DOTALL)


def is_written_by_us(path: Path) -> bool:
    """Whether the file has a local header that only `NPZWriter` writes.

    Raises:
        OSError: the file cannot be read.
    """
    with with_filename(path), path.open("rb") as file:
        begin = file.read(ALIGNMENT)
        if has_own_header(begin, 0):
            return True
        size = file.seek(0, 2)
        for start in {0, max(0, size - _WINDOW)}:
            file.seek(start)
            if has_own_header(file.read(_WINDOW), start):
                return True
    return False


def has_own_header(content: bytes, offset: int) -> bool:
    """Whether a part of a file holds a local header that only `NPZWriter` writes.

    Args:
        content: the part.
        offset: the byte of the file where it begins.
    """
    for found in _PATTERN.finditer(content):
        npy = found.end(1) + int.from_bytes(found[1], "little")
        # The name before the pattern ends a local header, unless that part is damaged. The NPY
        # header after it ends at a multiple of the page size, unless that part is damaged.
        if content[npy : npy + len(_NPY_MAGIC)] != _NPY_MAGIC:
            if LOCAL_SIGNATURE in content[max(0, found.start() - 128) : found.start()]:
                return True
            continue
        length = npy + len(_NPY_MAGIC)
        end = length + _NPY_LENGTH.size + int.from_bytes(content[length : length + 2], "little")
        if (offset + end) % ALIGNMENT == 0:
            return True
    return False
