"""What is drawn on the pictures of a page: boxes and points, as paths of SVG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from processing.report.pictures import Picture

MOST_DRAWN: Final = 60_000
"""Boxes and points drawn on all pictures of a page together: less than 2 MB."""
_COLOURS: Final = 6  # of boxes

Outline = tuple[str, str]
"""Style and path of all that has one colour on a picture."""


def most_of_each(pictures: Sequence[Picture], total: int = MOST_DRAWN) -> int:
    """Returns how many boxes or points may be drawn on each picture: all, if the page has room.

    Args:
        pictures: of the page.
        total: boxes and points of all pictures, at most.
    """
    counts = [len(values) for p in pictures for values in (p.boxes, p.points, p.lost)]
    low, high = 0, max(counts, default=0)
    while low < high:
        middle = (low + high + 1) // 2
        if sum(min(count, middle) for count in counts) <= total:
            low = middle
        else:
            high = middle - 1
    return low


def outlines_of(picture: Picture, labels: Sequence[int], most: int) -> list[Outline]:
    """Returns what is drawn on a picture.

    Args:
        picture: the picture.
        labels: of its boxes, as numbers of all categories of the page.
        most: boxes and points, at most of each.
    """
    paths: dict[str, list[str]] = {}
    for box, label in list(zip(picture.boxes.tolist(), labels, strict=False))[:most]:
        paths.setdefault(f"box c{max(0, label) % _COLOURS}", []).append(_box(box))
    for x, y, visibility in picture.points[:most].tolist():
        if visibility > 0:
            style = "point visible" if visibility > 1 else "point hidden-point"
            paths.setdefault(style, []).append(f"M{_short(x)} {_short(y)}h0")
    for box in picture.lost[:most].tolist():
        paths.setdefault("box lost", []).append(_box(box))
    return [(style, "".join(pieces)) for style, pieces in paths.items()]


def _box(box: Sequence[float]) -> str:
    x1, y1, x2, y2 = box
    return f"M{_short(x1)} {_short(y1)}H{_short(x2)}V{_short(y2)}H{_short(x1)}Z"


def _short(number: float) -> str:
    """Returns a coordinate with one decimal; numbers beyond all pictures are cut."""
    bounded = min(max(float(np.nan_to_num(number)), -1e5), 1e5)
    return f"{bounded:.1f}".removesuffix(".0")
