"""Columns of rows: their description, and rows of different lengths in one array.

Imports numpy only. A `RaggedArray` never changes its shape; whether `values` may be written is up
to the caller.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray


@dataclass(frozen=True, slots=True)
class Column:
    """One per-row member of the file.

    Args:
        name: member name without ``.npy``.
        dtype: dtype of the stored array.
        row_shape: shape of one row, or of one value of a ragged row.
        ragged: whether rows have different numbers of values; the file then has a member with their
            offsets too.
    """

    name: str
    dtype: str
    row_shape: tuple[int, ...] = ()
    ragged: bool = False


class RaggedArray:
    """Rows of different lengths: row i is ``values[offsets[i]:offsets[i + 1]]``.

    Args:
        values: (V, ...) all rows, one after the other; kept, not copied.
        offsets: int64 (N + 1,), not decreasing, within ``[0, V]``; kept, not copied.
        check: whether to check the offsets. Leave out for offsets that are right by construction,
            or too many to read.

    Raises:
        ValueError: the offsets decrease or are outside the values.

    Example:
        >>> boxes = RaggedArray.from_rows([[[0, 0, 1, 1]], []], dtype="float32", row_shape=(4,))
        >>> len(boxes), boxes[0].shape, boxes[1].shape
        (2, (1, 4), (0, 4))
    """

    __slots__ = ("offsets", "values")

    def __init__(
        self, values: NDArray[Any], offsets: NDArray[np.int64], *, check: bool = True
    ) -> None:
        self.values = values
        self.offsets = offsets
        if not check:
            return
        if offsets.ndim != 1 or len(offsets) == 0:
            raise ValueError(f"offsets must be (N + 1,), found shape {offsets.shape}")
        if offsets[0] < 0 or offsets[-1] > len(self.values):
            raise ValueError(
                f"offsets run from {offsets[0]} to {offsets[-1]}, "
                f"but there are {len(self.values)} values"
            )
        falls = np.flatnonzero(offsets[1:] < offsets[:-1])
        if len(falls):
            row = int(falls[0])
            raise ValueError(f"offsets fall from {offsets[row]} to {offsets[row + 1]} at row {row}")

    @classmethod
    def from_rows(
        cls, rows: Sequence[Any], *, dtype: DTypeLike, row_shape: tuple[int, ...] = ()
    ) -> RaggedArray:
        """Copies a sequence of rows into a ragged array.

        Args:
            rows: N array-likes of shape (k_i, *row_shape); an empty one may have any shape.
            dtype: dtype of the values.
            row_shape: shape of one value.
        """
        arrays = [np.asarray(row, dtype=dtype).reshape(-1, *row_shape) for row in rows]
        values = np.concatenate(arrays) if arrays else np.empty((0, *row_shape), dtype=dtype)
        return cls(values, offsets_of(list(map(len, arrays))), check=False)

    @property
    def shape(self) -> tuple[int]:
        """(N,): the number of rows, as of a one-dimensional array."""
        return (len(self),)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the values."""
        return self.values.dtype

    @property
    def lengths(self) -> NDArray[np.int64]:
        """int64 (N,): the number of values in each row."""
        # np.diff takes five times as long.
        lengths: NDArray[np.int64] = self.offsets[1:] - self.offsets[:-1]
        return lengths

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (self[i] for i in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> NDArray[Any]: ...
    @overload
    def __getitem__(self, index: slice) -> RaggedArray: ...
    def __getitem__(self, index: int | slice) -> NDArray[Any] | RaggedArray:
        """Returns row i as a view, or a slice of rows as a ragged array.

        A slice of step 1 shares the values; any other slice copies them.

        Raises:
            IndexError: the index is outside ``[-N, N)``.
        """
        n = len(self)
        if isinstance(index, slice):
            start, stop, step = index.indices(n)
            if step != 1:
                return self.take(np.arange(start, stop, step))
            # An empty slice, where stop may be below start, still has one offset.
            return RaggedArray(self.values, self.offsets[start : max(start, stop) + 1], check=False)
        if not -n <= index < n:
            raise IndexError(f"row {index} of {n}")
        row = index % n
        view: NDArray[Any] = self.values[self.offsets[row] : self.offsets[row + 1]]
        return view

    def take(self, indices: NDArray[np.integer[Any]]) -> RaggedArray:
        """Copies rows into a new ragged array.

        Args:
            indices: (M,) integers in ``[0, N)``; not checked.
        """
        starts = self.offsets[indices]
        return gather_rows(self.values, starts, self.offsets[np.asarray(indices) + 1] - starts)

    def rows(self) -> list[NDArray[Any]]:
        """Returns all rows as a list of views."""
        bounds = self.offsets.tolist()  # Python integers slice faster than numpy's
        return [self.values[a:b] for a, b in pairwise(bounds)]

    def __repr__(self) -> str:
        return f"RaggedArray({len(self)} rows, {self.values.shape} {self.values.dtype})"


ColumnArray: TypeAlias = NDArray[Any] | RaggedArray
"""The rows of a column: an array (N, ...), or N ragged rows."""


def offsets_of(lengths: Sequence[int] | NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Returns int64 (N + 1,): where each of N rows begins, and where the last one ends."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.asarray(lengths).cumsum(out=offsets[1:])
    return offsets


def gather_rows(
    values: NDArray[Any], starts: NDArray[np.int64], lengths: NDArray[np.int64]
) -> RaggedArray:
    """Copies rows, given by start and length, into a new ragged array.

    Args:
        values: (V, ...) the array that the rows are slices of.
        starts: int64 (M,) positions in `values`.
        lengths: int64 (M,). Every row must lie within `values`; this is not checked.
    """
    offsets = offsets_of(lengths)
    # Position p of the result, inside row r, reads values[starts[r] + p - offsets[r]].
    positions = (starts - offsets[:-1]).repeat(lengths)
    positions += np.arange(len(positions))
    rows = np.empty((len(positions), *values.shape[1:]), values.dtype)
    take_rows(values, positions, rows)
    return RaggedArray(rows, offsets, check=False)


def take_rows(array: NDArray[Any], indices: NDArray[np.intp], out: NDArray[Any]) -> None:
    """Copies ``array[indices]`` to `out`: for common layouts at the speed of a memory copy.

    Args:
        array: (N, ...).
        indices: (M,) in ``[0, N)``; not checked.
        out: C-contiguous (M, ...), overwritten; of the dtype of `array` in any byte order.
    """
    if array.flags.c_contiguous and array.flags.aligned:
        # With the default mode="raise", numpy fills a buffer first and copies that to `out`.
        array.take(indices, axis=0, out=out, mode="clip")
    else:
        out[...] = array[indices]  # `take` would first copy all of the array
