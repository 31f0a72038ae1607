"""The header of an ``.npy`` file, read from bytes that anybody may have written."""

from __future__ import annotations

import functools
import io
from typing import Any, Final

import numpy as np

from processing.core.errors import damaged

NPY_PREFIX: Final = 1 << 14
"""Bytes of the beginning of a file that hold any header: numpy refuses those above 10,000
characters."""

_MAX_DIMENSIONS: Final = 64  # of numpy
_NO_SHAPE: Final = f"no shape: that is up to {_MAX_DIMENSIONS} lengths below 2**63"

_HEADER_READERS: Final = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_npy_header(
    npy: memoryview, where: str
) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Reads a header.

    Args:
        npy: the ``.npy`` file, or its first `NPY_PREFIX` bytes.
        where: names the file in messages.

    Returns:
        Shape, whether the order is Fortran's, dtype, and the header's length in bytes.

    Raises:
        NPZFormatError: it cannot be read.
    """
    prefix = bytes(npy[:NPY_PREFIX])
    try:
        return _parsed_npy_header(prefix[: _npy_header_size(prefix)])
    except Exception as error:  # numpy's parser raises many types for damaged headers
        raise damaged(where, f"its npy header cannot be read ({error})") from error


def _npy_header_size(prefix: bytes) -> int:
    """Returns the bytes of an npy header, from its magic string to its end."""
    digits = 2 if prefix[6:7] == b"\x01" else 4  # format version 1, or a later one
    begin = len(np.lib.format.MAGIC_PREFIX) + 2
    return begin + digits + int.from_bytes(prefix[begin : begin + digits], "little")


# The shards of a set have many equal headers, and numpy evaluates each as Python source.
@functools.lru_cache(maxsize=64)
def _parsed_npy_header(header: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    stream = io.BytesIO(header)
    version = np.lib.format.read_magic(stream)
    if version not in _HEADER_READERS:
        raise ValueError(f"npy format version {version}")
    shape, fortran_order, dtype = _HEADER_READERS[version](stream)
    lengths = all(type(extent) is int and 0 <= extent < 1 << 63 for extent in shape)
    if not lengths or len(shape) > _MAX_DIMENSIONS:
        # Without the shape itself: its numbers may have too many digits to print.
        raise ValueError(_NO_SHAPE)
    return shape, fortran_order, dtype, stream.tell()
