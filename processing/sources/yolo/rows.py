"""Parses the rows of label files, and turns them into instances."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from processing.core.annotations import Instance
from processing.core.errors import AnnotationError
from processing.sources.text import malformed, numbers_of
from processing.sources.yolo.data_yaml import MAX_CLASSES, KeypointShape

BOX_NUMBERS: Final = 4
TOLERANCE: Final = 0.001
"""Rounding may put a fraction so far outside of 0..1."""
_SURELY_PIXELS: Final = 1.5
_BEYOND: Final = 0.02
_MIN_BOXES: Final = 3
"""Fewer boxes may reach beyond their images by chance."""
Check = Callable[[Sequence[float]], None]
_VISIBLE: Final = 2.0
_NOT_LABELLED: Final = [0.0, 0.0, 0.0]
_MIN_POLYGON: Final = 6


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a label file.

    Args:
        line: its number from 1.
        class_id: the class.
        values: the numbers after the class, at least four.
    """

    line: int
    class_id: int
    values: tuple[float, ...]

    @property
    def is_box(self) -> bool:
        """Whether the row is a box and nothing more."""
        return len(self.values) == BOX_NUMBERS


@dataclass(frozen=True, slots=True)
class LongRows:
    """How the rows with more numbers than a box are read.

    Args:
        shape: the points that follow a box; None for polygons.
        refusal: why they are not read at all, or ``""``.
        details: the decision as part of a sentence, or ``""``.
    """

    shape: KeypointShape | None = None
    refusal: str = ""
    details: str = ""


def parse_row(line: int, words: Sequence[str]) -> Row:
    """Parses the words of one row.

    Raises:
        AnnotationError: the row is not a class and at least four numbers; reason ``malformed``.
    """
    numbers = numbers_of(words)
    if numbers is None or len(numbers) <= BOX_NUMBERS:
        raise malformed(
            "expected a class and the numbers of its box, separated by spaces, found "
            f"{' '.join(words)[:80]!r}"
        )
    class_id = numbers[0]
    if not 0 <= class_id < MAX_CLASSES or not class_id.is_integer():
        raise malformed(f"class id {words[0]}: expected an integer from 0")
    return Row(line, int(class_id), tuple(numbers[1:]))


def check_centres(boxes: Sequence[Row]) -> None:
    """Checks that the boxes of a data set are centres and sizes.

    Raises:
        AnnotationError: all boxes could be two corners, and half of them reach beyond the image if
            they are centres and sizes; reason ``looks_like_corners``.
    """
    values = np.array([row.values for row in boxes]).reshape(-1, BOX_NUMBERS)
    finite = np.flatnonzero(np.isfinite(values).all(axis=1))
    values = values[finite]
    if len(values) < _MIN_BOXES:
        return
    ordered = (values >= 0) & (values <= 1) & (values >= np.tile(values[:, :2], 2))
    edges = np.abs(values[:, :2] - 0.5) + values[:, 2:] / 2
    beyond = (edges > 0.5 + _BEYOND).any(axis=1)
    if ordered.all() and beyond.mean() >= 0.5:
        row = boxes[int(finite[np.argmax(beyond)])]
        raise AnnotationError(
            f"{np.count_nonzero(beyond)} of {len(boxes)} boxes reach beyond the image, such as "
            f"{_shown(row.values)}: these look like two corners; the rows of YOLO are the centre "
            "and the size of a box",
            reason="looks_like_corners",
        )


def instance_of(row: Row, label: int, long_rows: LongRows, check: Check) -> Instance:
    """Turns a row into an instance.

    Args:
        row: the row.
        label: the label of its class.
        long_rows: how the data set writes points or polygons.
        check: raises an error for coordinates that cannot be: `check_fractions` or `check_pixels`.

    Raises:
        AnnotationError: the row does not fit the data set (reason ``malformed``), its coordinates
            are no fractions (``not_fractions``), or it may mean several things
            (``ambiguous_points``).
    """
    values = row.values
    if row.is_box:
        return Instance(label, _box(values, check), entry=row.line)
    if len(values) == BOX_NUMBERS + 1:
        raise malformed(
            f"after the box expected {_expected(long_rows.shape)} or nothing, found 1 number; a "
            "confidence, as predictions have it, must be removed, and a box with an angle written "
            "as its four corners"
        )
    if long_rows.refusal:
        # Pixels are no fractions, whatever they mean.
        check([value for value in values if value not in (-1, 2)])
        raise AnnotationError(long_rows.refusal, reason="ambiguous_points")
    if long_rows.shape is None:
        return Instance(label, _bounds_of_polygon(values, check), entry=row.line)
    box = _box(values[:BOX_NUMBERS], check)
    points = _points(values[BOX_NUMBERS:], long_rows.shape, check)
    return Instance(label, box, points=points, entry=row.line)


def check_fractions(values: Sequence[float]) -> None:
    """Checks that all coordinates are fractions of the image's width and height.

    Raises:
        AnnotationError: a value is not finite (reason ``malformed``) or not in 0..1
            (``not_fractions``).
    """
    if all(-TOLERANCE <= value <= 1 + TOLERANCE for value in values):
        return
    check_pixels(values)
    remedy = (
        "divide by the image's width and height, or set units: pixels in the entry of `sources`"
    )
    if max(map(abs, values)) < _SURELY_PIXELS:
        remedy = "expected 0 to 1: cut the object at the edges of the image"
    raise AnnotationError(
        f"coordinates are not fractions: {_shown(values)}; {remedy}", reason="not_fractions"
    )


def check_pixels(values: Sequence[float]) -> None:
    """Checks that all coordinates are finite.

    Raises:
        AnnotationError: one is not; reason ``malformed``.
    """
    if not all(map(math.isfinite, values)):
        raise malformed(f"expected finite coordinates, found {_shown(values)}")


def _shown(values: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in values[:8]) + (" …" if len(values) > 8 else "")


def _box(values: Sequence[float], check: Check) -> tuple[float, float, float, float]:
    x, y, width, height = values
    if width < 0 or height < 0:
        raise malformed(f"width {width:g} and height {height:g}: expected positive ones")
    check(values)
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _bounds_of_polygon(values: Sequence[float], check: Check) -> tuple[float, float, float, float]:
    if len(values) % 2 or len(values) < _MIN_POLYGON:
        raise malformed(
            f"after the class expected the four numbers of a box, or the x and y of at least three "
            f"corners, found {len(values)} numbers"
        )
    check(values)
    return min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])


def _expected(shape: KeypointShape | None) -> str:
    return "points" if shape is None else f"{shape[0]} points of {shape[1]} numbers"


def _points(values: Sequence[float], shape: KeypointShape, check: Check) -> list[list[float]]:
    """Returns the points of a row as x, y, visibility; none if no point is labelled."""
    count, size = shape
    if len(values) != count * size:
        raise malformed(
            f"after the box expected {_expected(shape)} or nothing, found {len(values)} numbers"
        )
    points = [_point(values[i : i + size], check) for i in range(0, len(values), size)]
    return points if any(point[2] for point in points) else []


def _point(values: Sequence[float], check: Check) -> list[float]:
    x, y = values[:2]
    if math.isnan(x) or math.isnan(y) or (x == -1 and y == -1):
        return _NOT_LABELLED
    visibility = _VISIBLE
    if len(values) == 2:
        if x == y == 0:
            # Without visibility, 0 0 is YOLO's way to write that a point is not labelled.
            return _NOT_LABELLED
    else:
        visibility = values[2]
        if visibility not in (0, 1, 2):
            raise malformed(
                f"visibility {reprlib.repr(visibility)}: expected 0, 1 or 2; a confidence, as "
                "predictions have it, must be removed"
            )
        if visibility == 0 and not (0 <= x <= 1 and 0 <= y <= 1):
            return _NOT_LABELLED
    check((x, y))
    return [x, y, visibility]
