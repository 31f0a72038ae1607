"""The bounding boxes of the shapes that annotation tools draw. All count from 0.

Every function raises an `AnnotationError` (``malformed``) for a shape without an outline.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from processing.sources.text import malformed

Box = tuple[float, float, float, float]
"""x1, y1, x2, y2."""


def around(points: Sequence[tuple[float, float]], least: int = 2) -> Box:
    """Returns the bounding box of points.

    Args:
        points: x and y of each.
        least: the number of points that the shape has at least.
    """
    if len(points) < least:
        raise malformed(f"expected at least {least} points, found {len(points)}")
    flat = [number for point in points for number in point]
    # min() and max() ignore NaN or not, depending on the order.
    if not all(map(math.isfinite, flat)):
        raise malformed(f"expected finite numbers, found {flat[:8]}")
    left, right = min(x for x, _ in points), max(x for x, _ in points)
    top, bottom = min(y for _, y in points), max(y for _, y in points)
    return left, top, right, bottom


def rectangle(corner: tuple[float, float], opposite: tuple[float, float]) -> Box:
    """Returns the box of two opposite corners in any order."""
    return around([corner, opposite])


def circle(centre: tuple[float, float], on_circle: tuple[float, float]) -> Box:
    """Returns the box around a circle, given by its centre and one of its points."""
    (x, y), (there_x, there_y) = centre, on_circle
    radius = math.hypot(there_x - x, there_y - y)
    return ellipse(centre, radius, radius)


def ellipse(
    centre: tuple[float, float], radius_x: float, radius_y: float, degrees: float = 0
) -> Box:
    """Returns the box around an ellipse.

    Args:
        centre: x and y.
        radius_x: half of its width before it is rotated.
        radius_y: half of its height before it is rotated.
        degrees: its rotation.
    """
    if radius_x < 0 or radius_y < 0:
        raise malformed(f"expected positive radii, found {radius_x:g} and {radius_y:g}")
    _check_angle(degrees)
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    half_width = math.hypot(radius_x * cosine, radius_y * sine)
    half_height = math.hypot(radius_x * sine, radius_y * cosine)
    (x, y) = centre
    return around([(x - half_width, y - half_height), (x + half_width, y + half_height)])


def rotated(box: Box, degrees: float) -> Box:
    """Returns the box around a box that is rotated about its centre, clockwise in degrees."""
    _check_angle(degrees)
    left, top, right, bottom = box
    half_width, half_height = (right - left) / 2, (bottom - top) / 2
    if half_width < 0 or half_height < 0:
        raise malformed(f"expected a box, found {box}")
    sine, cosine = abs(math.sin(math.radians(degrees))), abs(math.cos(math.radians(degrees)))
    wide = half_width * cosine + half_height * sine
    high = half_width * sine + half_height * cosine
    x, y = left + half_width, top + half_height
    return around([(x - wide, y - high), (x + wide, y + high)])


def _check_angle(degrees: float) -> None:
    # math.sin() raises a ValueError for infinity.
    if not math.isfinite(degrees):
        raise malformed(f"expected a finite rotation, found {degrees:g}")
