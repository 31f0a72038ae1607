"""How good predictions are: average precision of boxes, mean error of landmarks, PSNR of images.

Pure functions of numpy arrays; imports numpy alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Detections(NamedTuple):
    """What a detector found in one image.

    Args:
        boxes: float (k, 4) x1, y1, x2, y2 in pixels.
        scores: float (k,), higher is surer.
        labels: int (k,), category positions.
    """

    boxes: Array
    scores: Array
    labels: Array


class Truth(NamedTuple):
    """What is in one image: boxes and labels as in `Detections`."""

    boxes: Array
    labels: Array


def iou_matrix(boxes: Array, others: Array) -> Array:
    """Intersection over union of all `boxes` (k, 4) with all `others` (m, 4): float (k, m)."""
    corners = np.maximum(boxes[:, None, :2], others[None, :, :2])
    far_corners = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    intersection = np.clip(far_corners - corners, 0, None).prod(axis=-1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=-1)
    other_areas = (others[:, 2:] - others[:, :2]).prod(axis=-1)
    union = areas[:, None] + other_areas[None] - intersection
    overlap: Array = intersection / np.maximum(union, np.finfo(np.float64).tiny)
    return overlap


def average_precision(
    detections: Sequence[Detections], truths: Sequence[Truth], *, iou_threshold: float = 0.5
) -> float:
    """Mean over the categories present in the truth of the area under precision over recall.

    In each image, detections in order of falling score take the free true box of their category
    that they overlap most, if by `iou_threshold` or more; further detections of a box are false.
    Precision is made non-increasing before the area is taken (as Pascal VOC does since 2010).

    Args:
        detections: one an image.
        truths: the same images in the same order.
        iou_threshold: the overlap that counts as found, in (0, 1].

    Returns:
        A number in [0, 1]; NaN if there is no true box at all.
    """
    if not truths or not sum(len(truth.labels) for truth in truths):
        return float("nan")
    hits = np.concatenate(
        [_hits(d, t, iou_threshold) for d, t in zip(detections, truths, strict=True)]
    )
    scores = np.concatenate([d.scores for d in detections])
    labels = np.concatenate([d.labels for d in detections])
    categories, totals = np.unique(
        np.concatenate([truth.labels for truth in truths]), return_counts=True
    )
    areas = [
        _area(hits[labels == category], scores[labels == category], total)
        for category, total in zip(categories, totals, strict=True)
    ]
    return float(np.mean(areas))


def _hits(detections: Detections, truth: Truth, iou_threshold: float) -> Array:
    """Bool (k,): which detections of one image are true, in the order given."""
    overlap = iou_matrix(detections.boxes, truth.boxes)
    overlap[detections.labels[:, None] != truth.labels[None]] = 0
    hits = np.zeros(len(detections.scores), dtype=bool)
    if not len(truth.labels):
        return hits
    for i in np.argsort(-detections.scores, kind="stable"):
        best = int(overlap[i].argmax())
        if overlap[i, best] >= iou_threshold:
            hits[i] = True
            overlap[:, best] = 0
    return hits


def _area(hits: Array, scores: Array, total: int) -> float:
    """Area under precision over recall of one category that has `total` true boxes."""
    found = np.cumsum(hits[np.argsort(-scores, kind="stable")])
    precision = found / np.arange(1, len(found) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((envelope * np.diff(found, prepend=0)).sum() / total)


def normalized_mean_error(points: Array, truth: Array) -> Array:
    """Mean distance of each sample's labelled landmarks, by the diagonal of their bounding box.

    Args:
        points: float (N, K, 2) predicted x, y.
        truth: float (N, K, 3) x, y, visibility; points of visibility 0 do not count.

    Returns:
        float (N,); NaN where fewer than two distinct points are labelled: nothing gives the scale.
    """
    labelled = truth[..., 2] > 0
    distances = np.linalg.norm(points - truth[..., :2], axis=-1)
    low = np.where(labelled[..., None], truth[..., :2], np.inf).min(axis=1)
    high = np.where(labelled[..., None], truth[..., :2], -np.inf).max(axis=1)
    diagonal = np.linalg.norm(np.where(high > low, high - low, 0), axis=-1)
    mean = np.where(labelled, distances, 0).sum(axis=1) / np.maximum(labelled.sum(axis=1), 1)
    error: Array = np.divide(mean, diagonal, out=np.full(len(truth), np.nan), where=diagonal > 0)
    return error


def peak_signal_to_noise(images: Array, truth: Array) -> Array:
    """PSNR of each image in dB: float (N,), infinite for equal images.

    Args:
        images: float (N, ...) in [0, 1].
        truth: the same shape.
    """
    squared = (np.asarray(images, dtype=np.float64) - truth) ** 2
    with np.errstate(divide="ignore"):
        decibel: Array = -10 * np.log10(squared.reshape(len(squared), -1).mean(axis=1))
    return decibel
