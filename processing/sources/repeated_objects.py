"""Merges instances that occur several times in one image.

Instances with the same box and category become one (``duplicate_box``), with the points of the
first that has any and the flags of all. Instances without a box are the same if their points are.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Final

import numpy as np
from numpy.typing import NDArray

from processing.core.annotation_sets import AnnotationSet
from processing.core.annotations import AnnotationTable, Flag
from processing.core.errors import Note


def file_of(table: AnnotationTable, row: int) -> str:
    """Returns the annotation file that describes the image of a row."""
    own = str(table.annotation_files[row])
    if own or not table.annotation_sets:
        return own
    path: str = table.annotation_sets[table.set_ids[row]].path
    return path


def merge_instances(table: AnnotationTable) -> tuple[AnnotationTable, list[Note]]:
    """Merges repeated instances, and notes the removed ones."""
    candidates = _possible_duplicates(table)
    if len(candidates) == 0:
        return table, []
    keys = np.column_stack([_identity(table, candidates), _point_sets(table, candidates)])
    without_points = table.points.lengths[candidates] == 0
    # The last key of lexsort counts most. Within equal keys, an instance with points comes first,
    # then the one that was read first: it is kept.
    order = np.lexsort([candidates, without_points, *keys.T])
    chosen, keys = candidates[order], keys[order]
    starts = np.flatnonzero(np.append(True, (keys[1:] != keys[:-1]).any(axis=1)))
    flags = table.flags.copy()
    flags[chosen[starts]] = np.bitwise_or.reduceat(table.flags[chosen], starts)
    kept = np.ones(len(table.labels), dtype=bool)
    kept[chosen] = False
    kept[chosen[starts]] = True
    owners = np.repeat(chosen[starts], np.diff(np.append(starts, len(chosen))))
    sets, completed = _sets_that_add_points(table, chosen, owners)
    notes = _duplicate_notes(table, chosen[~completed], owners[~completed])
    table = dataclasses.replace(table, flags=flags, annotation_sets=sets)
    return table.keep_instances(kept), notes


def _sets_that_add_points(
    table: AnnotationTable, instances: NDArray[np.int64], kept: NDArray[np.int64]
) -> tuple[tuple[AnnotationSet, ...], NDArray[np.bool_]]:
    """Finds sets that add points to the objects of another set, as COCO's person_keypoints does.

    Data sets are meant so, so this is no note but a detail of the set without points.

    Args:
        table: before repeated instances are removed.
        instances: int64 (M,), candidates.
        kept: int64 (M,), for each of them the instance that is kept; itself if it is kept.

    Returns:
        All sets with these details; and bool (M,), marking the repetitions between such sets.
    """
    lengths, set_ids = table.points.lengths, table.instance_set_ids.astype(np.int64)
    n = len(table.annotation_sets)
    pairs = set_ids[kept] * n + set_ids[instances]
    turned = set_ids[instances] * n + set_ids[kept]
    between = set_ids[kept] != set_ids[instances]
    adding = np.unique(pairs[between & (lengths[kept] > 0) & (lengths[instances] == 0)])
    sets = list(table.annotation_sets)
    for pair in adding.tolist():
        giver, taker = divmod(pair, n)
        count = np.count_nonzero((pairs == pair) | (turned == pair))
        details = [sets[taker].details] if sets[taker].details else []
        details.append(f"{count} of the objects are in {sets[giver].path} too, with points")
        sets[taker] = dataclasses.replace(sets[taker], details="; ".join(details))
    return tuple(sets), np.isin(pairs, adding) | np.isin(turned, adding)


def _duplicate_notes(
    table: AnnotationTable, instances: NDArray[np.int64], kept: NDArray[np.int64]
) -> list[Note]:
    """Notes repeated instances: each one within a set, only their number between two sets.

    Args:
        table: before repeated instances are removed.
        instances: int64 (M,), candidates.
        kept: int64 (M,), for each of them the instance that is kept; itself if it is kept.
    """
    notes: list[Note] = []
    between: Counter[tuple[int, int]] = Counter()
    images = np.searchsorted(table.offsets, instances, side="right") - 1
    for image, repeated, first in zip(
        images.tolist(), instances.tolist(), kept.tolist(), strict=True
    ):
        sets = int(table.instance_set_ids[first]), int(table.instance_set_ids[repeated])
        if repeated == first or not table.annotation_sets:
            continue
        if sets[0] != sets[1]:
            between[sets] += 1
            continue
        path = str(table.image_paths[image])
        place = table.annotation_sets[sets[0]].place
        message = (
            f"{path}: {file_of(table, image)} describes one object twice, as "
            f"{place.format(table.entries[first])} and {place.format(table.entries[repeated])}: "
            "merged"
        )
        notes.append(Note("duplicate_box", path, message))
    for (first, second), count in sorted(between.items()):
        one, other = (table.annotation_sets[set_id].path for set_id in (first, second))
        message = f"{count} objects are the same in {one} and {other}: merged"
        notes.append(Note("duplicate_box", other, message, count))
    return notes


def _identity(table: AnnotationTable, instances: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns int64 (M, 4): image, label and box of instances; equal for the same object."""
    images = np.searchsorted(table.offsets, instances, side="right") - 1
    # Boxes are compared as bits, since NaN does not equal itself. Adding 0 turns -0 into 0.
    boxes = (table.boxes[instances] + np.float32(0)).view(np.int64)
    return np.column_stack([images, table.labels[instances], boxes])


def _point_sets(table: AnnotationTable, instances: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns int64 (M,): equal numbers for equal points; 0 for an instance with a box."""
    sets: dict[bytes, int] = {}
    no_box = table.flags[instances] & Flag.NO_BOX != 0
    numbers = np.zeros(len(instances), dtype=np.int64)
    for i in np.flatnonzero(no_box):
        points = table.points[int(instances[i])].tobytes()
        numbers[i] = sets.setdefault(points, len(sets) + 1)
    return numbers


_ODD: Final = np.uint64(0x9E3779B97F4A7C15)
"""2**64 divided by the golden ratio, the usual multiplier of Knuth's multiplicative hashing.

Being odd, it maps different numbers to different products.
"""


def _possible_duplicates(table: AnnotationTable) -> NDArray[np.int64]:
    """Finds the instances that may occur more than once.

    Most data sets have few duplicates or none. Sorting all instances by four columns takes seven
    times as long as sorting one hash of them, so only instances with equal hashes are compared
    exactly. Different instances with equal hashes are therefore harmless.
    """
    hashes = np.zeros(len(table.labels), dtype=np.uint64)
    for column in _identity(table, np.arange(len(table.labels))).T:
        hashes = (hashes ^ column.view(np.uint64)) * _ODD
        # A product mixes bits upwards only; the shift brings the high bits down again.
        hashes ^= hashes >> np.uint64(29)
    order = np.argsort(hashes)
    repeats = np.flatnonzero(hashes[order][1:] == hashes[order][:-1])
    return np.unique(order[np.concatenate([repeats, repeats + 1])])
