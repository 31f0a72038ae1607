"""Scores of predictions: average precision of boxes, mean error of landmarks, PSNR of images.

Pure functions of numpy arrays. Average precision is faster-coco-eval's.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_LOG = logging.getLogger(__name__)


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


class Precision(NamedTuple):
    """Average precision, as COCO defines it, and the score above which to trust a detection.

    Args:
        ap50: average precision at an IoU of 0.5, mean over the categories that have a true box;
            NaN if there is no true box at all.
        ap50_95: the mean of the average precisions at IoUs of 0.5, 0.55, ..., 0.95.
        threshold: the score at which F1 (at an IoU of 0.5, mean over the categories) is highest;
            0.5 if no detection is right.
    """

    ap50: float
    ap50_95: float
    threshold: float


def average_precision(detections: Sequence[Detections], truths: Sequence[Truth]) -> Precision:
    """Return the average precision of detections, computed by faster-coco-eval.

    As in COCO, at most the 100 best detections of an image and category count.

    Args:
        detections: one entry per image.
        truths: the same images in the same order.
    """
    if len(detections) != len(truths):
        raise ValueError(f"{len(detections)} images have detections, {len(truths)} have truths")
    if not sum(len(truth.labels) for truth in truths):
        return Precision(float("nan"), float("nan"), 0.5)
    # Imported here: training a landmarker or a teacher needs no COCO metric.
    from faster_coco_eval import COCO, COCOeval_faster

    dataset = _coco_dataset(truths)
    expected = COCO(dataset)
    found = expected.loadRes(_coco_results(detections))
    evaluation = COCOeval_faster(expected, found, "bbox", print_function=_LOG.debug)
    evaluation.evaluate()
    evaluation.accumulate()
    # Axes: IoU, recall, category, range of areas (0: all), number of detections (-1: up to 100).
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    scores = evaluation.eval["scores"][0, :, :, 0, -1]
    counted = precision[0, 0] >= 0  # COCO writes -1 for a category without a true box
    precision, scores = precision[:, :, counted], scores[:, counted]
    return Precision(
        ap50=float(precision[0].mean()),
        ap50_95=float(precision.mean()),
        threshold=_best_threshold(precision[0], scores),
    )


def _coco_dataset(truths: Sequence[Truth]) -> dict[str, Any]:
    """Return true boxes in the layout of a COCO file; images are numbered in their order."""
    annotations: list[dict[str, Any]] = []
    for image, truth in enumerate(truths):
        for box, label in zip(_as_xywh(truth.boxes).tolist(), truth.labels.tolist(), strict=True):
            number = len(annotations) + 1  # COCO's matching takes an id of 0 for "no match"
            annotation = {"id": number, "image_id": image, "category_id": int(label)}
            annotations.append(annotation | {"bbox": box, "area": box[2] * box[3], "iscrowd": 0})
    categories = sorted({annotation["category_id"] for annotation in annotations})
    return {
        "images": [{"id": image} for image in range(len(truths))],
        "annotations": annotations,
        "categories": [{"id": category} for category in categories],
    }


def _coco_results(detections: Sequence[Detections]) -> list[dict[str, Any]]:
    """Return detections in the layout of a COCO result file."""
    results = []
    for image, found in enumerate(detections):
        rows = zip(
            _as_xywh(found.boxes).tolist(),
            found.scores.tolist(),
            found.labels.tolist(),
            strict=True,
        )
        for box, score, label in rows:
            result = {"image_id": image, "category_id": int(label), "bbox": box, "score": score}
            results.append(result)
    return results


def _as_xywh(boxes: Array) -> Array:
    """Convert x1, y1, x2, y2 (k, 4) to x1, y1, width, height; float64, as COCO calculates."""
    corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    return np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]])


def _best_threshold(precision: Array, scores: Array) -> float:
    """Return the score at which F1, averaged over the categories, is highest.

    Args:
        precision: float (101, categories), at recalls of 0, 0.01, ..., 1; 0 where the recall is
            not reached.
        scores: the same shape; lowest score that is needed to reach the recall.
    """
    reached = precision > 0
    if not reached.any():
        return 0.5
    candidates = np.unique(scores[reached])
    f1 = np.zeros(len(candidates))
    recalls = np.linspace(0, 1, len(precision))
    for category in range(precision.shape[1]):
        # Scores fall as the recall rises. With the scores from a candidate upwards, the recall is
        # that of the last row whose score is at least the candidate.
        rising = scores[reached[:, category], category][::-1]
        rows = len(rising) - np.searchsorted(rising, candidates) - 1
        recall = recalls[rows]
        both = precision[rows, category] + recall
        f1 += np.where(rows >= 0, 2 * precision[rows, category] * recall / both, 0)
    # Of equally good thresholds, the highest: it shows fewer wrong boxes.
    return float(candidates[len(f1) - 1 - np.argmax(f1[::-1])])


def agreement(found: Detections, truth: Truth) -> float:
    """Return how well the detections of one image agree with the truth, 0 to 1.

    Each true box counts the highest product of IoU and score among the detections of its category;
    each detection counts its highest IoU with a true box of its category, weighted by its score.
    The result is the sum of both, divided by what perfect detections would have reached. No
    threshold is needed. An image without true boxes has 1 less its highest score.
    """
    weights = found.scores.astype(np.float64)
    total = len(truth.labels) + weights.sum()
    if not len(truth.labels):
        return float(1 - weights.max(initial=0))
    if not len(found.labels):
        return 0.0
    overlap = iou_matrix(found.boxes, truth.boxes)
    overlap[found.labels[:, None] != truth.labels[None]] = 0  # other categories never match
    overlap = overlap * weights[:, None]
    return float((overlap.max(axis=0).sum() + overlap.max(axis=1).sum()) / total)


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
