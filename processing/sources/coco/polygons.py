"""Boxes of COCO annotations that have an outline but no ``bbox``.

Outlines are long, so only those of such annotations are decoded.
"""

from __future__ import annotations

import math
from itertools import chain
from typing import Any, Final

import msgspec

from processing.core.errors import AnnotationError
from processing.sources.coco.entries import Annotation, Chunk, Segmentation, decode
from processing.sources.text import malformed

_LEAST_NUMBERS: Final = 6
"""Numbers of the smallest polygon, a triangle."""


def add_missing_boxes(chunk: Chunk[Annotation]) -> bool:
    """Gives the entries without ``bbox`` the bounding box of their polygons, where they have any.

    Returns:
        Whether any of these entries has an outline, even an unusable one.
    """
    outlined = False
    for i, entry in enumerate(chunk.entries):
        if entry.bbox:
            continue
        try:
            entry.bbox = _box_of_polygons(chunk.written[i])
        except AnnotationError:
            outlined = True
        else:
            outlined |= bool(entry.bbox)
    return outlined


def explain_missing_box(written: Any) -> str:
    """Returns why the outline of an undecoded entry gives no box, as part of a sentence."""
    try:
        _box_of_polygons(written)
    except AnnotationError as error:
        return f"; {error}"
    return ""


def _box_of_polygons(written: Any) -> list[float]:
    """Returns x, y, width, height of an undecoded entry's polygons; empty without an outline.

    Raises:
        AnnotationError: the outline is a mask, or no list of polygons; reason ``malformed``.
    """
    outline = decode(written, Segmentation).segmentation
    if isinstance(outline, dict):
        raise malformed("its segmentation is a run-length mask, from which no box is made")
    if not outline:
        return []
    polygons = _polygons(outline)
    numbers = list(chain.from_iterable(polygons))
    odd = any(len(polygon) % 2 for polygon in polygons)
    if odd or len(numbers) < _LEAST_NUMBERS or not all(map(math.isfinite, numbers)):
        raise malformed(
            f"expected polygons of x and y, at least three points, found {len(numbers)} numbers"
        )
    left, right = min(numbers[0::2]), max(numbers[0::2])
    top, bottom = min(numbers[1::2]), max(numbers[1::2])
    return [left, top, right - left, bottom - top]


def _polygons(outline: Any) -> list[list[float]]:
    """Parses polygons, or the only polygon without the list around it."""
    kinds: tuple[Any, Any] = (list[list[float]], list[float])
    for kind in kinds:
        try:
            parsed = msgspec.convert(outline, kind, strict=False)
        except msgspec.ValidationError:
            continue
        return parsed if kind is kinds[0] else [parsed]
    raise malformed(f"its segmentation is no list of polygons: {str(outline)[:60]}")
