"""Where a rectangle of a photograph lands in a stored image, and how coordinates follow it.

One rule for letterbox and crop: a stored image shows a rectangle of the upright source image, so
stored and source coordinates differ by one scale and one shift per axis. A rectangle is float64
(4,) x1, y1, x2, y2 in pixels of the upright source image, y down, the corner of the first pixel at
(0, 0); it may reach beyond the image. Sizes are height, width. Imports numpy alone; pure functions,
safe from any thread.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from processing.core.coordinates import Rect, Size

_SHRINK_FOR_REDUCTION: Final = {8: 32, 4: 12, 2: 3.9}
"""How far a photograph must shrink before it may be decoded at an eighth, a quarter, half its size.

A JPEG's reduced pixels are means of blocks; `cv2.INTER_AREA` takes means as well, but its areas may
cut a block in two. From here on both ways agree to 46 dB on average, to 40 dB in the sharpest
pictures; from twice as far on, to 46 dB in nearly all (`python -m benchmarks.decoding`).
"""

_SHRINK_FOR_WHOLE: Final = 4
"""The same where stored pixels are made of whole blocks, in sizes of 1024x768, say.

All that differs then is how colour is interpolated: 48 dB or more on average, 41 dB at least. One
block of 2x2 to a stored pixel, at a shrink of 2, would give 44 dB in sharp pictures.
"""


class Span(NamedTuple):
    """One axis: source pixels ``source_start:source_stop`` fill stored pixels ``start:stop``."""

    source_start: int
    source_stop: int
    start: int
    stop: int

    @property
    def shrink(self) -> float:
        """Source pixels to one stored pixel."""
        return (self.source_stop - self.source_start) / (self.stop - self.start)

    def shown(self, length: int) -> tuple[float, float]:
        """Where, in source pixels, an axis of `length` stored pixels begins and ends."""
        low = self.source_start - self.start * self.shrink
        return low, low + length * self.shrink


def letterbox_rect(source_size: Size, size: Size) -> Rect:
    """The rectangle that shows the whole image, centred, as large as `size` allows.

    Args:
        source_size: height, width of the upright image.
        size: height, width of the stored image.
    """
    height, width = source_size
    return crop_rect((0, 0, width, height), 0.0, size)


def crop_rect(box: ArrayLike, margin: float, size: Size) -> Rect:
    """The rectangle that shows a box and its surroundings, centred on it, in the aspect of `size`.

    Args:
        box: x1, y1, x2, y2 in source pixels, finite; taken as at least one pixel wide and high.
        margin: what to add on each side, as a fraction of the box's own width and height.
        size: height, width of the stored image; the side that is too short for it grows.
    """
    x1, y1, x2, y2 = np.asarray(box, dtype=np.float64).tolist()
    height, width = size
    grown = 1 + 2 * margin
    scale = max(max(x2 - x1, 1.0) * grown / width, max(y2 - y1, 1.0) * grown / height)
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    dx, dy = width * scale / 2, height * scale / 2
    return np.array([x - dx, y - dy, x + dx, y + dy])


def largest_reduction(rect: Rect, source_size: Size, size: Size) -> int:
    """By how much a JPEG may be decoded smaller if `rect` is to be shown at `size`: 1, 2, 4 or 8.

    Args:
        rect: the rectangle to show.
        source_size: height, width of the upright image.
        size: height, width of the stored image.
    """
    x1, y1, x2, y2 = rect.tolist()
    shrink = min((x2 - x1) / size[1], (y2 - y1) / size[0]) + 1e-6
    for reduction, least in _SHRINK_FOR_REDUCTION.items():
        if shrink >= least or (
            shrink >= _SHRINK_FOR_WHOLE
            and _is_whole(place(rect, source_size, size, reduction), reduction)
        ):
            return reduction
    return 1


def _is_whole(spans: tuple[Span, Span] | None, reduction: int) -> bool:
    """Whether each stored pixel shows whole blocks of `reduction` x `reduction` source pixels."""
    return spans is not None and all(
        (span.source_stop - span.source_start) % (reduction * (span.stop - span.start)) == 0
        for span in spans
    )


def place(
    rect: Rect, source_size: Size, size: Size, reduction: int = 1
) -> tuple[Span, Span] | None:
    """Rounds a rectangle to whole pixels: which source pixels go where in the stored image.

    A square rectangle stays square unless the image's edge cuts it, whatever the rounding.

    Args:
        rect: the rectangle asked for, finite.
        source_size: height, width of the upright image.
        size: height, width of the stored image.
        reduction: source spans begin and end at multiples of it, or at the image's edge.

    Returns:
        The spans along x and y; None if the rectangle shows nothing of the image.
    """
    x1, y1, x2, y2 = rect.tolist()
    x = _place_axis(x1, x2, source_size[1], size[1], reduction)
    y = _place_axis(y1, y2, source_size[0], size[0], reduction)
    return None if x is None or y is None else (x, y)


def rendered_rect(spans: tuple[Span, Span], size: Size) -> Rect:
    """The rectangle, in source pixels, that a stored image placed so really shows.

    Args:
        spans: of `place`.
        size: height, width of the stored image.
    """
    x, y = spans
    (x1, x2), (y1, y2) = x.shown(size[1]), y.shown(size[0])
    return np.array([x1, y1, x2, y2])


def _place_axis(low: float, high: float, source: int, stored: int, step: int) -> Span | None:
    shrink = (high - low) / stored
    aligned = _round(low / step) * step
    source_start = max(aligned, 0)
    source_stop = source
    if _round(high) < source:
        source_stop = min(aligned + max(_round((high - low) / step), 1) * step, source)
    if source_start >= source_stop:
        return None
    start = min(_round(max(-low, 0.0) / shrink), stored - 1)
    stop = max(stored - _round(max(high - source, 0.0) / shrink), start + 1)
    return Span(source_start, source_stop, start, stop)


def _round(value: float) -> int:
    return math.floor(value + 0.5)
