"""Keeps apart what has the same place in a file but another meaning.

- Landmarks with different names, order or number are never mixed in one file.
- Two data sets that only number their classes are never merged by number.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from processing.core.annotation_sets import AnnotationSet
from processing.core.annotations import UNASSIGNED, AnnotationTable
from processing.core.errors import Rejection, SourceError
from processing.sources.paths import folder_of
from processing.sources.plausibility import file_and_place
from processing.sources.source_format import Reading
from processing.sources.split_names import split_of_word


def reject_odd_landmarks(reading: Reading) -> Reading:
    """Rejects sets of points whose number differs from most of their category in the same set.

    Args:
        reading: of all sources, before images are merged.

    Returns:
        The reading without them. If no number is that of more than half, all stay, and
        `describe_mixed_landmarks` explains why they cannot be in one file.
    """
    table = reading.table
    set_ids = np.repeat(table.set_ids, np.diff(table.offsets))
    lengths = table.points.lengths
    odd = np.zeros(len(lengths), dtype=bool)
    groups = set_ids.astype(np.int64) * len(table.category_names) + table.labels
    for group in np.unique(groups[lengths > 0]).tolist():
        chosen = (groups == group) & (lengths > 0)
        counts = np.bincount(lengths[chosen])
        usual = int(counts.argmax())
        if usual and 2 * counts[usual] > counts.sum():
            odd |= chosen & (lengths != usual)
    if not odd.any():
        return reading
    rejections = []
    for i in np.flatnonzero(odd).tolist():
        file, place = file_and_place(table, i)
        others = lengths[(groups == groups[i]) & (lengths > 0) & ~odd]
        message = f"{file}: {place}: {lengths[i]} points, but most others have {others[0]}"
        rejections.append(Rejection(file, "annotation", "malformed", message))
    owners = np.repeat(np.arange(len(table)), np.diff(table.offsets))
    paths = table.image_paths.tolist()
    missing = {paths[row] for row in np.unique(owners[odd]).tolist()}
    return dataclasses.replace(
        reading,
        table=table.keep_instances(~odd),
        rejections=[*reading.rejections, *rejections],
        images_missing_annotations=reading.images_missing_annotations | missing,
    )


def describe_mixed_landmarks(table: AnnotationTable) -> str:
    """Describes two annotation sets with different numbers or names of points; ``""`` if none."""
    set_ids = np.repeat(table.set_ids, np.diff(table.offsets))
    first: tuple[AnnotationSet, list[int]] | None = None
    for set_id, one in enumerate(table.annotation_sets):
        chosen = (set_ids == set_id) & (table.points.lengths > 0)
        counts = np.unique(table.points.lengths[chosen]).tolist()
        if not counts:
            continue
        # Categories may have points of their own: their labels tell them apart.
        if len(counts) > len(np.unique(table.labels[chosen])):
            return f"{_landmarks(one, counts)}: landmarks of different kinds cannot be in one file"
        if first is None:
            first = one, counts
        if first[1] != counts or first[0].keypoint_names != one.keypoint_names:
            return (
                f"{_landmarks(*first)}, but {_landmarks(one, counts)}: landmarks of different "
                "kinds cannot be in one file; read one of them with `sources`, or leave out the "
                "landmarker"
            )
    return ""


def check_class_names(table: AnnotationTable) -> None:
    """Checks that at most one data set only numbers its classes.

    Class 1 of ``train/labels.csv`` is class 1 of ``val/labels.csv``, but need not be that of
    another folder.

    Raises:
        SourceError: two data sets do; their class 0 may be two different things.
    """
    if all(one.has_names for one in table.annotation_sets):
        return
    used = set(np.repeat(table.set_ids, np.diff(table.offsets)).tolist())
    data_sets = set()
    unnamed = []
    for set_id, one in enumerate(table.annotation_sets):
        if set_id in used and not one.has_names:
            unnamed.append(one.path)
            parts = folder_of(one.path).split("/")
            key = "/".join(part for part in parts if split_of_word(part) == UNASSIGNED)
            data_sets.add((one.format, key))
    if len(data_sets) > 1:
        raise SourceError(
            f"{' and '.join(unnamed[:5])} only number their classes, so class 0 may be a different "
            "thing in each: add the names (data.yaml, classes.txt or obj.names), or read one of "
            "them with `sources`"
        )


def _landmarks(one: AnnotationSet, counts: list[int]) -> str:
    names = ""
    if one.keypoint_names:
        names = f" ({', '.join(one.keypoint_names[:3])}, …)"
    return f"{one.path} has {' or '.join(map(str, counts))} points{names or ' without names'}"
