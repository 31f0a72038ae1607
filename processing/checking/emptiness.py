"""Finds annotations that are empty where others are not: photographs, and sets of points."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from processing.checking.findings import Finding, Severity, sample
from processing.core.annotations import SPLITS, AnnotationTable, Flag
from processing.core.messages import counted

_MANY: Final = 0.4
_FEWEST: Final = 8
"""Share of a split's photographs without objects, and their number, from which on their labels may
be lost. The real data sets have at most 0.06."""


def check_emptiness(table: AnnotationTable, splits: NDArray[np.int8]) -> Iterator[Finding]:
    """Finds photographs without objects, and keypoints that are all marked as not labelled.

    Args:
        table: the annotations.
        splits: int8 (N,), positions in `SPLITS`.
    """
    yield from _photographs(table, splits)
    yield from _points(table)


def _photographs(table: AnnotationTable, splits: NDArray[np.int8]) -> Iterator[Finding]:
    empty = np.diff(table.offsets) == 0
    count = int(empty.sum())
    if not count:
        return
    paths = table.image_paths[empty].tolist()
    message = f"{counted(count, 'photograph')} without objects, stored as such: {sample(paths)}"
    shares, remedy = [], ""
    for number, name in enumerate(SPLITS):
        own = empty[splits == number]
        if not len(own):
            continue
        shares.append(f"{int(own.sum()):,} of {len(own):,} in {name}")
        if own.mean() >= _MANY and own.sum() >= _FEWEST:
            remedy = "look at a few of them: were their labels emptied, or not drawn yet?"
    severity: Severity = "info"
    if remedy:
        severity = "warning"
        message += f"; these are many: {', '.join(shares)}"
    yield Finding("negatives", severity, "", message, remedy, count=count)


def _points(table: AnnotationTable) -> Iterator[Finding]:
    """Finds objects without a labelled point in sets whose objects have points."""
    lengths = table.points.lengths
    boxed = (table.flags & np.uint8(Flag.NO_BOX | Flag.CROWD)) == 0
    for set_id, annotation_set in enumerate(table.annotation_sets):
        own = table.instance_set_ids == set_id
        # Categories without any points are those of other objects.
        own &= np.isin(table.labels, np.unique(table.labels[own & (lengths > 0)]))
        total = int(own.sum())
        without = own & boxed & (lengths == 0)
        count = int(without.sum())
        if count and count < total:
            path = annotation_set.path
            message = f"{count:,} of {counted(total, 'object')} of {path} have no labelled point"
            yield Finding("objects_without_points", "info", path, message, count=count)
