"""Gives the points of all formats one meaning: what is labelled, and what is no point at all.

- A point at -1, -1 is not labelled, whatever its visibility is: tools write that for a point that
  nobody placed. It becomes 0, 0, 0. The other points of its set are kept.
- A set without any labelled point is none. Its object keeps its box; without a box, the object is
  rejected (``no_points``).
- Points within one pixel of the corner, around a box in pixels, are fractions of the image. The
  object is rejected (``looks_like_fractions``), unless the option ``units`` of its source decides.
- A visibility is 0 (not labelled), 1 (hidden) or 2 (visible). An object with another one is
  rejected (``malformed``). NaN is left to the repairs, which list it.
"""

from __future__ import annotations

import dataclasses
from typing import Final

import numpy as np
from numpy.typing import NDArray

from processing.core.annotations import AnnotationTable, Flag
from processing.core.columns import RaggedArray, offsets_of
from processing.core.errors import Rejection
from processing.sources.plausibility import file_and_place
from processing.sources.source_format import Reading

_FEWEST_POINTS: Final = 2
"""One point may really lie within the first pixel."""


def settle_points(reading: Reading) -> Reading:
    """Applies the rules above.

    Args:
        reading: of all sources, before images are merged.
    """
    table = reading.table
    values = table.points.values
    if not len(values):  # most detection data: no arrays as long as its boxes
        return reading
    unplaced = (values[:, :2] == -1).all(axis=1) & (values[:, 2] != 0)
    visibilities = values[:, 2]
    odd = ~np.isin(visibilities, (0, 1, 2)) & ~np.isnan(visibilities) & ~unplaced
    fractions = _in_fractions(table)
    if not (unplaced.any() or odd.any() or fractions.any()):
        return reading
    points = RaggedArray(np.where(unplaced[:, None], np.float32(0), values), table.points.offsets)
    table = dataclasses.replace(table, points=points)
    owners = np.repeat(np.arange(len(table.labels)), points.lengths)
    labelled = np.bincount(owners[points.values[:, 2] != 0], minlength=len(table.labels)) > 0
    malformed = np.zeros(len(table.labels), dtype=bool)
    malformed[owners[odd]] = True
    empty = np.zeros(len(table.labels), dtype=bool)
    empty[owners[unplaced]] = True
    empty &= ~labelled
    empty_only = empty & (table.flags & Flag.NO_BOX != 0)
    lost = malformed | empty_only | fractions
    rejections = []
    for i in np.flatnonzero(lost).tolist():
        explain = _look_like_fractions if fractions[i] else _no_points
        rejections.append((_odd_visibility if malformed[i] else explain)(table, i))
    rows = np.repeat(np.arange(len(table)), np.diff(table.offsets))
    paths = table.image_paths.tolist()
    missing = {paths[row] for row in np.unique(rows[lost]).tolist()}
    return dataclasses.replace(
        reading,
        table=_without_points(table, empty).keep_instances(~lost),
        rejections=[*reading.rejections, *rejections],
        images_missing_annotations=reading.images_missing_annotations | missing,
    )


def _in_fractions(table: AnnotationTable) -> NDArray[np.bool_]:
    """Marks the instances with a box in pixels and points in fractions, bool (I,)."""
    count = len(table.labels)
    owners = np.repeat(np.arange(count), table.points.lengths)
    labelled = table.points.values[:, 2] > 0
    places, owners = table.points.values[labelled, :2], owners[labelled]
    beyond = ~((places >= 0) & (places <= 1)).all(axis=1)  # also NaN
    fractional = (places != np.floor(places)).any(axis=1)
    marked: NDArray[np.bool_] = np.bincount(owners, minlength=count) >= _FEWEST_POINTS
    marked &= np.bincount(owners[beyond], minlength=count) == 0
    marked &= np.bincount(owners[fractional], minlength=count) > 0
    decided = np.array([bool(one.units) for one in table.annotation_sets] or [False])
    marked &= ~np.repeat(table.normalized | decided[table.set_ids], np.diff(table.offsets))
    # NaN, where there is no box, is not larger.
    marked &= (table.boxes[:, 2:] > 1).any(axis=1)
    return marked


def _without_points(table: AnnotationTable, marked: NDArray[np.bool_]) -> AnnotationTable:
    """Removes the points of the marked instances, bool (I,)."""
    lengths = table.points.lengths
    values = table.points.values[~np.repeat(marked, lengths)]
    points = RaggedArray(values, offsets_of(np.where(marked, 0, lengths)))
    return dataclasses.replace(table, points=points)


def _odd_visibility(table: AnnotationTable, instance: int) -> Rejection:
    file, place = file_and_place(table, instance)
    values = table.points[instance][:, 2]
    found = float(values[~np.isin(values, (0, 1, 2))][0])
    message = (
        f"{file}: {place}: a point has the visibility {found:g}; expected 0 (not labelled), 1 "
        "(hidden) or 2 (visible)"
    )
    return Rejection(file, "annotation", "malformed", message)


def _look_like_fractions(table: AnnotationTable, instance: int) -> Rejection:
    file, place = file_and_place(table, instance)
    x, y, _ = table.points[instance][0].tolist()
    message = (
        f"{file}: {place}: its points, such as ({x:g}, {y:g}), look like fractions, and its box is "
        "in pixels: multiply the points by the image's width and height"
    )
    return Rejection(file, "annotation", "looks_like_fractions", message)


def _no_points(table: AnnotationTable, instance: int) -> Rejection:
    file, place = file_and_place(table, instance)
    count = table.points.lengths[instance]
    message = f"{file}: {place}: none of its {count} points is labelled"
    return Rejection(file, "annotation", "no_points", message)
