"""Parses the rows of YOLO's label files. The rules are in `yolo.reader`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from processing.core.annotations import Instance
from processing.core.errors import AnnotationError
from processing.sources.text import numbers_of

KeypointShape = tuple[int, int]
"""The number of points, at least 1, and of numbers for each: 2 for x, y or 3 with visibility."""

MAX_CLASSES: Final = 1 << 16
"""More classes than any data set has. A greater class id is damage, and would need a name each."""

_BOX_NUMBERS: Final = 4
_VISIBLE: Final = 2.0


@dataclass(frozen=True, slots=True)
class LabelRow:
    """One row of a label file.

    Args:
        line: number of its line.
        class_id: the class as written.
        instance: the object, without a label until all classes are known.
    """

    line: int
    class_id: int
    instance: Instance


def parse_row(line: int, words: Sequence[str], shape: KeypointShape | None) -> LabelRow:
    """Parses one row.

    Args:
        line: number of the line in the file, from 1.
        words: the columns of the row.
        shape: the data set's keypoint shape, if it declares one.

    Raises:
        AnnotationError: the row does not fit the data set; reason ``malformed``.
    """
    numbers = numbers_of(words)
    if numbers is None or len(numbers) <= _BOX_NUMBERS:
        raise AnnotationError(
            "expected a class and the numbers of its box, separated by spaces, found "
            f"{' '.join(words)[:80]!r}",
            reason="malformed",
        )
    class_id, values = numbers[0], numbers[1:]
    if not 0 <= class_id < MAX_CLASSES or not class_id.is_integer():
        raise AnnotationError(
            f"class id {words[0]}: expected an integer from 0", reason="malformed"
        )
    if len(values) == _BOX_NUMBERS:
        instance = Instance(0, _corners(values))
    elif shape is None and len(values) % 2 == 0:
        instance = Instance(0, _bounds_of_polygon(values))
    else:
        points = _points(values[_BOX_NUMBERS:], shape)
        instance = Instance(0, _corners(values[:_BOX_NUMBERS]), points=points)
    return LabelRow(line, int(class_id), instance)


def _corners(values: Sequence[float]) -> tuple[float, float, float, float]:
    x, y, width, height = values
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _bounds_of_polygon(values: Sequence[float]) -> tuple[float, float, float, float]:
    corners = np.array(values).reshape(-1, 2)
    # Numpy's minimum of NaN is NaN, and the repairs drop that. Python's depends on the order.
    (x1, y1), (x2, y2) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    return x1, y1, x2, y2


def _points(values: Sequence[float], shape: KeypointShape | None) -> list[list[float]]:
    count, size = shape or (len(values) // 3, 3)
    if len(values) != count * size:
        expected = f"{count} points of {size} numbers" if shape else "points of 3 numbers"
        found = f"{len(values)} numbers"
        if len(values) == 1:
            found = "1 number; a confidence, as predictions have it, must be removed"
        raise AnnotationError(
            f"after the box expected {expected} or nothing, found {found}", reason="malformed"
        )
    points = np.array(values).reshape(count, size)
    if size == 2:
        # Without visibility, 0, 0 is YOLO's way to write that a point is not labelled.
        visibility = np.where(points.any(axis=1), _VISIBLE, 0.0)
        points = np.column_stack([points, visibility])
    if not points[:, 2].any():
        return []
    rows: list[list[float]] = points.tolist()
    return rows
