"""Boxes of a whole CSV table: checks that need all its rows, and the numbers as corners."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from processing.core.annotations import NOT_DECLARED
from processing.core.errors import AnnotationError

if TYPE_CHECKING:
    from processing.sources.csv_manifest.columns import BoxStyle
    from processing.sources.csv_manifest.header import Header
    from processing.sources.csv_manifest.rows import Four, Row

_ROUNDING = 1.0
"""Pixels by which a size may differ from that of its rounded corners."""


def corners_of(header: Header, rows: Sequence[Row]) -> list[Four | None]:
    """Returns x1, y1, x2, y2 of every row; None for a row without a box.

    Raises:
        AnnotationError: it is unknown what the numbers of a single column mean; reason
            ``ambiguous_columns``.
    """
    if header.roles.box is None:
        return [None] * len(rows)
    style = header.roles.box.style
    if style == "list":
        style = "size" if header.box_is_x_y_width_height else _style_of_list(header, rows)
    return [None if row.numbers is None else _corners(style, row.numbers) for row in rows]


def check_sizes(header: Header, rows: list[Row], boxes: Sequence[Four | None]) -> list[Row]:
    """Removes the sizes of images where the columns turn out to be the sizes of the boxes.

    Tables such as ``x1, y1, x2, y2, width, height`` repeat the box; TensorFlow's ``width`` and
    ``height`` are those of the image. Only the numbers of all rows can show which it is.
    """
    if header.roles.size is None or header.roles.size_is_certain:
        return rows
    compared = False
    for row, box in zip(rows, boxes, strict=True):
        if box is None or row.size == NOT_DECLARED:
            continue
        compared = True
        height, width = row.size
        left, top, right, bottom = box
        if abs(right - left - width) > _ROUNDING or abs(bottom - top - height) > _ROUNDING:
            return rows
    if not compared:
        return rows
    return [dataclasses.replace(row, size=NOT_DECLARED) for row in rows]


def _corners(style: BoxStyle, numbers: Four) -> Four:
    first, second, third, fourth = numbers
    if style == "size":
        return first, second, first + third, second + fourth
    if style == "centre":
        x, y = first - third / 2, second - fourth / 2
        return x, y, x + third, y + fourth
    return numbers


def _style_of_list(header: Header, rows: Sequence[Row]) -> BoxStyle:
    """Decides by all rows whether four numbers are two corners, or a corner and the size."""
    may_be_corners = may_be_size = True
    for row in rows:
        if row.numbers is None:
            continue
        first, second, third, fourth = row.numbers
        height, width = row.size
        if third <= first or fourth <= second:
            may_be_corners = False
        if row.size != NOT_DECLARED and (first + third > width or second + fourth > height):
            may_be_size = False
    if may_be_corners == may_be_size:
        raise AnnotationError(
            f"line {header.line}: one column holds all four numbers of a box, and it is unknown "
            "whether they are x, y, width, height or two corners: write them into four columns "
            "with names such as x,y,width,height or xmin,ymin,xmax,ymax",
            reason="ambiguous_columns",
        )
    return "corners" if may_be_corners else "size"
