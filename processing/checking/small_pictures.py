"""SmallPictures: tells whether boxes lie on the objects of their photographs, by small pictures.

A box around an object has another colour inside than around it, and edges along its sides. One box
proves nothing; the mean of many boxes tells the right reading of their numbers from a wrong one.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE: Final = 96
"""Side of a small picture, whatever the shape of its photograph is."""
_MOST: Final = 256
"""Pictures that are kept, 7 MB. Their integral images take 60 MB for a moment."""
_RUN: Final = 16
"""Photographs that follow each other in one run of chosen ones: neighbours are compared too."""
_LEAST_SIDE: Final = 2
"""Pixels of a small picture. A smaller box shows nothing in it."""
_AROUND: Final = 4
"""A box is compared with a margin of a fourth of its sides."""


class Scores(NamedTuple):
    """How well boxes fit the content of pictures; NaN where that cannot be told.

    Args:
        contrast: float64 (M,), the distance of the mean colours inside and around, in standard
            deviations of the picture.
        edges: float64 (M,), logarithm of the edges along the sides, compared with the same rows and
            columns of the picture.
    """

    contrast: NDArray[np.float64]
    edges: NDArray[np.float64]


def shrunk(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns a small picture, uint8 (96, 96, 3) in CIE Lab, of a photograph (h, w, 3) in RGB."""
    small = cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2LAB), dtype=np.uint8)


def chosen_images(count: int) -> NDArray[np.int64]:
    """Returns the positions of the photographs of N that get a small picture, in runs."""
    if count <= _MOST:
        return np.arange(count)
    starts = np.linspace(0, count - _RUN, _MOST // _RUN).astype(np.int64)
    return np.unique(starts[:, None] + np.arange(_RUN))


class SmallPictures:
    """Small pictures of some photographs.

    Args:
        count: photographs of the data set.

    Attributes:
        positions: int64 (N,), the position of each photograph among the pictures; -1 without one.
        seen: bool (S,), the pictures that were added.
    """

    def __init__(self, count: int) -> None:
        chosen = chosen_images(count)
        self.positions = np.full(count, -1, dtype=np.int64)
        self.positions[chosen] = np.arange(len(chosen))
        self.seen = np.zeros(len(chosen), dtype=bool)
        self._pictures = np.zeros((len(chosen), SIDE, SIDE, 3), dtype=np.uint8)

    def add(self, image: int, picture: NDArray[np.uint8]) -> None:
        """Keeps the small picture of a chosen photograph."""
        self._pictures[self.positions[image]] = picture
        self.seen[self.positions[image]] = True

    def of(self, images: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Marks bool (M,) the images, int64 (M,), with a picture."""
        positions = self.positions[images]
        return (positions >= 0) & self.seen[positions]

    def integrals(self) -> Integrals:
        """Returns the sums that `Integrals.scores` needs."""
        return Integrals(self._pictures)


class Integrals:
    """Integral images of small pictures.

    Args:
        pictures: uint8 (S, 96, 96, 3).
    """

    def __init__(self, pictures: NDArray[np.uint8]) -> None:
        self._colours = _integral(pictures.astype(np.int32))
        flat = pictures.reshape(len(pictures), -1, 3)
        self._spread = np.sqrt(flat.var(axis=1, dtype=np.float32).sum(axis=1) + 1)
        signed = pictures.astype(np.int16)
        across = np.abs(np.diff(signed, axis=2)).sum(axis=3)
        down = np.abs(np.diff(signed, axis=1)).sum(axis=3)
        self._across = _integral(_widened(across))
        self._down = _integral(_widened(down.swapaxes(1, 2)))

    def scores(self, pictures: NDArray[np.int64], boxes: NDArray[np.float64]) -> Scores:
        """Scores boxes.

        Args:
            pictures: int64 (M,), positions among the pictures.
            boxes: float64 (M, 4) x1, y1, x2, y2 as fractions of their photographs.
        """
        boxes = np.nan_to_num(boxes).clip(0, 1) * SIDE
        low = np.floor(boxes[:, :2]).astype(np.int64)
        high = np.ceil(boxes[:, 2:]).astype(np.int64)
        clear = (high - low >= _LEAST_SIDE).all(axis=1)
        contrast = self._contrast(pictures, low, high)
        near, far = np.rint(boxes[:, :2]).astype(np.int64), np.rint(boxes[:, 2:]).astype(np.int64)
        clear &= (far - near >= 1).all(axis=1)
        across = _side_edges(self._across, pictures, near, far)
        down = _side_edges(self._down, pictures, near[:, ::-1], far[:, ::-1])
        with np.errstate(invalid="ignore", divide="ignore"):
            edges = np.log((across[0] + down[0]) / (across[1] + down[1]))
        unknown = ~clear | ~np.isfinite(contrast) | ~np.isfinite(edges)
        return Scores(np.where(unknown, np.nan, contrast), np.where(unknown, np.nan, edges))

    def _contrast(
        self, pictures: NDArray[np.int64], low: NDArray[np.int64], high: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        margin = np.maximum((high - low) // _AROUND, 1)
        outer_low, outer_high = np.maximum(low - margin, 0), np.minimum(high + margin, SIDE)
        inside = _sums(self._colours, pictures, low, high)
        around = _sums(self._colours, pictures, outer_low, outer_high) - inside
        area = (high - low).prod(axis=1)
        rest = (outer_high - outer_low).prod(axis=1) - area
        with np.errstate(invalid="ignore", divide="ignore"):
            distance = np.linalg.norm(inside / area[:, None] - around / rest[:, None], axis=1)
            contrast: NDArray[np.float64] = distance / self._spread[pictures]
        return np.where(rest < _AROUND, np.nan, contrast)


def _integral(values: NDArray[Any]) -> NDArray[np.int32]:
    """Returns sums (S, h + 1, w + 1, …) over all rows above and columns to the left."""
    sums = values.cumsum(axis=1, dtype=np.int32).cumsum(axis=2, dtype=np.int32)
    widths = [(0, 0), (1, 0), (1, 0), *[(0, 0)] * (values.ndim - 3)]
    return np.pad(sums, widths)


def _widened(edges: NDArray[Any]) -> NDArray[Any]:
    """Returns the largest of three neighbouring columns: annotators miss edges by a pixel."""
    wide = np.pad(edges, ((0, 0), (0, 0), (1, 1)))
    return np.asarray(np.maximum(np.maximum(wide[:, :, :-2], wide[:, :, 1:-1]), wide[:, :, 2:]))


def _sums(
    integral: NDArray[np.int32],
    pictures: NDArray[np.int64],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Returns the sums inside rectangles; `low` and `high` are int64 (M, 2) x, y."""
    (x1, y1), (x2, y2) = low.T, high.T
    whole = integral[pictures, y2, x2] + integral[pictures, y1, x1].astype(np.int64)
    return np.asarray(
        whole - integral[pictures, y1, x2] - integral[pictures, y2, x1], dtype=np.float64
    )


def _side_edges(
    integral: NDArray[np.int32],
    pictures: NDArray[np.int64],
    near: NDArray[np.int64],
    far: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Returns the edges along the left and right side, and how many of the two count.

    A side at the edge of the picture has none.
    """
    columns = integral.shape[2] - 1
    rows_low, rows_high = near[:, 1], far[:, 1]
    start, stop = np.zeros_like(rows_low), np.full_like(rows_low, columns)
    band = _sums(integral, pictures, np.stack([start, rows_low], 1), np.stack([stop, rows_high], 1))
    total = np.zeros(len(pictures))
    count = np.zeros(len(pictures), dtype=np.int64)
    for side in (near[:, 0] - 1, far[:, 0] - 1):
        counts = (side >= 1) & (side < columns - 1)
        left = np.clip(side, 0, columns - 1)
        line = _sums(
            integral, pictures, np.stack([left, rows_low], 1), np.stack([left + 1, rows_high], 1)
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            relative = line / (band / columns + 1e-6)
        total += np.where(counts, relative, 0)
        count += counts
    return total, count
