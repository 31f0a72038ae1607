"""How stored images look: their brightness, and what `imaging.similar` keeps of their pixels.

Bars around a letterboxed photograph do not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from processing.imaging.similar import THUMBNAIL_SIDE, Look, look_at
from processing.report.files import DataFile
from processing.report.pixels import read_images, stored_size


@dataclass(frozen=True, slots=True)
class Looks:
    """How some rows of a file look.

    Args:
        rows: intp (n,).
        brightness: float32 (n,), mean grey value from 0 to 255.
        hashes, mirrored: uint64 (n,), of each image and of its mirror image.
        thumbnails: uint8 (n, 24, 24).
    """

    rows: NDArray[np.intp]
    brightness: NDArray[np.float32]
    hashes: NDArray[np.uint64]
    mirrored: NDArray[np.uint64]
    thumbnails: NDArray[np.uint8]


def looks_of(file: DataFile, rows: Sequence[int], failures: list[str]) -> Looks:
    """Looks at some rows of a file.

    Args:
        file: the file.
        rows: in ascending order.
        failures: gets a message for each damaged image, which is left out.
    """
    contents = file.contents
    shown = _shown(file, rows)
    seen: list[int] = []
    brightness: list[float] = []
    looks: list[Look] = []
    places = {row: i for i, row in enumerate(rows)}
    for row, image in read_images(contents, rows, failures):
        x1, y1, x2, y2 = shown[places[row]]
        pixels = np.ascontiguousarray(image[y1:y2, x1:x2])
        seen.append(row)
        brightness.append(float(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).mean()))
        looks.append(look_at(pixels))
    thumbnails = np.array([look.thumbnail for look in looks], np.uint8)
    return Looks(
        np.array(seen, np.intp),
        np.array(brightness, np.float32),
        np.array([look.hash for look in looks], np.uint64),
        np.array([look.mirrored for look in looks], np.uint64),
        thumbnails.reshape(-1, THUMBNAIL_SIDE, THUMBNAIL_SIDE),
    )


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
