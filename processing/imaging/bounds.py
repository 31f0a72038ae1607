"""How far the boxes and points of images reach, computed for many images at once.

Almost every image has annotations that need no repair. These bounds show that with a few
comparisons of numbers, once the size of the image is known; the repairs themselves take dozens of
numpy calls an image. Pure functions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from processing.core.annotations import AnnotationTable
from processing.core.columns import offsets_of


class Bounds(NamedTuple):
    """Bounds of one image's instances, in the unit of its annotations; NaN if a value is NaN.

    Args:
        right: the largest x2; 0 without instances.
        bottom: the largest y2; 0 without instances.
        width: the smallest x2 - x1; infinity without instances.
        height: the smallest y2 - y1; infinity without instances.
        farthest: the largest absolute value among the points; 0 without points.
    """

    right: float
    bottom: float
    width: float
    height: float
    farthest: float


def bounds_of(table: AnnotationTable, images: NDArray[np.int64]) -> list[Bounds | None]:
    """Computes the bounds of several images.

    Args:
        table: the annotations.
        images: int64 (M,), positions in the table, ascending.

    Returns:
        M bounds; None for an image that has an instance with a flag or with a negative coordinate
        of its box, which the repairs must look at.
    """
    if not len(images):
        return []
    # Slices of the columns: copying the rows of exactly these images would take longer.
    first, stop = int(images[0]), int(images[-1]) + 1
    offsets = table.offsets[first : stop + 1]
    boxes = table.boxes[offsets[0] : offsets[-1]]
    flags = table.flags[offsets[0] : offsets[-1]]
    of_points = table.points.offsets[offsets]
    points = table.points.values[of_points[0] : of_points[-1]]
    offsets, of_points = offsets - offsets[0], of_points - of_points[0]

    # A negative zero is for the repairs as well, which turn it into zero.
    odd = (flags != 0) | np.signbit(boxes).any(axis=1)
    before = offsets_of(odd.view(np.int8))[offsets]
    with np.errstate(invalid="ignore", over="ignore"):  # infinite coordinates are not good ones
        sizes = boxes[:, 2:] - boxes[:, :2]
    bounds = np.stack(
        [
            _per_image(np.maximum, boxes[:, 2], offsets, 0),
            _per_image(np.maximum, boxes[:, 3], offsets, 0),
            _per_image(np.minimum, sizes[:, 0], offsets, np.inf),
            _per_image(np.minimum, sizes[:, 1], offsets, np.inf),
            _per_image(np.maximum, np.abs(points).max(axis=1, initial=0), of_points, 0),
        ],
        axis=1,
    )
    chosen = images - first
    is_odd = (before[1:] > before[:-1])[chosen]
    return [
        None if odd_one else Bounds._make(values)
        for odd_one, values in zip(is_odd.tolist(), bounds[chosen].tolist(), strict=True)
    ]


def _per_image(
    reduce: np.ufunc, values: NDArray[np.float32], offsets: NDArray[np.int64], empty: float
) -> NDArray[np.float32]:
    """Reduces the values of each image; `empty` for an image without values."""
    reduced = np.full(len(offsets) - 1, empty, dtype=np.float32)
    # `reduceat` would take a value of the next image for an empty one.
    filled = offsets[1:] > offsets[:-1]
    if filled.any():
        reduced[filled] = reduce.reduceat(values, offsets[:-1][filled])
    return reduced
