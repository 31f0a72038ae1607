"""Converts members of older NPZ files to arrays of the current format.

Before the format had offsets, rows of different lengths were object arrays of lists, paths were
object arrays of text, and a detector's boxes were one regular array if every image had the same
number of boxes. Other programs write such files too. None of them has `metadata`.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from processing.core.columns import ColumnArray, RaggedArray
from processing.core.errors import NPZFormatError
from processing.npz.format import REBUILD

_ALWAYS_ALLOWED_BYTES: Final = 64 << 20  # of converted paths, however small the member is
_MAX_EXPANSION: Final = 64  # bytes of converted paths per byte of the member


def is_regular_boxes(array: NDArray[Any], rows: int) -> bool:
    """Whether an array has the shape (N, K, 4): K boxes in each of N images."""
    return array.ndim == 3 and array.shape[::2] == (rows, 4)


def from_regular_boxes(array: NDArray[Any]) -> RaggedArray:
    """Returns boxes (N, K, 4) as N ragged rows over the same memory."""
    rows, boxes, _ = array.shape
    return RaggedArray(array.reshape(rows * boxes, 4), np.arange(rows + 1) * boxes, check=False)


def from_objects(array: NDArray[Any], row_shape: tuple[int, ...], where: str) -> ColumnArray:
    """Converts an object array of lists.

    Args:
        array: object (N,), each a list of values or one value.
        row_shape: shape of one value: box, point or label.
        where: file and member, for messages.

    Returns:
        A copy. If each row is one value: (N, *row_shape). If each row has K points: (N, K, 3).
        Otherwise N ragged rows. Labels are int64, all other values float32.

    Raises:
        NPZFormatError: a row is not numeric, or its values have another shape.
    """
    dtype = np.int64 if row_shape == () else np.float32
    if array.ndim == 0:
        raise NPZFormatError(f"{where}: expected a list a row, found one object; {REBUILD}")
    rows = []
    for index, value in enumerate(array):
        try:
            row = np.asarray(value, dtype=dtype)
        except (ValueError, TypeError, OverflowError) as error:
            raise NPZFormatError(f"{where}, row {index}: not numbers ({error})") from error
        if row.size == 0:
            row = row.reshape(0, *row_shape)  # an empty list has no second dimension yet
        rows.append(row)
    shapes = {row.shape for row in rows}
    if shapes == {row_shape}:
        return np.stack(rows)
    for index, row in enumerate(rows):
        if row.ndim != len(row_shape) + 1 or row.shape[1:] != row_shape:
            raise NPZFormatError(
                f"{where}, row {index}: expected (k, *{row_shape}) numbers, found {row.shape}"
            )
    if row_shape == (3,) and len(shapes) == 1:
        # The current format stores keypoints (N, K, 3) unless K varies.
        return np.stack(rows)
    return RaggedArray.from_rows(rows, dtype=dtype, row_shape=row_shape)


def paths_from_objects(array: NDArray[Any], member_bytes: int, where: str) -> NDArray[np.str_]:
    """Converts an object array of text to unicode (N,).

    Args:
        array: object (N,).
        member_bytes: size of the member, unpacked.
        where: file and member, for messages.

    Raises:
        NPZFormatError: an object is not text, or the paths would take far more memory than the
            member.
    """
    longest = 0
    for path in array.flat:
        if not isinstance(path, str):
            raise NPZFormatError(f"{where}: expected text (N,), found {array.dtype} {array.shape}")
        longest = max(longest, len(path))
    # numpy gives every path the length of the longest, and four bytes per character.
    needed = 4 * array.size * longest
    if needed > max(_ALWAYS_ALLOWED_BYTES, _MAX_EXPANSION * member_bytes):
        raise NPZFormatError(
            f"{where}: {array.size:,} paths as long as the longest take {needed:,} bytes: taken "
            f"for a bomb; {REBUILD}"
        )
    return array.astype(np.str_)
