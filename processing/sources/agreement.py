"""How well the boxes and points of two descriptions of one image agree."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

PIXELS: Final = 1.5
"""How far two edges or points may be apart: tools count from 0 or 1, and round to pixels."""


def fit(boxes: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns (n, m): the intersection over union of boxes; 1 if they differ only by rounding."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        shared = np.clip(high - low, 0, None).prod(axis=2)
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        others_areas = (others[:, 2:] - others[:, :2]).prod(axis=1)
        iou = shared / (areas[:, None] + others_areas[None, :] - shared)
        apart = np.abs(boxes[:, None] - others[None, :])
    # NaN equals NaN here: a bad box that occurs in both sets is the same bad box.
    both_nan = np.isnan(boxes)[:, None] & np.isnan(others)[None, :]
    close = (both_nan | (apart <= PIXELS)).all(axis=2)
    fits: NDArray[np.float64] = np.where(close, 1.0, np.nan_to_num(iou, nan=0, posinf=0, neginf=0))
    return fits


def same_points(points: NDArray[np.float32], others: NDArray[np.float32]) -> bool:
    """Whether two sets of points agree; the other set may have no points."""
    if not len(others):
        return True  # the preferred set completes the other one
    return points.shape == others.shape and bool(
        np.allclose(points, others, rtol=0, atol=PIXELS, equal_nan=True)
    )


def scale_of(fractions: NDArray[np.float64], pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Estimates the size of an image that no annotation declares, as width, height, width, height.

    If both describe the same boxes, in any order, the sums of their edges have exactly this ratio.
    If they do not, the scaled boxes will not fit.
    """
    sums, sums_in_pixels = (np.nansum(boxes, axis=0) for boxes in (fractions, pixels))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (sums_in_pixels[:2] + sums_in_pixels[2:]) / (sums[:2] + sums[2:])
    return np.tile(np.nan_to_num(ratio, nan=0, posinf=0, neginf=0), 2)
