"""RaggedArray: a list of arrays of different lengths, held as one values array and its offsets.

Imports numpy alone. Instances are immutable in shape; whether `values` may be written is the
caller's choice.
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
        ragged: whether rows have different numbers of values; such a member is followed by its
            offsets.
    """

    name: str
    dtype: str
    row_shape: tuple[int, ...] = ()
    ragged: bool = False


class RaggedArray:
    """Rows of different lengths: row i is ``values[offsets[i]:offsets[i + 1]]``.

    Args:
        values: (V, ...) all rows, one after the other.
        offsets: int64 (N + 1,), not decreasing, within ``[0, V]``; kept, not copied.

    Raises:
        ValueError: offsets that decrease or leave the values.

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
        if check:
            self._check()

    def _check(self) -> None:
        offsets = self.offsets
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
        """Builds a ragged array from a sequence of rows.

        Args:
            rows: N array-likes of shape (k_i, *row_shape); an empty one may have any shape.
            dtype: dtype of the values.
            row_shape: shape of one value.
        """
        arrays = [np.asarray(row, dtype=dtype).reshape(-1, *row_shape) for row in rows]
        values = np.concatenate(arrays) if arrays else np.empty((0, *row_shape), dtype=dtype)
        return cls(values, offsets_of([len(array) for array in arrays]), check=False)

    @property
    def shape(self) -> tuple[int]:
        """(N,): the rows."""
        return (len(self),)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the values."""
        return self.values.dtype

    @property
    def lengths(self) -> NDArray[np.int64]:
        """int64 (N,): how many values each row has."""
        lengths: NDArray[np.int64] = (
            self.offsets[1:] - self.offsets[:-1]
        )  # a fifth of np.diff's time
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
        """Row i as a view, or a run of rows as a ragged array over the same values.

        Raises:
            IndexError: an index outside ``[-N, N)``.
        """
        n = len(self)
        if isinstance(index, slice):
            start, stop, step = index.indices(n)
            if step != 1:
                return self.take(np.arange(start, stop, step))
            return RaggedArray(self.values, self.offsets[start : max(start, stop) + 1], check=False)
        if not -n <= index < n:
            raise IndexError(f"row {index} of {n}")
        row = index % n
        view: NDArray[Any] = self.values[self.offsets[row] : self.offsets[row + 1]]
        return view

    def take(self, indices: NDArray[np.integer[Any]]) -> RaggedArray:
        """The named rows, copied into one new values array with offsets from 0.

        Args:
            indices: (M,) integers in ``[0, N)``.
        """
        starts = self.offsets[indices]
        return gather_rows(self.values, starts, self.offsets[np.asarray(indices) + 1] - starts)

    def rows(self) -> list[NDArray[Any]]:
        """All rows as a list of views."""
        bounds = self.offsets.tolist()
        return [self.values[a:b] for a, b in pairwise(bounds)]

    def __repr__(self) -> str:
        return f"RaggedArray({len(self)} rows, {self.values.shape} {self.values.dtype})"


ColumnArray: TypeAlias = NDArray[Any] | RaggedArray
"""A column's rows: an array (N, ...), or N ragged rows."""


def offsets_of(lengths: Sequence[int] | NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """int64 (N + 1,): where each of N rows of the given lengths begins, and where the last ends."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.asarray(lengths).cumsum(out=offsets[1:])
    return offsets


def gather_rows(
    values: NDArray[Any], starts: NDArray[np.int64], lengths: NDArray[np.int64]
) -> RaggedArray:
    """Copies rows, named by where they begin and how long they are, into one new ragged array.

    Args:
        values: (V, ...) what the rows are parts of.
        starts: int64 (M,), positions in `values`.
        lengths: int64 (M,); every row lies within `values`.
    """
    offsets = offsets_of(lengths)
    # Position p of the result, inside row r, reads values[starts[r] + p - offsets[r]].
    positions = (starts - offsets[:-1]).repeat(lengths)
    positions += np.arange(len(positions))
    rows = np.empty((len(positions), *values.shape[1:]), values.dtype)
    take_rows(values, positions, rows)
    return RaggedArray(rows, offsets, check=False)


def take_rows(array: NDArray[Any], indices: NDArray[np.intp], out: NDArray[Any]) -> None:
    """Copies ``array[indices]`` to `out`, as fast as memory can be copied where layouts allow it.

    Args:
        array: (N, ...).
        indices: (M,) in ``[0, N)``; not checked.
        out: C-contiguous (M, ...), overwritten; of the dtype of `array`, or of its native one.
    """
    if array.flags.c_contiguous and array.flags.aligned:
        # Without mode="clip" numpy fills a buffer first and copies it to `out`.
        array.take(indices, axis=0, out=out, mode="clip")
    else:
        out[...] = array[indices]  # `take` would first copy all of the array
