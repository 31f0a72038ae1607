"""parts_of: rows of several parts, which are numbered through, sorted by their part."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Part(NamedTuple):
    """The rows of a batch that lie in one part.

    Args:
        number: of the part.
        positions: intp (P,), their positions in the batch, ascending.
        rows: intp (P,), their numbers in the part.
    """

    number: int
    positions: NDArray[np.intp]
    rows: NDArray[np.intp]


def parts_of(offsets: NDArray[np.int64], indices: NDArray[np.intp]) -> Iterator[Part]:
    """Yields the parts that the rows of a batch lie in, each once; at least one.

    Args:
        offsets: int64 (D + 1,): part d holds rows ``offsets[d]:offsets[d + 1]``.
        indices: intp (B,) in ``[0, offsets[-1])``.
    """
    if len(indices) == 0:
        yield Part(0, indices, indices)  # any part gives an empty batch
        return
    # From the right, because a part without rows begins where the next one begins.
    numbers = np.searchsorted(offsets, indices, side="right") - 1
    order = np.argsort(numbers, kind="stable")
    first_of_each = np.flatnonzero(np.diff(numbers[order], prepend=-1))
    for positions in np.split(order, first_of_each[1:]):
        number = int(numbers[positions[0]])
        yield Part(number, positions, indices[positions] - offsets[number])
