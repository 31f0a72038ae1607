"""Parses the rows of YOLO's label files. The rules are in `yolo.reader`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from processing.core.annotations import Instance
from processing.core.errors import AnnotationError
from processing.sources.text import malformed, numbers_of
from processing.sources.yolo.data_yaml import MAX_CLASSES, KeypointShape

_BOX_NUMBERS: Final = 4
_VISIBLE: Final = 2.0


def parse_row(
    words: Sequence[str], labels: Mapping[int, int] | None, shape: KeypointShape | None
) -> Instance:
    """Parses one row.

    Args:
        words: the columns of the row.
        labels: the label of each class id. None for a data set without names: every class id is
            its own label.
        shape: the data set's keypoint shape, if it declares one.

    Raises:
        AnnotationError: the row does not fit the data set; reason ``malformed``. Or its class has
            no name; reason ``unknown_category``.
    """
    numbers = numbers_of(words)
    if numbers is None or len(numbers) <= _BOX_NUMBERS:
        raise malformed(
            "expected a class and the numbers of its box, separated by spaces, found "
            f"{' '.join(words)[:80]!r}"
        )
    class_id, values = numbers[0], numbers[1:]
    if not 0 <= class_id < MAX_CLASSES or not class_id.is_integer():
        raise malformed(f"class id {words[0]}: expected an integer from 0")
    points: list[list[float]] = []
    if len(values) > _BOX_NUMBERS and len(values) % 2 == 0 and shape is None:
        box = _bounds_of_polygon(values)
    else:
        box = _corners(values[:_BOX_NUMBERS])
        if len(values) > _BOX_NUMBERS:
            points = _points(values[_BOX_NUMBERS:], shape)
    label = int(class_id)
    if labels is not None:
        if label not in labels:
            message = f"class id {label}, expected one of the {len(labels)} that the data set names"
            raise AnnotationError(message, reason="unknown_category")
        label = labels[label]
    return Instance(label, box, points=points)


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
        raise malformed(f"after the box expected {expected} or nothing, found {found}")
    points = np.array(values).reshape(count, size)
    if size == 2:
        # Without visibility, 0, 0 is YOLO's way to write that a point is not labelled.
        visibility = np.where(points.any(axis=1), _VISIBLE, 0.0)
        points = np.column_stack([points, visibility])
    if not points[:, 2].any():
        return []
    rows: list[list[float]] = points.tolist()
    return rows
