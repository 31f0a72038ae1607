"""Where a rectangle of a photograph lands in a stored image.

Letterbox and crop follow one rule: a stored image shows a rectangle of the upright source image, so
stored and source coordinates differ by one scale and one shift per axis. A rectangle is x1, y1, x2,
y2 in pixels of the upright source image, y down, the corner of the first pixel at (0, 0); it may
reach beyond the image. Sizes are height, width. Pure functions, safe from any thread.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final, NamedTuple

from processing.core.coordinates import Rect, Size

_SHRINK_FOR_REDUCTION: Final = {8: 32, 4: 12, 2: 3.9}
"""By reduction, the source pixels per stored pixel from which on a JPEG may be decoded so reduced.

A JPEG's reduced pixels are means of blocks. `cv2.INTER_AREA` takes means as well, but its areas may
cut a block in two. From these values on, both ways agree to 46 dB on average and to 40 dB in the
sharpest pictures; from twice these values on, to 46 dB in nearly all (`python -m
benchmarks.decoding`).
"""

_SHRINK_FOR_WHOLE: Final = 4
"""The same if each stored pixel is made of whole blocks, as with photographs of 1024x768.

Only the interpolation of colour differs then: 48 dB or more on average, 41 dB at least. A shrink of
2, one block of 2x2 per stored pixel, would give 44 dB in sharp pictures.
"""


class Span(NamedTuple):
    """One axis: source pixels ``source_start:source_stop`` fill stored pixels ``start:stop``."""

    source_start: int
    source_stop: int
    start: int
    stop: int

    @property
    def shrink(self) -> float:
        """Source pixels per stored pixel."""
        return (self.source_stop - self.source_start) / (self.stop - self.start)

    def rendered_range(self, length: int) -> tuple[float, float]:
        """Where an axis of `length` stored pixels begins and ends, in source pixels."""
        low = self.source_start - self.start * self.shrink
        return low, low + length * self.shrink


def letterbox_rect(source_size: Size, size: Size) -> Rect:
    """Returns the rectangle that shows the whole image, centred, as large as `size` allows.

    Args:
        source_size: height, width of the upright image.
        size: height, width of the stored image.
    """
    height, width = source_size
    return crop_rect((0, 0, width, height), 0.0, size)


def crop_rect(box: Iterable[float], margin: float, size: Size) -> Rect:
    """Returns the rectangle that shows a box and its surroundings, in the aspect ratio of `size`.

    Args:
        box: x1, y1, x2, y2 in source pixels, finite; the rectangle's centre is the box's. A box
            smaller than a pixel counts as one pixel wide and high.
        margin: added on each side, as a fraction of the box's own width and height.
        size: height, width of the stored image. The side that is too short for this aspect ratio
            grows.
    """
    # Numbers of an array would be slow, and those of float32 would stay float32.
    x1, y1, x2, y2 = map(float, box)
    height, width = size
    grown = 1 + 2 * margin
    scale = max(max(x2 - x1, 1.0) * grown / width, max(y2 - y1, 1.0) * grown / height)
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    dx, dy = width * scale / 2, height * scale / 2
    return x - dx, y - dy, x + dx, y + dy


def largest_reduction(rect: Rect, source_size: Size, size: Size) -> int:
    """Returns how many times smaller a JPEG may be decoded to show `rect` at `size`: 1, 2, 4 or 8.

    Args:
        rect: the rectangle to show.
        source_size: height, width of the upright image.
        size: height, width of the stored image.
    """
    x1, y1, x2, y2 = rect
    # The tolerance makes up for rounding: a shrink of exactly 4 may come out as 3.9999999.
    shrink = min((x2 - x1) / size[1], (y2 - y1) / size[0]) + 1e-6
    for reduction, least in _SHRINK_FOR_REDUCTION.items():
        if shrink >= least:
            return reduction
        if shrink >= _SHRINK_FOR_WHOLE:
            spans = place(rect, source_size, size, reduction)
            if spans is not None and all(_is_whole(span, reduction) for span in spans):
                return reduction
    return 1


def _is_whole(span: Span, reduction: int) -> bool:
    """Whether each stored pixel of an axis covers whole blocks of `reduction` source pixels."""
    blocks = reduction * (span.stop - span.start)
    return (span.source_stop - span.source_start) % blocks == 0


def place(
    rect: Rect, source_size: Size, size: Size, reduction: int = 1
) -> tuple[Span, Span] | None:
    """Rounds a rectangle to whole pixels: which source pixels go where in the stored image.

    Rounding keeps a square rectangle square, unless the image's edge cuts it.

    Args:
        rect: the rectangle to show, finite.
        source_size: height, width of the upright image.
        size: height, width of the stored image.
        reduction: source spans begin and end at multiples of this number, or at the image's edge.

    Returns:
        The spans along x and y; None if the rectangle shows nothing of the image.
    """
    x1, y1, x2, y2 = rect
    x = _place_axis(x1, x2, source_size[1], size[1], reduction)
    y = _place_axis(y1, y2, source_size[0], size[0], reduction)
    return None if x is None or y is None else (x, y)


def rendered_rect(spans: tuple[Span, Span], size: Size) -> Rect:
    """Returns the rectangle, in source pixels, that a stored image really shows.

    Args:
        spans: the result of `place`.
        size: height, width of the stored image.
    """
    x, y = spans
    (x1, x2), (y1, y2) = x.rendered_range(size[1]), y.rendered_range(size[0])
    return x1, y1, x2, y2


def _place_axis(low: float, high: float, source: int, stored: int, step: int) -> Span | None:
    """Places one axis of a rectangle, ``low`` to ``high``.

    Args:
        low: where the rectangle begins, in source pixels.
        high: where it ends.
        source: length of the source image.
        stored: length of the stored image.
        step: the reduction.
    """
    shrink = (high - low) / stored
    aligned = _round(low / step) * step
    source_start = max(aligned, 0)
    # The last block of a photograph may be partial, so the image's edge need not be a multiple.
    source_stop = source
    if _round(high) < source:
        # Round the length, not the end: both axes of a square then get the same length.
        source_stop = min(aligned + max(_round((high - low) / step), 1) * step, source)
    if source_start >= source_stop:
        return None
    # Padding is as wide as the part of the rectangle outside the image, but a pixel remains.
    start = min(_round(max(-low, 0.0) / shrink), stored - 1)
    stop = max(stored - _round(max(high - source, 0.0) / shrink), start + 1)
    return Span(source_start, source_stop, start, stop)


def _round(value: float) -> int:
    # Python's `round` takes halves to even numbers: equal shifts would round differently.
    return math.floor(value + 0.5)
