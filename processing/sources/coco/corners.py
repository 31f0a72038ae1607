"""Finds COCO files whose ``bbox`` holds two corners instead of a corner and the size."""

from __future__ import annotations

from typing import Final

import numpy as np

from processing.core.annotations import AnnotationTable
from processing.core.errors import AnnotationError

_FEWEST: Final = 3
"""Boxes that a file must have before their places say anything about all of it."""
_SHARE: Final = 0.25
_ROUNDING: Final = 1.0
_TOO_LARGE: Final = 1.05
"""Boxes drawn a little too large reach beyond an image by less than this."""
_FIRST: Final = 1000


def check_not_corners(table: AnnotationTable) -> None:
    """Checks that the boxes of a file are not two corners each.

    Read as a corner and the size, corners of a box right of the middle of an image reach beyond the
    image. Of a usual file, in turn, some box lies further from the origin than it is large.

    Args:
        table: of one file.

    Raises:
        AnnotationError: all boxes make sense as corners, and many do not as a corner and the size;
            reason ``looks_like_corners``.
    """
    # Nearly all files show in their first boxes that they are right.
    for count in (min(_FIRST, len(table.boxes)), len(table.boxes)):
        beyond = _beyond_if_corners(table, count)
        if beyond < _SHARE:
            return
    n = int(np.flatnonzero(np.isfinite(table.boxes[:, 0]))[0])
    left, top, right, bottom = table.boxes[n].tolist()
    written = [left, top, right - left, bottom - top]
    raise AnnotationError(
        f"{beyond:.0%} of its boxes reach beyond their images as x, y, width, height, and all of "
        f"them fit as two corners, such as annotations[{table.entries[n]}] with "
        f"{[round(value, 2) for value in written]}; expected bbox as x, y, width, height: subtract "
        "the first corner from the second one",
        reason="looks_like_corners",
    )


def _beyond_if_corners(table: AnnotationTable, count: int) -> float:
    """Returns the share of the first boxes that leave their images; 0 if any cannot be corners."""
    images = np.searchsorted(table.offsets, np.arange(count), side="right") - 1
    sizes = table.declared_sizes[images, ::-1]
    known = (sizes > 0).all(axis=1) & np.isfinite(table.boxes[:count]).all(axis=1)
    edges, boxes = sizes[known] + _ROUNDING, table.boxes[:count][known]
    second = boxes[:, 2:] - boxes[:, :2]
    if len(boxes) < _FEWEST or not ((second > boxes[:, :2]) & (second <= edges)).all():
        return 0.0
    return float((boxes[:, 2:] > _TOO_LARGE * edges).any(axis=1).mean())
