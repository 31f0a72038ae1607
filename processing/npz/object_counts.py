"""ObjectCounts: objects, categories and keypoints of rows, counted in chunks of bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from processing.core.columns import ColumnArray, RaggedArray
from processing.core.errors import damaged

_ROWS_AT_ONCE: Final = 1 << 18
"""Rows or values that are counted together."""
_MOST_NUMBERS: Final = 1 << 20
"""Labels below this number are counted by a table."""


@dataclass(frozen=True, slots=True)
class ObjectCounts:
    """The objects of some rows: boxes of a detector; elsewhere each row is one object.

    Args:
        by_category: objects by category, the most frequent first. Files that name no category have
            the labels as text; without labels it is empty.
        rows_by_objects: by number of objects, the rows that have as many.
        rows_by_points: by number of keypoints, the rows that have as many.
    """

    by_category: Mapping[str, int] = field(default_factory=dict)
    rows_by_objects: Mapping[int, int] = field(default_factory=dict)
    rows_by_points: Mapping[int, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Number of objects."""
        return sum(objects * rows for objects, rows in self.rows_by_objects.items())

    @property
    def empty(self) -> int:
        """Rows without an object."""
        return self.rows_by_objects.get(0, 0)

    def __add__(self, other: ObjectCounts) -> ObjectCounts:
        categories = Counter(self.by_category) + Counter(other.by_category)
        return ObjectCounts(
            # Also those without any object, which `+` leaves out.
            _most_frequent({**self.by_category, **other.by_category} | categories),
            _sorted(Counter(self.rows_by_objects) + Counter(other.rows_by_objects)),
            _sorted(Counter(self.rows_by_points) + Counter(other.rows_by_points)),
        )


def count_objects(
    parts: Iterable[Mapping[str, ColumnArray]],
    category_names: Sequence[str],
    rows: int,
    *,
    where: str,
    before_chunk: Callable[[], None] = lambda: None,
) -> ObjectCounts:
    """Counts objects.

    Args:
        parts: the annotations of some rows each, as `Contents.annotations` has them.
        category_names: in the order of the labels.
        rows: number of all rows, for files whose rows are one object each.
        where: the file, for messages.
        before_chunk: called before each chunk is read: to check the file, and to give memory back.

    Raises:
        NPZFormatError: the offsets of a member decrease.
    """
    numbers: Counter[int] = Counter()
    by_objects: Counter[int] = Counter()
    by_points: Counter[int] = Counter()
    for part in parts:
        boxes, points = part.get("bboxes"), part.get("keypoints")
        if isinstance(boxes, RaggedArray):
            by_objects += _counted_lengths(boxes, f"{where}: member 'bboxes_offsets'", before_chunk)
        if isinstance(points, RaggedArray):
            by_points += _counted_lengths(
                points, f"{where}: member 'keypoints_offsets'", before_chunk
            )
        elif points is not None and len(points):
            by_points[points.shape[1]] += len(points)
        if (labels := part.get("labels")) is not None:
            numbers += _counted_labels(labels, before_chunk)
    if not by_objects and rows:
        by_objects[1] = rows
    total = sum(count * number for count, number in by_objects.items())
    if not numbers and len(category_names) == 1:  # then there are no labels
        numbers[0] = total
    by_category = dict.fromkeys(category_names, 0)
    for number, count in numbers.items():
        known = 0 <= number < len(category_names)
        by_category[category_names[number] if known else str(number)] = count
    return ObjectCounts(_most_frequent(by_category), _sorted(by_objects), _sorted(by_points))


def _most_frequent(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def _sorted(counts: Mapping[int, int]) -> dict[int, int]:
    return dict(sorted(counts.items()))


def _counted_lengths(
    column: RaggedArray, where: str, before_chunk: Callable[[], None]
) -> Counter[int]:
    counts: Counter[int] = Counter()
    for start in range(0, len(column), _ROWS_AT_ONCE):
        before_chunk()
        offsets = column.offsets[start : start + _ROWS_AT_ONCE + 1].astype(np.int64)
        lengths = np.diff(offsets)
        if len(lengths) and lengths.min() < 0:
            row = start + int(lengths.argmin())
            raise damaged(f"{where}, row {row}", f"a length of {lengths.min()}")
        counts += _counted(lengths)
    return counts


def _counted_labels(column: ColumnArray, before_chunk: Callable[[], None]) -> Counter[int]:
    before_chunk()
    values = column
    if isinstance(column, RaggedArray):  # a part may be a slice of a file
        values = column.values[column.offsets[0] : column.offsets[-1]]
    counts: Counter[int] = Counter()
    for start in range(0, len(values), _ROWS_AT_ONCE):
        before_chunk()
        counts += _counted(np.asarray(values[start : start + _ROWS_AT_ONCE], np.int64))
    return counts


def _counted(numbers: NDArray[np.int64]) -> Counter[int]:
    """Returns how often each number occurs."""
    if len(numbers) and numbers.min() >= 0 and numbers.max() < _MOST_NUMBERS:
        table = np.bincount(numbers)
        found = np.flatnonzero(table)
        return Counter(dict(zip(found.tolist(), table[found].tolist(), strict=True)))
    distinct, counts = np.unique(numbers, return_counts=True)
    return Counter(dict(zip(distinct.tolist(), counts.tolist(), strict=True)))
