"""Decides whether the long rows of a data set without ``kpt_shape`` are polygons or points.

A row of a box and points looks like a polygon: both are a class and many fractions. Reading one for
the other would give wrong boxes, so all rows of the data set are compared with three readings:

- a box and K points of x, y and visibility: every third number after the box is 0, 1 or 2;
- a box and K points of x and y: the box lies in the image and encloses the points;
- a polygon: an even number of fractions.

Points have the same number in all rows, so rows of different lengths are polygons. Otherwise the
reading that fits all rows is taken, if no other one is likely. Pose rows always fit a polygon too.
They are taken for points if the polygons would cross themselves. Corners of (rotated) rectangles,
and rows that end with the corner they begin with, are polygons. Everything else is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from processing.sources.yolo.rows import BOX_NUMBERS, TOLERANCE, LongRows, Row

_SAME_LENGTH: Final = 0.9
"""So many of the long rows must have one length, if they are boxes and points."""
_LIKELY: Final = 0.5
_NEARLY_ALL: Final = 0.9
_RARELY: Final = 0.05
_POINT_OUTSIDE: Final = 0.1
"""Points may lie outside of their box by this share of its size."""
_MIN_TO_DECIDE: Final = 3
"""Fewer points per row are not enough to tell points from a polygon that crosses itself."""
_SAMPLE: Final = 200
_MIN_ROWS: Final = 5
_REMEDY: Final = (
    "give kpt_shape in data.yaml, such as kpt_shape: [{count}, {size}]; for polygons, "
    "set polygons: true in the entry of `sources`"
)


def decide(rows: Sequence[Row]) -> LongRows:
    """Decides how to read long rows.

    Args:
        rows: all rows of a data set that are longer than a box.
    """
    if not rows:
        return LongRows()
    lengths = Counter(len(row.values) for row in rows)
    length, count = lengths.most_common(1)[0]
    if count < _SAME_LENGTH * len(rows):
        return _decide_mixture(rows, lengths)
    values = np.array([row.values for row in rows if len(row.values) == length])
    fits = _Fits(values)
    if min(fits.outline, fits.polygon) >= _NEARLY_ALL:
        return LongRows(details="rows of corners read as polygons")
    poses = [fit for fit in (fits.three, fits.two) if fit >= _NEARLY_ALL]
    if not poses and _are_outlines(fits, values):
        return LongRows(details="long rows read as polygons")
    if fits.confidences >= _LIKELY and max(fits.three, fits.two) < _LIKELY:
        return _refused(
            "rows of a box and points with fractions in the place of visibilities: these look like "
            "predictions; remove the confidences, or",
            fits,
        )
    if not poses:
        return _decide_without_points(fits)
    if len(poses) == 2 and (fits.three == 1) == (fits.two == 1):
        return _refused("the rows may be points with or without visibility:", fits)
    size = 3 if fits.three >= fits.two else 2
    surely_no_polygon = fits.polygon < 1 and max(poses) == 1
    if surely_no_polygon or fits.polygon < _LIKELY:
        return _as_points(fits, size)
    enough = fits.count(size) >= (_MIN_TO_DECIDE if size == 2 else 2)
    if max(poses) == 1 and enough and _crossing(values) > _LIKELY:
        return _as_points(fits, size)
    return _refused(f"rows of {length} numbers may be polygons, or a box and points:", fits)


class _Fits:
    """The shares of rows that fit each reading.

    Args:
        values: float64 (n, length), the numbers after the class.
    """

    def __init__(self, values: NDArray[np.float64]) -> None:
        self.length = values.shape[1]
        after = self.length - BOX_NUMBERS
        self.three = self.two = self.confidences = self.polygon = self.outline = 0.0
        box, fractions = values[:, :BOX_NUMBERS], _is_fraction(values)
        is_box = fractions[:, :BOX_NUMBERS].all(axis=1) & (box[:, 2:] > 0).all(axis=1)
        if after % 3 == 0:
            points = values[:, BOX_NUMBERS:].reshape(len(values), -1, 3)
            xy, third = points[..., :2], points[..., 2]
            unlabelled = _is_unlabelled(xy)
            placed = unlabelled | (third == 0) | _is_fraction(xy).all(axis=-1)
            visibility = np.isin(third, (0, 1, 2)) | unlabelled
            self.three = _share(is_box & (placed & visibility).all(axis=1))
            in_range = (_is_fraction(third) & _encloses(box, xy)).all(axis=1)
            self.confidences = _share(is_box & in_range)
        if after % 2 == 0:
            xy = values[:, BOX_NUMBERS:].reshape(len(values), -1, 2)
            unlabelled = _is_unlabelled(xy) | (xy == 0).all(axis=-1)
            placed = unlabelled | (_is_fraction(xy).all(axis=-1) & _encloses(box, xy))
            self.two = _share(is_box & _in_image(box) & placed.all(axis=1))
            self.polygon = _share(fractions.all(axis=1))
            closed = (values[:, :2] == values[:, -2:]).all(axis=1)
            self.outline = _share(closed | _is_parallelogram(values))

    def count(self, size: int) -> int:
        """The number of points of `size` numbers after the box."""
        return int(self.length - BOX_NUMBERS) // size


def _is_fraction(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    return (values >= -TOLERANCE) & (values <= 1 + TOLERANCE)


def _is_parallelogram(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Marks the rows of four corners of a rectangle, also of a rotated one."""
    if values.shape[1] != 2 * 4:
        return np.zeros(len(values), dtype=bool)
    corners = values.reshape(-1, 4, 2)
    gap = corners[:, 0] + corners[:, 2] - corners[:, 1] - corners[:, 3]
    return np.asarray((np.abs(gap) < 2 * TOLERANCE).all(axis=1))


def _is_unlabelled(xy: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray((xy == -1).all(axis=-1) | np.isnan(xy).any(axis=-1))


def _in_image(box: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Marks the boxes that lie in the image; some programs do not cut them exactly."""
    edges = np.abs(box[:, :2] - 0.5) + box[:, 2:] / 2
    return np.asarray((edges <= 0.5 + 0.02).all(axis=1))


def _encloses(box: NDArray[np.float64], xy: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Returns bool (n, K), whether the box of each row encloses each of its points."""
    reach = box[:, None, 2:] * (0.5 + _POINT_OUTSIDE) + TOLERANCE
    return np.asarray((np.abs(xy - box[:, None, :2]) <= reach).all(axis=-1))


def _share(marked: Any) -> float:
    return float(marked.mean())


def _as_points(fits: _Fits, size: int) -> LongRows:
    count = fits.count(size)
    details = f"rows of {fits.length} numbers read as a box and {count} points of {size} numbers"
    return LongRows((count, size), details=details)


def _refused(why: str, fits: _Fits) -> LongRows:
    size = 3 if fits.three >= max(fits.two, 0.1) else 2
    return LongRows(refusal=f"{why} {_REMEDY.format(count=fits.count(size), size=size)}")


def _are_outlines(fits: _Fits, values: NDArray[np.float64]) -> bool:
    """Whether polygons do not cross themselves, as those of boxes and points mostly would."""
    corners = fits.length // 2
    enough = corners > 3 and len(values) >= _MIN_ROWS * (1 if corners > 4 else 2)
    return enough and fits.polygon >= _NEARLY_ALL and _crossing(values) <= _RARELY


def _decide_without_points(fits: _Fits) -> LongRows:
    # Boxes with some points outside look like this. Their polygons would be wrong boxes.
    if max(fits.two, fits.three) >= _LIKELY:
        return _refused("most rows, but not all, look like a box and points:", fits)
    if 0 < fits.polygon < _LIKELY:
        return _refused("only some rows look like polygons:", fits)
    return LongRows(details="long rows read as polygons" if fits.polygon else "")


def _decide_mixture(rows: Sequence[Row], lengths: Counter[int]) -> LongRows:
    """Decides for rows of different lengths: polygons, unless many look like points."""
    for length, count in lengths.most_common(3):
        if count >= max(_MIN_ROWS, 0.2 * len(rows)):
            fits = _Fits(np.array([row.values for row in rows if len(row.values) == length]))
            if max(fits.three, fits.two) >= _NEARLY_ALL and fits.outline < _NEARLY_ALL:
                return _refused(
                    f"rows of {length} numbers look like a box and points, others do not:", fits
                )
    return LongRows(details="long rows read as polygons")


def _crossing(values: NDArray[np.float64]) -> float:
    """Returns the share of rows that cross or touch themselves if they are read as polygons."""
    sample = values[:: max(1, len(values) // _SAMPLE)]
    return float(np.mean([_crosses_itself(row.reshape(-1, 2)) for row in sample]))


def _crosses_itself(corners: NDArray[np.float64]) -> bool:
    n = len(corners)
    starts, ends = corners, np.roll(corners, -1, axis=0)
    first, second = np.triu_indices(n, k=2)
    # The last side and the first one share a corner, like all neighbours.
    apart = ~((first == 0) & (second == n - 1))
    first, second = first[apart], second[apart]
    a, b, c, d = starts[first], ends[first], starts[second], ends[second]
    one_side = _turn(a, b, c) * _turn(a, b, d) <= 0
    other_side = _turn(c, d, a) * _turn(c, d, b) <= 0
    return bool((one_side & other_side).any())


def _turn(
    a: NDArray[np.float64], b: NDArray[np.float64], c: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Returns the cross product of b - a and c - a; its sign is the side of c."""
    turn: NDArray[np.float64] = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (
        c[:, 0] - a[:, 0]
    )
    return turn
