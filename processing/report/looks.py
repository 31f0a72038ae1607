"""How images look: their brightness, and a hash that is nearly the same for images that look alike.

The hash is the perceptual hash of 64 bits: the signs of the lowest frequencies of a cosine
transform of 32 x 32 grey pixels. Bars around a letterboxed photograph do not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from processing.report.files import DataFile
from processing.report.pixels import Image, read_images, stored_size

SIDE: Final = 32  # pixels of the small grey image
_LOWEST: Final = 8  # frequencies along each side
_FLAT: Final = 4.0
"""Standard deviation of grey values below which an image has nothing to compare."""


@dataclass(frozen=True, slots=True)
class Looks:
    """How some rows of a file look.

    Args:
        rows: intp (n,).
        brightness: float32 (n,), mean grey value from 0 to 255.
        grey: uint8 (n, 32, 32).
        hashes: uint64 (n,).
        flat: bool (n,), whether the image is too even to compare.
    """

    rows: NDArray[np.intp]
    brightness: NDArray[np.float32]
    grey: NDArray[np.uint8]
    hashes: NDArray[np.uint64]
    flat: NDArray[np.bool_]


def look_at(file: DataFile, rows: Sequence[int], failures: list[str]) -> Looks:
    """Looks at some rows of a file.

    Args:
        file: the file.
        rows: in ascending order.
        failures: gets a message for each damaged image, which is left out.
    """
    contents = file.contents
    shown = _shown(file, rows)
    seen: list[int] = []
    greys: list[NDArray[np.uint8]] = []
    brightness: list[float] = []
    hashes: list[int] = []
    places = {row: i for i, row in enumerate(rows)}
    for row, image in read_images(contents, rows, failures):
        x1, y1, x2, y2 = shown[places[row]]
        grey = cv2.cvtColor(np.ascontiguousarray(image[y1:y2, x1:x2]), cv2.COLOR_RGB2GRAY)
        small = np.asarray(cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)
        seen.append(row)
        greys.append(small)
        brightness.append(float(grey.mean()))
        hashes.append(perceptual_hash(small))
    grey_images = np.array(greys, np.uint8).reshape(-1, SIDE, SIDE)
    flat = grey_images.reshape(-1, SIDE * SIDE).std(axis=1) < _FLAT
    return Looks(
        np.array(seen, np.intp),
        np.array(brightness, np.float32),
        grey_images,
        np.array(hashes, np.uint64),
        flat,
    )


def perceptual_hash(grey: Image) -> int:
    """Returns the hash of 64 bits of a grey image of 32 x 32 pixels."""
    low = cv2.dct(grey.astype(np.float32))[:_LOWEST, :_LOWEST].ravel()
    # The first coefficient is the brightness of the whole image.
    bits = low > np.median(low[1:])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def _shown(file: DataFile, rows: Sequence[int]) -> NDArray[np.intp]:
    """Returns x1, y1, x2, y2 (n, 4) of the part of each stored image that shows the photograph."""
    height, width = stored_size(file.contents)
    whole = np.tile(np.array([0, 0, width, height], np.intp), (len(rows), 1))
    found = [(_of_row(file, row)) for row in rows]
    for i, members in enumerate(found):
        if members is None:
            continue
        rect, size = members
        scale = np.array([width, height]) / np.maximum(rect[2:] - rect[:2], 1e-6)
        corners = np.concatenate([-rect[:2] * scale, (size[::-1] - rect[:2]) * scale])
        begin = np.clip(np.round(corners[:2]), 0, (width - 1, height - 1))
        end = np.clip(np.round(corners[2:]), begin + 1, (width, height))
        whole[i] = np.concatenate([begin, end]).astype(np.intp)
    return whole


def _of_row(file: DataFile, row: int) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """Returns the rectangle and the size of the photograph of a row, if the file has them."""
    part, position = file.contents.locate(row)
    rects, sizes = part.joined("source_rects"), part.joined("source_sizes")
    if rects is None or sizes is None:
        return None
    return np.asarray(rects[position], np.float64), np.asarray(sizes[position], np.float64)
