"""Scores of predictions: average precision of boxes, mean error of landmarks, PSNR of images.

Pure functions of numpy arrays. Imports numpy only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Detections(NamedTuple):
    """Boxes that a detector found in one image.

    Args:
        boxes: float (k, 4) x1, y1, x2, y2 in pixels.
        scores: float (k,); a higher score is a more certain detection.
        labels: int (k,), category indices.
    """

    boxes: Array
    scores: Array
    labels: Array


class Truth(NamedTuple):
    """True boxes of one image; boxes and labels as in `Detections`."""

    boxes: Array
    labels: Array


def iou_matrix(boxes: Array, others: Array) -> Array:
    """Return the IoU of all `boxes` (k, 4) with all `others` (m, 4): float (k, m), 0 to 1."""
    corners = np.maximum(boxes[:, None, :2], others[None, :, :2])
    far_corners = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    intersection = np.clip(far_corners - corners, 0, None).prod(axis=-1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=-1)
    other_areas = (others[:, 2:] - others[:, :2]).prod(axis=-1)
    union = areas[:, None] + other_areas[None] - intersection
    # Two boxes without area have a union of 0: their IoU is 0 then, not NaN.
    overlap: Array = intersection / np.maximum(union, np.finfo(np.float64).tiny)
    return overlap


def average_precision(
    detections: Sequence[Detections], truths: Sequence[Truth], *, iou_threshold: float = 0.5
) -> float:
    """Return the average precision: the area under precision over recall, mean over categories.

    In each image, detections are matched in order of descending score. A detection takes the
    unmatched true box of its category with the highest IoU, if that is at least `iou_threshold`, as
    in COCO; all other detections are false. Precision is made non-increasing before the area is
    taken, as in Pascal VOC since 2010. Only categories with a true box count.

    Args:
        detections: one entry per image.
        truths: the same images in the same order.
        iou_threshold: smallest IoU of a match, in (0, 1].

    Returns:
        A number in [0, 1]; NaN if there is no true box at all.
    """
    if not truths or not sum(len(truth.labels) for truth in truths):
        return float("nan")
    hits_of_images = []
    for found, truth in zip(detections, truths, strict=True):
        hits_of_images.append(_hits(found, truth, iou_threshold))
    hits = np.concatenate(hits_of_images)
    scores = np.concatenate([found.scores for found in detections])
    labels = np.concatenate([found.labels for found in detections])
    true_labels = np.concatenate([truth.labels for truth in truths])
    areas = []
    for category, total in zip(*np.unique(true_labels, return_counts=True), strict=True):
        chosen = labels == category
        areas.append(_area(hits[chosen], scores[chosen], total))
    return float(np.mean(areas))


def _hits(detections: Detections, truth: Truth, iou_threshold: float) -> Array:
    """Return bool (k,): whether each detection of one image is matched to a true box."""
    overlap = iou_matrix(detections.boxes, truth.boxes)
    overlap[detections.labels[:, None] != truth.labels[None]] = 0  # other categories never match
    hits = np.zeros(len(detections.scores), dtype=bool)
    if not len(truth.labels):
        return hits
    for i in np.argsort(-detections.scores, kind="stable"):
        best = int(overlap[i].argmax())
        if overlap[i, best] >= iou_threshold:
            hits[i] = True
            overlap[:, best] = 0  # this box is taken
    return hits


def _area(hits: Array, scores: Array, total: int) -> float:
    """Return the area under precision over recall of one category with `total` true boxes."""
    found = np.cumsum(hits[np.argsort(-scores, kind="stable")])
    precision = found / np.arange(1, len(found) + 1)
    # The best precision at this recall or any higher one.
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((envelope * np.diff(found, prepend=0)).sum() / total)


def normalized_mean_error(points: Array, truth: Array) -> Array:
    """Return the mean error of each sample's landmarks, divided by the size of the landmarks.

    The size is the diagonal of the bounding box of the labelled true points.

    Args:
        points: float (N, K, 2) predicted x, y.
        truth: float (N, K, 3) x, y, visibility; points with visibility 0 do not count.

    Returns:
        float (N,); NaN where fewer than two distinct points are labelled, because the size is 0.
    """
    labelled = truth[..., 2] > 0
    distances = np.linalg.norm(points - truth[..., :2], axis=-1)
    low = np.where(labelled[..., None], truth[..., :2], np.inf).min(axis=1)
    high = np.where(labelled[..., None], truth[..., :2], -np.inf).max(axis=1)
    # Without labelled points, low is +inf and high is -inf: their difference must not be taken.
    diagonal = np.linalg.norm(np.where(high > low, high - low, 0), axis=-1)
    mean = np.where(labelled, distances, 0).sum(axis=1) / np.maximum(labelled.sum(axis=1), 1)
    error: Array = np.divide(mean, diagonal, out=np.full(len(truth), np.nan), where=diagonal > 0)
    return error


def peak_signal_to_noise(images: Array, truth: Array) -> Array:
    """Return the PSNR of each image in dB: float (N,), infinite for equal images.

    Args:
        images: float (N, ...) in [0, 1].
        truth: the same shape.
    """
    squared = (np.asarray(images, dtype=np.float64) - truth) ** 2
    with np.errstate(divide="ignore"):  # equal images: the logarithm of 0 is meant
        decibel: Array = -10 * np.log10(squared.reshape(len(squared), -1).mean(axis=1))
    return decibel
