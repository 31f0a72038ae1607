"""Finds one cause of many photographs whose annotations declare another size. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from processing.checking.findings import Finding
from processing.checking.placed import PlacedAnnotations
from processing.core.messages import counted

_FEWEST: Final = 3
_MOSTLY: Final = 0.8
"""Photographs of another size than declared, and the share of them that a cause has to explain."""
_ROUNDING: Final = 0.02
"""How much two factors may differ: sizes are rounded to pixels."""


def check_declared_sizes(placed: PlacedAnnotations) -> Iterator[Finding]:
    """Finds exchanged numbers, resized photographs, and annotations of neighbours, by set."""
    table = placed.table
    known = (table.declared_sizes > 0).all(axis=1) & (placed.stored_sizes > 0).all(axis=1)
    mismatched = known & (placed.sizes == 0).any(axis=1)
    for set_id, annotation_set in enumerate(table.annotation_sets):
        members = np.flatnonzero(table.set_ids == set_id)
        found = _cause(placed, members, mismatched[members])
        if found is not None:
            kind, message, remedy, count = found
            path = annotation_set.path
            yield Finding(kind, "error", path, message, remedy, count=count)


def _cause(
    placed: PlacedAnnotations, members: NDArray[np.int64], mismatched: NDArray[np.bool_]
) -> tuple[str, str, str, int] | None:
    count = int(mismatched.sum())
    if count < _FEWEST:
        return None
    declared = placed.table.declared_sizes[members]
    stored = placed.stored_sizes[members]
    photographs = counted(count, "photograph")
    if (declared == stored[:, ::-1]).all(axis=1)[mismatched].mean() >= _MOSTLY:
        message = f"width and height are exchanged in the declared sizes of {photographs}"
        return "sizes_exchanged", message, "exchange the two numbers in the annotations", count
    for step, side in ((1, "before"), (-1, "after")):
        of_neighbour = (declared == np.roll(stored, step, axis=0)).all(axis=1)
        if of_neighbour[mismatched].mean() >= _MOSTLY:
            message = f"{photographs} have the declared size of the photograph {side} them"
            remedy = "give each annotation its own photograph: were ids or names shifted by one?"
            return "looks_like_neighbour", message, remedy, count
    factors = stored[mismatched] / declared[mismatched]
    factor = float(np.median(factors))
    if (np.abs(factors / factor - 1) <= _ROUNDING).all(axis=1).mean() >= _MOSTLY:
        message = f"{photographs} have {factor:.3g} times the size that their annotations declare"
        remedy = "use the photographs that were annotated, or multiply sizes and boxes by the same"
        return "photographs_resized", message, remedy, count
    return None
