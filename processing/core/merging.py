"""merge_rows: one batch out of rows that were gathered in parts. Imports numpy only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from processing.core.columns import ColumnArray, RaggedArray, offsets_of


def merge_rows(
    parts: Sequence[tuple[NDArray[np.intp], Mapping[str, ColumnArray]]],
) -> dict[str, ColumnArray]:
    """Copies rows that were gathered in parts into one batch.

    Args:
        parts: positions in the batch, and the rows that belong there, with the same columns. The
            positions of all parts together are 0 to B - 1, each once.
    """
    order = np.argsort(np.concatenate([positions for positions, _ in parts]))
    first_rows = parts[0][1]
    return {name: _concatenate([rows[name] for _, rows in parts], order) for name in first_rows}


def _concatenate(columns: Sequence[ColumnArray], order: NDArray[np.intp]) -> ColumnArray:
    """Joins the rows of several columns and puts them into the given order."""
    ragged = [column for column in columns if isinstance(column, RaggedArray)]
    if ragged:
        values = np.concatenate([column.values for column in ragged])
        lengths = np.concatenate([column.lengths for column in ragged])
        return RaggedArray(values, offsets_of(lengths), check=False).take(order)
    joined: NDArray[Any] = np.concatenate([np.asarray(column) for column in columns])[order]
    return joined
