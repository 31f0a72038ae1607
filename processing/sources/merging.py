"""One row an image: unites what several files, formats or entries say about the same one.

- Rows come out sorted by path, in code-point order, whatever order file systems list them in.
- An image named by two splits is in none: `UNASSIGNED` (``ambiguous_split``).
- Where one source gives boxes in pixels and another fractions, the pixels are kept: the same boxes
  rounded differently would otherwise count twice (``duplicate_in_fractions``).
- Instances of rows in other units, or of rows that declare no size, are marked so: what a row says
  is true of its own instances alone.
- Sources that declare different sizes for an image describe different images: it is rejected
  (``conflicting_sizes``).
- Instances of an image with the same box and category are one (``duplicate_box``), with the points
  of the first that has them and the flags of all; instances without a box are the same if their
  points are.
- An image none of whose annotations could be used is no negative: it is rejected
  (``no_usable_annotation``).
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from processing.core.annotations import (
    IMAGE_COLUMNS,
    UNASSIGNED,
    AnnotationTable,
    Flag,
    take_columns,
)
from processing.core.columns import offsets_of
from processing.core.errors import Rejection
from processing.sources.source_format import Reading


def merge_images(table: AnnotationTable) -> Reading:
    """The table with one row an image, the images that had to be left out, and what was settled.

    Args:
        table: any rows; the same path may occur several times.
    """
    notes: Counter[str] = Counter()
    table = table.take(np.argsort(table.image_paths, kind="stable"))
    kept = ~_fractions_beside_pixels(table)
    if not kept.all():
        notes["duplicate_in_fractions"] = int(np.count_nonzero(~kept))
        table = table.take(np.flatnonzero(kept))
    starts = _starts(table)
    if len(starts) < len(table):
        notes["duplicate_image"] = len(table) - len(starts)
    table, conflicts, ambiguous = _unite_rows(table, starts)
    rejections = [_conflict(path) for path in table.image_paths[conflicts]]
    if rejections:
        table = table.take(np.flatnonzero(~conflicts))
    table, duplicates = _unite_instances(table)
    notes.update({"ambiguous_split": ambiguous, "duplicate_box": duplicates})
    return Reading(table, rejections, +notes)


def reject_unusable(
    table: AnnotationTable,
    images_missing_annotations: Collection[tuple[str, str]],
    rejections: Sequence[Rejection],
) -> tuple[AnnotationTable, list[Rejection]]:
    """The table without images that only seem to have no objects, and their rejections.

    Args:
        table: one row an image.
        images_missing_annotations: as `Reading` has them.
        rejections: what is listed so far; an image is not listed again if it is named there, or
            the annotation file is that is of it alone.
    """
    if not images_missing_annotations:
        return table, []
    annotated = set(table.image_paths[np.diff(table.offsets) > 0].tolist())
    unusable = {path for path, _ in images_missing_annotations} - annotated
    kept = [i for i, path in enumerate(table.image_paths.tolist()) if path not in unusable]
    named = {rejection.path for rejection in rejections}
    listed = {path for path, own in images_missing_annotations if not named.isdisjoint((path, own))}
    new = sorted(unusable - listed)
    return table.take(np.array(kept, dtype=np.int64)), [_no_usable_annotation(path) for path in new]


def _no_usable_annotation(path: str) -> Rejection:
    return Rejection(
        path,
        "annotation",
        "no_usable_annotation",
        f"{path}: every annotation of it was rejected, so what it shows is unknown; expected at "
        "least one that can be used, or none at all for an image without objects",
    )


def _starts(table: AnnotationTable) -> NDArray[np.int64]:
    """Rows of the sorted table at which another image begins."""
    paths = table.image_paths
    if len(paths) == 0:
        return np.empty(0, dtype=np.int64)
    return np.flatnonzero(np.concatenate([[True], paths[1:] != paths[:-1]]))


def _fractions_beside_pixels(table: AnnotationTable) -> NDArray[np.bool_]:
    """Rows in fractions of images of which another row has boxes in pixels."""
    starts = _starts(table)
    boxes = offsets_of(table.flags & np.uint8(Flag.NO_BOX) == 0)
    in_pixels = ~table.normalized & (np.diff(boxes[table.offsets]) > 0)
    if not table.normalized.any() or not in_pixels.any():
        return np.zeros(len(table), dtype=bool)
    any_in_pixels = np.maximum.reduceat(in_pixels, starts)
    lengths = np.diff(np.append(starts, len(table)))
    beside: NDArray[np.bool_] = table.normalized & np.repeat(any_in_pixels, lengths)
    return beside


def _unite_rows(
    table: AnnotationTable, starts: NDArray[np.int64]
) -> tuple[AnnotationTable, NDArray[np.bool_], int]:
    """One row an image, which have conflicting sizes, and how many had several splits."""
    if len(starts) == len(table):
        return table, np.zeros(len(table), dtype=bool), 0
    splits, several_splits = _unique_value(table.splits, UNASSIGNED, starts)
    height, several_heights = _unique_value(table.declared_sizes[:, 0], 0, starts)
    width, several_widths = _unique_value(table.declared_sizes[:, 1], 0, starts)
    first_rows = take_columns(table, IMAGE_COLUMNS, starts)
    merged_columns = {
        "declared_sizes": np.stack([height, width], axis=1),
        "splits": splits,
        "normalized": np.maximum.reduceat(table.normalized, starts),
    }
    united = dataclasses.replace(
        table,
        flags=table.flags | np.repeat(_minority_flags(table, starts), np.diff(table.offsets)),
        # The rows of one image are neighbours after sorting, and so are their instances.
        offsets=table.offsets[np.append(starts, len(table))],
        **first_rows | merged_columns,
    )
    return united, several_heights | several_widths, int(np.count_nonzero(several_splits))


def _minority_flags(table: AnnotationTable, starts: NDArray[np.int64]) -> NDArray[np.uint8]:
    """uint8 (N,): for each row the flags of its instances, once it is united with its image's."""
    rows = np.diff(np.append(starts, len(table)))
    declares = (table.declared_sizes > 0).any(axis=1)
    any_normalized, any_declares = (
        np.repeat(np.maximum.reduceat(of_rows, starts), rows)
        for of_rows in (table.normalized, declares)
    )
    in_pixels = any_normalized & ~table.normalized
    upright = any_declares & ~declares & ~table.normalized
    flags: NDArray[np.uint8] = (in_pixels * Flag.IN_PIXELS + upright * Flag.UPRIGHT).astype(
        np.uint8
    )
    return flags


def _unique_value(
    values: NDArray[Any], absent: int, starts: NDArray[np.int64]
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Each image's only value besides `absent`, or that; and which images have several."""
    largest = np.maximum.reduceat(values, starts)
    present = np.where(values == absent, np.iinfo(values.dtype).max, values)
    smallest = np.minimum.reduceat(present, starts)
    several = (largest != absent) & (smallest != largest)
    return np.where(several, absent, largest).astype(values.dtype), several


def _conflict(path: str) -> Rejection:
    return Rejection(
        path,
        "annotation",
        "conflicting_sizes",
        f"{path}: its annotations declare different image sizes; expected one: "
        "name the right source with `sources`, or remove the other",
    )


def _unite_instances(table: AnnotationTable) -> tuple[AnnotationTable, int]:
    """The table without repeated instances, and how many there were."""
    suspects = _suspects(table)
    if len(suspects) == 0:
        return table, 0
    keys = np.column_stack([_identity(table, suspects), _point_sets(table, suspects)])
    without_points = table.points.lengths[suspects] == 0
    order = np.lexsort([suspects, without_points, *keys.T])
    chosen, keys = suspects[order], keys[order]
    starts = np.flatnonzero(np.append(True, (keys[1:] != keys[:-1]).any(axis=1)))
    flags = table.flags.copy()
    flags[chosen[starts]] = np.bitwise_or.reduceat(table.flags[chosen], starts)
    kept = np.ones(len(table.labels), dtype=bool)
    kept[chosen] = False
    kept[chosen[starts]] = True
    united = dataclasses.replace(table, flags=flags).keep_instances(kept)
    return united, int(np.count_nonzero(~kept))


def _identity(table: AnnotationTable, instances: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64 (M, 4): image, label and box of the instances; the same for the same object."""
    images = np.searchsorted(table.offsets, instances, side="right") - 1
    # As bits, since NaN equals nothing; adding 0 gives -0 the bits of 0.
    boxes = (table.boxes[instances] + np.float32(0)).view(np.int64)
    return np.column_stack([images, table.labels[instances], boxes])


def _point_sets(table: AnnotationTable, instances: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64 (M,): equal for equal points where the instance has no box, 0 where it has one."""
    sets: dict[bytes, int] = {}
    no_box = table.flags[instances] & Flag.NO_BOX != 0
    numbers = np.zeros(len(instances), dtype=np.int64)
    for i in np.flatnonzero(no_box):
        numbers[i] = sets.setdefault(table.points[int(instances[i])].tobytes(), len(sets) + 1)
    return numbers


_ODD: Final = np.uint64(0x9E3779B97F4A7C15)
"""2**64 divided by the golden ratio: Knuth's multiplicative hashing."""


def _suspects(table: AnnotationTable) -> NDArray[np.int64]:
    """Instances that may be repeated: one cheap sort, where comparing all columns takes seven."""
    hashes = np.zeros(len(table.labels), dtype=np.uint64)
    for column in _identity(table, np.arange(len(table.labels))).T:
        hashes = (hashes ^ column.view(np.uint64)) * _ODD
        hashes ^= hashes >> np.uint64(29)
    order = np.argsort(hashes)
    repeats = np.flatnonzero(hashes[order][1:] == hashes[order][:-1])
    return np.unique(order[np.concatenate([repeats, repeats + 1])])
