"""Compares two descriptions of one image: do they complete, copy or contradict each other?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from processing.core.annotations import AnnotationTable, Flag
from processing.core.box_matching import IOU, PIXELS, box_fit, in_one_unit

_RENAMED_IOU: Final = 0.8
"""If every box of one set fits one of another set so well, both name the same objects."""


class Verdict(Enum):
    """How one description of an image relates to another one."""

    COMPLETES = "completes"
    COPIES = "copies"
    ADDS_POINTS = "adds points"
    """The boxes are the same, and only the preferred description has points."""
    AGREES = "agrees"
    DIFFERS = "differs"


@dataclass(frozen=True)
class Description:
    """The rows and instances of one image in one annotation set.

    Args:
        set_id: the set.
        rows: their positions in the table.
        instances: int64 (k,), positions in the table.
        boxes: float64 (k, 4), NaN without a box; in pixels if the image's size is known.
        normalized: whether the boxes are in fractions, because the size is not known.
        found_by_name: whether the image was found only by its name.
    """

    set_id: int
    rows: list[int]
    instances: NDArray[np.int64]
    boxes: NDArray[np.float64]
    normalized: bool
    found_by_name: bool


Comparison = tuple[Verdict, NDArray[np.int64]]
"""A verdict, and the instances of the second description that were compared."""


def compare(
    one: Description,
    other: Description,
    table: AnnotationTable,
    labels_of: Sequence[NDArray[np.int32]],
) -> Comparison:
    """Compares two descriptions of one image.

    Args:
        one: the preferred description.
        other: another one.
        table: the rows of all images.
        labels_of: for each annotation set, the sorted labels that it uses.
    """
    sets = table.annotation_sets
    bare, others_bare = ~_boxed(one, table), ~_boxed(other, table)
    # Points of objects without a box can only be compared with points.
    if (bare.any() and table.points.lengths[other.instances].any()) or (
        others_bare.any() and table.points.lengths[one.instances].any()
    ):
        return _compare_points(one, other, table), other.instances
    if not len(one.instances) and not len(other.instances):
        return Verdict.COPIES, other.instances
    is_list_of_images = not labels_of[one.set_id].size or not labels_of[other.set_id].size
    if is_list_of_images or bare.any() or others_bare.any():
        return Verdict.COMPLETES, other.instances[:0]
    if not (sets[one.set_id].has_names and sets[other.set_id].has_names):
        return _compare_boxes(one, other, table, check_labels=False), other.instances
    shared = np.intersect1d(labels_of[one.set_id], labels_of[other.set_id])
    if not len(shared):
        return _compare_names(one, other), other.instances[:0]
    mine = _limited(one, np.isin(table.labels[one.instances], shared))
    theirs = _limited(other, np.isin(table.labels[other.instances], shared))
    return _compare_boxes(mine, theirs, table, check_labels=True), theirs.instances


def _boxed(one: Description, table: AnnotationTable) -> NDArray[np.bool_]:
    boxed: NDArray[np.bool_] = table.flags[one.instances] & Flag.NO_BOX == 0
    return boxed


def _limited(one: Description, chosen: NDArray[np.bool_]) -> Description:
    return replace(one, instances=one.instances[chosen], boxes=one.boxes[chosen])


def _compare_boxes(
    one: Description, other: Description, table: AnnotationTable, *, check_labels: bool
) -> Verdict:
    """Compares two descriptions of the same categories."""
    if len(one.instances) != len(other.instances):
        return Verdict.DIFFERS
    if not len(one.instances):
        return Verdict.COPIES
    labels, others_labels = table.labels[one.instances], table.labels[other.instances]
    boxes, others_boxes = in_one_unit(one.boxes, one.normalized, other.boxes, other.normalized)
    fits = box_fit(boxes, others_boxes)
    if check_labels:
        fits[labels[:, None] != others_labels[None, :]] = 0
    partner = fits.argmax(axis=1)
    best = fits[np.arange(len(partner)), partner]
    if best.min() < IOU or len(np.unique(partner)) < len(partner):
        return Verdict.DIFFERS
    partners = other.instances[partner]
    for mine, theirs in zip(one.instances.tolist(), partners.tolist(), strict=True):
        if not _same_points(table.points[mine], table.points[theirs]):
            return Verdict.DIFFERS
    same_bits = np.array_equal(
        table.boxes[one.instances], table.boxes[partners], equal_nan=True
    ) and np.array_equal(labels, table.labels[partners])
    same_unit = table.normalized[one.rows[0]] == table.normalized[other.rows[0]]
    if not (same_bits and same_unit):
        return Verdict.AGREES
    lengths = table.points.lengths
    adds_points = lengths[one.instances].any() and not lengths[partners].any()
    return Verdict.ADDS_POINTS if adds_points else Verdict.COPIES


def _compare_names(one: Description, other: Description) -> Verdict:
    """Compares two descriptions without a common category: are they the same boxes, renamed?"""
    boxes, others_boxes = in_one_unit(one.boxes, one.normalized, other.boxes, other.normalized)
    if not len(boxes) or not len(others_boxes):
        return Verdict.COMPLETES
    fits = box_fit(boxes, others_boxes)
    all_fit = fits.max(axis=1).min() >= _RENAMED_IOU or fits.max(axis=0).min() >= _RENAMED_IOU
    return Verdict.DIFFERS if all_fit else Verdict.COMPLETES


def share_boxes(one: Description, other: Description) -> bool:
    """Whether any box of one description fits one of the other, whatever their categories are."""
    boxes, others_boxes = in_one_unit(one.boxes, one.normalized, other.boxes, other.normalized)
    return bool(
        len(boxes) and len(others_boxes) and box_fit(boxes, others_boxes).max() >= _RENAMED_IOU
    )


def _compare_points(one: Description, other: Description, table: AnnotationTable) -> Verdict:
    """Compares the sets of points of two descriptions, in any order."""
    mine = [i for i in one.instances.tolist() if table.points.lengths[i]]
    theirs = [i for i in other.instances.tolist() if table.points.lengths[i]]
    if len(mine) != len(theirs):
        return Verdict.DIFFERS
    for i in mine:
        match = next((j for j in theirs if _same_points(table.points[i], table.points[j])), None)
        if match is None:
            return Verdict.DIFFERS
        theirs.remove(match)
    return Verdict.AGREES


def _same_points(points: NDArray[np.float32], others: NDArray[np.float32]) -> bool:
    """Whether two sets of points agree; the other set may have no points."""
    if not len(others):
        return True  # the preferred set completes the other one
    return points.shape == others.shape and bool(
        np.allclose(points, others, rtol=0, atol=PIXELS, equal_nan=True)
    )
