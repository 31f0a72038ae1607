"""Draws boxes and landmarks on photographs, and arranges photographs on a sheet.

Images are uint8 (H, W, 3) RGB and are drawn on in place. Coordinates are pixels, with y downwards;
the upper left corner of the image is (0, 0). Needs numpy and OpenCV.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Image = NDArray[np.uint8]
Colour = tuple[int, int, int]

BACKGROUND = 24
"""Grey value of a sheet."""

_SHIFT = 4
"""Fractional bits of the fixed-point coordinates that OpenCV takes."""


def enlarge(image: Image, height: int) -> tuple[Image, float]:
    """Return a copy of `image` that is `height` pixels high, and the scale of its coordinates."""
    scale = height / image.shape[0]
    size = (round(image.shape[1] * scale), height)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC), np.uint8), scale


def fit(image: Image, side: int) -> tuple[Image, float, float]:
    """Return a copy whose longer side has `side` pixels, and the scales of x and y."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    # Pixels of a small image stay visible as squares; a large image is averaged.
    method = cv2.INTER_NEAREST if scale > 1 else cv2.INTER_AREA
    resized = np.array(cv2.resize(image, size, interpolation=method), np.uint8)
    return resized, size[0] / width, size[1] / height


def draw_box(
    image: Image, box: ArrayLike, colour: Colour, text: str = "", *, below: bool = False
) -> None:
    """Draw the outline of `box` (4,) x1, y1, x2, y2, with `text` next to it.

    Args:
        image: drawn on in place.
        box: corners in pixels.
        colour: of the outline, and of the area behind the text.
        text: written above the upper left corner.
        below: write the text below the lower left corner instead.
    """
    x1, y1, x2, y2 = _fixed_point(box)
    cv2.rectangle(image, (x1, y1), (x2, y2), colour, 2, cv2.LINE_AA, _SHIFT)
    if text:
        bottom = y1 >> _SHIFT
        if below:
            bottom = (y2 >> _SHIFT) + _tag_size(text)[1]
        draw_tag(image, text, (x1 >> _SHIFT, bottom), colour)


def draw_tag(image: Image, text: str, corner: tuple[int, int], colour: Colour) -> None:
    """Draw text on a coloured area.

    Args:
        image: drawn on in place.
        text: the text.
        corner: x, y of the area's lower left corner. At an edge of the image the area moves
            inwards, so that the text stays visible.
        colour: of the area.
    """
    width, height = _tag_size(text)
    left = min(max(corner[0], 1), max(image.shape[1] - width, 1))
    bottom = min(max(corner[1], height), image.shape[0] - 1)
    cv2.rectangle(image, (left - 1, bottom - height), (left + width - 1, bottom), colour, -1)
    dark = sum(colour) > 3 * 128
    write(image, text, (left + 1, bottom - 3), (20, 20, 20) if dark else (255, 255, 255), 0.4)


def _tag_size(text: str) -> tuple[int, int]:
    """Return width and height of the area behind a text, pixels."""
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.4, 1)
    return width + 4, height + 5


def draw_points(image: Image, points: NDArray[Any], colour: Colour) -> None:
    """Mark `points` (K, 2) with dots."""
    # All dark rims first: dots are visible on any background, and no rim covers a dot beside it.
    for radius, fill in ((4, (20, 20, 20)), (3, colour)):
        for point in points:
            place = _fixed_point(point)
            cv2.circle(image, place, radius << _SHIFT, fill, -1, cv2.LINE_AA, _SHIFT)


def draw_lines(image: Image, starts: NDArray[Any], ends: NDArray[Any], colour: Colour) -> None:
    """Draw a line from each of `starts` (K, 2) to its partner in `ends` (K, 2)."""
    for start, end in zip(starts, ends, strict=True):
        x1, y1, x2, y2 = _fixed_point((*start, *end))
        cv2.line(image, (x1, y1), (x2, y2), colour, 1, cv2.LINE_AA, _SHIFT)


def sheet(tiles: Sequence[Image], columns: int, caption: Sequence[tuple[str, Colour]]) -> Image:
    """Return a new image with the tiles in rows, below a line of coloured text.

    Args:
        tiles: all get the room of the largest; none: the sheet is the caption.
        columns: tiles per row.
        caption: pieces of text with their colours.
    """
    gap = 6
    height = max((tile.shape[0] for tile in tiles), default=0)
    width = max((tile.shape[1] for tile in tiles), default=0)
    columns = max(1, min(columns, len(tiles)))
    rows = -(-len(tiles) // columns)  # rounded up
    top = 34  # height of the caption
    written = sum(_width(text, 0.55) + 3 * gap for text, _ in caption) + 2 * gap
    across = max(columns * (width + gap) + gap, written)  # a caption may be wider than the tiles
    page = np.full((top + rows * (height + gap), across, 3), BACKGROUND, np.uint8)
    for i, tile in enumerate(tiles):
        y, x = top + i // columns * (height + gap), gap + i % columns * (width + gap)
        page[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
    x = 2 * gap
    for text, colour in caption:
        x += write(page, text, (x, top - 11), colour, 0.55) + 3 * gap
    return page


def stack(pages: Sequence[Image]) -> Image:
    """Return a new image with the pages below each other; narrow ones get a margin on the right."""
    width = max(page.shape[1] for page in pages)
    widened = []
    for page in pages:
        margin = ((0, 0), (0, width - page.shape[1]), (0, 0))
        widened.append(np.pad(page, margin, constant_values=BACKGROUND))
    return np.vstack(widened)


def _width(text: str, size: float) -> int:
    """Return the width of a line of text in pixels."""
    return int(cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 1)[0][0])


def write(image: Image, text: str, corner: tuple[int, int], colour: Colour, size: float) -> int:
    """Write `text` with its lower left end at `corner`; return its width in pixels."""
    font = cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(image, text, corner, font, size, colour, 1, cv2.LINE_AA)
    return _width(text, size)


def _fixed_point(numbers: ArrayLike) -> list[int]:
    """Convert coordinates to OpenCV's fixed-point numbers."""
    # For OpenCV (0, 0) is the centre of the first pixel, here it is the corner.
    shifted = np.asarray(numbers, dtype=np.float64) - 0.5
    # OpenCV's coordinates have 32 bits: clip those that are far outside of any image.
    fixed: list[int] = (
        (np.clip(np.nan_to_num(shifted), -1e5, 1e5) * (1 << _SHIFT)).astype(int).tolist()
    )
    return fixed
