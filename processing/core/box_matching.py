"""Compares boxes that may describe the same objects: those of two formats, or of two copies."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

PIXELS: Final = 1.5
"""How far two edges or points may be apart: tools count from 0 or 1, and round to pixels."""
IOU: Final = 0.9
"""Boxes that fit each other so well describe the same object."""
_FRACTION_SIDE: Final = 1000.0
"""Side in which two descriptions in fractions are compared: the image's size is unknown."""


def in_one_unit(
    boxes: NDArray[np.float64],
    is_normalized: bool,
    others: NDArray[np.float64],
    are_others_normalized: bool,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Converts boxes in fractions to the unit of other boxes of the same image.

    Args:
        boxes: float64 (n, 4).
        is_normalized: whether they are in fractions, because the size of the image is not known.
        others: float64 (m, 4).
        are_others_normalized: the same of these.
    """
    if is_normalized and are_others_normalized:
        return boxes * _FRACTION_SIDE, others * _FRACTION_SIDE
    if is_normalized:
        return boxes * _scale(boxes, others), others
    if are_others_normalized:
        return boxes, others * _scale(others, boxes)
    return boxes, others


def box_fit(boxes: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
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


def _scale(fractions: NDArray[np.float64], pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Estimates the size of an image that no annotation declares, as width, height, width, height.

    If both describe the same boxes, in any order, the sums of their edges have exactly this ratio.
    If they do not, the scaled boxes will not fit.
    """
    sums, sums_in_pixels = (np.nansum(boxes, axis=0) for boxes in (fractions, pixels))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (sums_in_pixels[:2] + sums_in_pixels[2:]) / (sums[:2] + sums[2:])
    return np.tile(np.nan_to_num(ratio, nan=0, posinf=0, neginf=0), 2)
