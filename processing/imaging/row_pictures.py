"""Pictures of stored rows: any image as RGB of 8 bits, with its boxes, points and category names.

Coordinates are pixels of the stored image. Needs numpy and OpenCV.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from processing.core.channels import stored_channel_axis
from processing.imaging.drawing import Colour, Image, draw_box, draw_points, draw_tag, fit, write

COLOURS: Final[tuple[Colour, ...]] = (
    (255, 196, 0),
    (64, 200, 255),
    (255, 92, 92),
    (120, 230, 100),
    (214, 130, 255),
    (255, 150, 60),
    (90, 240, 220),
    (255, 130, 200),
)
"""Of the categories, one after the other; bright, because photographs are rarely."""
POINT_COLOUR: Final[Colour] = (120, 230, 100)

_LARGEST: Final = 255  # of uint8
_QUALITIES: Final = (85, 70, 50, 30, 15)  # of JPEG, the first that is small enough


def displayable(image: NDArray[Any]) -> Image:
    """Returns an image as uint8 (H, W, 3) RGB, a copy.

    Args:
        image: (H, W, C) or (C, H, W). Grey images get three channels; of more than three the first
            three are shown, of two the first. Floats from 0 to 1 become 0 to 255. Other numbers
            beyond 0 to 255 are stretched: the smallest becomes 0, the largest 255.
    """
    pixels = np.moveaxis(image, 0, 2) if stored_channel_axis(image.shape) == 0 else image
    pixels = pixels[..., :3] if pixels.shape[2] >= 3 else np.repeat(pixels[..., :1], 3, axis=2)
    return np.ascontiguousarray(_as_bytes(pixels)).copy()


def _as_bytes(pixels: NDArray[Any]) -> Image:
    if pixels.dtype == np.uint8:
        return pixels
    values = np.nan_to_num(pixels.astype(np.float64), posinf=0, neginf=0)
    least, most = values.min(), values.max()
    is_share = pixels.dtype.kind in "bf" and least >= 0 and most <= 1
    if is_share:
        values *= _LARGEST
    elif least < 0 or most > _LARGEST:
        values = (values - least) * (_LARGEST / (most - least))
    return values.round().astype(np.uint8)


def row_picture(
    image: NDArray[Any],
    side: int,
    *,
    boxes: NDArray[Any] | None,
    points: NDArray[Any],
    labels: NDArray[np.int64] | None,
    names: Sequence[str],
) -> Image:
    """Draws a row.

    Args:
        image: as stored, of any kind.
        side: length of the picture's longer side, pixels.
        boxes: (k, 4), pixels of the stored image; None draws none.
        points: (M, 2), pixels of the stored image.
        labels: one for each box, or one for the row; they choose the colours. None: one category.
        names: one for each label, written next to the boxes; none writes nothing.

    Returns:
        uint8 (H, W, 3) RGB, a new image.
    """
    picture, x_scale, y_scale = fit(displayable(image), side)
    drawn = np.empty((0, 4)) if boxes is None else boxes
    for number, box in enumerate(drawn):
        if not np.isfinite(box).all():
            continue
        text = ascii_text(names[number]) if number < len(names) else ""
        scaled = box * (x_scale, y_scale, x_scale, y_scale)
        draw_box(picture, scaled, colour_of(labels, number), text)
    draw_points(picture, points * (x_scale, y_scale), POINT_COLOUR)
    if boxes is None and len(names) == 1:
        draw_tag(picture, ascii_text(names[0]), (1, 0), colour_of(labels, 0))
    return picture


def colour_of(labels: NDArray[np.int64] | None, number: int) -> Colour:
    """Returns the colour of an object: that of its category."""
    label = 0 if labels is None or number >= len(labels) else int(labels[number])
    return COLOURS[label % len(COLOURS)]


def ascii_text(text: str) -> str:
    """Returns text in the characters that OpenCV's fonts have; others become question marks."""
    return text.encode("ascii", "replace").decode()


def with_caption(picture: Image, text: str, width: int) -> Image:
    """Returns a picture above a line of text.

    Args:
        picture: at most `width` wide.
        text: its beginning is left out if it is too long: the end of a path says most.
        width: of the result.
    """
    height = 18
    page = np.full((picture.shape[0] + height, width, 3), 24, np.uint8)
    left = (width - picture.shape[1]) // 2
    page[: picture.shape[0], left : left + picture.shape[1]] = picture
    line = ascii_text(text)
    while line and _text_width(line) > width:
        line = f"..{line[3:]}" if len(line) > 3 else ""
    write(page, line, (0, page.shape[0] - 5), (220, 220, 220), _FONT_SIZE)
    return page


_FONT_SIZE: Final = 0.4


def _text_width(text: str) -> int:
    return int(cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, _FONT_SIZE, 1)[0][0])


def encode(picture: Image, ending: str) -> bytes:
    """Encodes a picture.

    Args:
        picture: uint8 (H, W, 3) RGB.
        ending: ``.png`` or ``.jpg``.
    """
    _, content = cv2.imencode(ending, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return bytes(content)


def small_jpegs(pictures: Sequence[Image], most: int) -> list[bytes]:
    """Encodes pictures as JPEGs of together at most `most` bytes, as long as that is possible.

    Args:
        pictures: uint8 (H, W, 3) RGB each.
        most: bytes of all of them; with the lowest quality they may take more.
    """
    encoded: list[bytes] = []
    for quality in _QUALITIES:
        options = [cv2.IMWRITE_JPEG_QUALITY, quality]
        encoded = [
            bytes(cv2.imencode(".jpg", cv2.cvtColor(one, cv2.COLOR_RGB2BGR), options)[1])
            for one in pictures
        ]
        if sum(map(len, encoded)) <= most:
            break
    return encoded
