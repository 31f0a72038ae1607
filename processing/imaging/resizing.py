"""Renders a rectangle of a photo as a stored image: placed, resized, padded.

Functions are safe from several threads; OpenCV releases the GIL while it works.
"""

from __future__ import annotations

import math
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from processing.core.coordinates import Rect, Size
from processing.imaging.photo import Photo
from processing.imaging.placement import place, rendered_rect

PADDING: Final = 114
"""Grey level outside the image; the customary one of detectors."""

# By how much a cubic may thin out pixels before they are averaged; more would lose sharp detail.
_THINNING: Final = 0.1


def render(photo: Photo, rect: Rect, size: Size, out: NDArray[np.uint8]) -> Rect | None:
    """Renders a rectangle of a photo as a stored image.

    Args:
        photo: the photo.
        rect: x1, y1, x2, y2 in upright source pixels; may reach beyond the image.
        size: height, width of the stored image.
        out: uint8 (*size, 3), overwritten; grey 114 where the rectangle leaves the image.

    Returns:
        The rectangle that `out` shows: `rect` rounded to pixels, exact for mapping coordinates.
        None if the rectangle shows nothing of the image; `out` is left as it was.
    """
    spans = place(rect, photo.source_size, size, photo.reduction)
    if spans is None:
        return None
    x, y = spans
    reduction = photo.reduction
    # Round the ends up: the last row and column may be partial.
    inner = photo.pixels[
        y.source_start // reduction : -(-y.source_stop // reduction),
        x.source_start // reduction : -(-x.source_stop // reduction),
    ]
    height, width = y.stop - y.start, x.stop - x.start
    if height != size[0]:
        out[: y.start] = out[y.stop :] = PADDING
    if width != size[1]:
        out[y.start : y.stop, : x.start] = out[y.start : y.stop, x.stop :] = PADDING
    out[y.start : y.stop, x.start : x.stop] = _resize(
        inner, (height, width), (y.shrink / reduction, x.shrink / reduction), averaged=reduction > 1
    )
    return rendered_rect(spans, size)


def _resize(
    pixels: NDArray[Any], size: Size, shrink: tuple[float, float], *, averaged: bool
) -> NDArray[Any]:
    """Shrinks by averaging the area of each new pixel; enlarges by interpolation.

    Args:
        pixels: uint8 (h, w, 3); the last row and column may be partial.
        size: height, width of the result.
        shrink: how many of `pixels`, vertically and horizontally, make one pixel of the result.
        averaged: whether `pixels` are means of finer pixels already. If an area cuts through such
            a pixel, a cubic through its neighbours estimates the part better than its mean.
    """
    height, width = size
    if min(shrink) < 1:
        # OpenCV's area averaging does not interpolate.
        return _scale(pixels, shrink, cv2.INTER_LINEAR)[:height, :width]
    fy, fx = (math.ceil(factor - _THINNING) for factor in shrink)
    # Areas that cut through pixels need weights; whole numbers of pixels per area do not.
    if (fy, fx) != shrink:
        if not averaged:
            return _scale(pixels, shrink, cv2.INTER_AREA)[:height, :width]
        stretched = _scale(pixels, (shrink[0] / fy, shrink[1] / fx), cv2.INTER_CUBIC)
        if stretched.shape == pixels.shape:
            # OpenCV took factors near 1 for 1 and copied the image (its issue 11779).
            fy += 1
            stretched = _scale(pixels, (shrink[0] / fy, shrink[1] / fx), cv2.INTER_CUBIC)
        pixels = stretched
    pixels = pixels[: fy * height, : fx * width]
    while fy % 2 == fx % 2 == 0:  # OpenCV vectorises means of 2x2, but not of 4x4
        fy, fx = fy // 2, fx // 2
        pixels = cv2.resize(pixels, (fx * width, fy * height), interpolation=cv2.INTER_AREA)
    if fy == fx == 1:
        return pixels
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)


def _scale(pixels: NDArray[Any], shrink: tuple[float, float], interpolation: int) -> NDArray[Any]:
    # Factors, not a target size, which would stretch a partial last row or column.
    fy, fx = 1 / shrink[0], 1 / shrink[1]
    return cv2.resize(pixels, None, fx=fx, fy=fy, interpolation=interpolation)
