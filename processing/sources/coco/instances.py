"""The list ``annotations`` of a COCO file as columns, filled chunk by chunk.

No Python object of an annotation outlives its chunk. The rules are documented in `coco.reader`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Final

import numpy as np
from numpy.typing import NDArray

from processing.core.annotations import (
    INSTANCE_COLUMNS,
    Flag,
    InstanceColumns,
    concatenate_columns,
    take_columns,
)
from processing.core.columns import RaggedArray, offsets_of
from processing.core.errors import AnnotationError, Rejection
from processing.sources.coco.entries import Annotation, CocoFile, Failure, Id, same_id

REJECTED: Final = -2
"""Row of a rejected image. Its annotations are dropped without a rejection of their own."""

_UNKNOWN: Final = -1
"""Row or label of an id that is not in the file's lists."""


@dataclass(frozen=True, kw_only=True)
class CocoInstances(InstanceColumns):
    """The usable annotations in the order of the file.

    Args:
        rows: int64 (I,), for each annotation the table row of its image.
    """

    rows: NDArray[np.int64]


_COLUMNS: Final = ("rows", *INSTANCE_COLUMNS)


def rejections_of(path: str, name: str, failures: list[Failure]) -> list[Rejection]:
    """Records the entries of the list `name` that could not be decoded."""
    return [
        Rejection(path, "annotation", "malformed", f"{path}: {name}[{position}]: {error}")
        for position, error, _ in failures
    ]


def read_instances(
    file: CocoFile, path: str, rows: Mapping[Id, int], labels: Mapping[Id, int]
) -> tuple[CocoInstances, list[Rejection], set[int]]:
    """Reads all annotations of a file.

    Args:
        file: the loaded file.
        path: its name, for rejections.
        rows: the row of each image id, or `REJECTED`.
        labels: the label of each category id.

    Returns:
        The usable annotations, the rejected ones, and the rows that lost an annotation.

    Raises:
        AnnotationError: none of the annotations has a box or points; reason ``no_boxes``.
    """
    # A part without rows first, so that a file without annotations has all columns too.
    parts = [_columns([], [], rows, labels)[0]]
    rejections: list[Rejection] = []
    images_missing_annotations: set[int] = set()
    has_objects = not file.annotations
    for positions, entries, failures in file.annotations.decoded(Annotation):
        has_objects |= bool(failures) or any(entry.bbox or entry.keypoints for entry in entries)
        columns, usable = _columns(positions, entries, rows, labels)
        images_missing_annotations.update(columns.rows[~usable].tolist())
        for failure in failures:
            row = _UNKNOWN
            if failure.image_id is not None:
                row = rows.get(failure.image_id, _UNKNOWN)
            images_missing_annotations.add(row)
            if row != REJECTED:
                rejections += rejections_of(path, "annotations", [failure])
        for i in np.flatnonzero(~usable & (columns.rows != REJECTED)).tolist():
            reason, found = _explain(entries[i], columns.rows[i], columns.labels[i])
            message = f"{path}: annotations[{positions[i]}]: {found}"
            rejections.append(Rejection(path, "annotation", reason, message))
        parts.append(CocoInstances(**take_columns(columns, _COLUMNS, np.flatnonzero(usable))))
    if not has_objects:
        raise AnnotationError(
            f"none of its {len(file.annotations):,} annotations has a bbox or keypoints; "
            "expected object detection or keypoint annotations",
            reason="no_boxes",
        )
    instances = CocoInstances(**concatenate_columns(parts, _COLUMNS))
    return instances, rejections, images_missing_annotations - {REJECTED, _UNKNOWN}


def _columns(
    positions: Sequence[int],
    entries: Sequence[Annotation],
    rows: Mapping[Id, int],
    labels: Mapping[Id, int],
) -> tuple[CocoInstances, NDArray[np.bool_]]:
    """Turns entries into columns.

    Returns:
        The columns of all n entries, with NaN, no points or `_UNKNOWN` for missing values; and
        bool (n,), marking the usable entries.
    """
    n = len(entries)
    written = [entry.bbox or () for entry in entries]
    sizes = np.fromiter(map(len, written), np.int64, n)
    boxed = sizes == 4
    # One flat iterator into fromiter is faster than an array per box.
    numbers = chain.from_iterable(box for box in written if len(box) == 4)
    boxes = np.full((n, 4), np.nan)
    boxes[boxed] = np.fromiter(numbers, np.float64).reshape(-1, 4)
    # Numbers beyond float32 become inf or NaN, and the repairs drop such boxes.
    with np.errstate(over="ignore", invalid="ignore"):
        # Far edges are added in float64: rounding x and width first could shift the edge.
        boxes[:, 2:] += boxes[:, :2]
        boxes_in_float32 = boxes.astype(np.float32)
    crowded = np.fromiter((bool(entry.iscrowd) for entry in entries), np.bool_, n)
    flags = np.where(crowded, Flag.CROWD, 0) | np.where(boxed, 0, Flag.NO_BOX)
    points, points_complete = _points(entries)
    columns = CocoInstances(
        rows=_positions([entry.image_id for entry in entries], rows),
        labels=_positions([entry.category_id for entry in entries], labels).astype(np.int32),
        boxes=boxes_in_float32,
        flags=flags.astype(np.uint8),
        points=points,
        entries=np.fromiter(positions, np.int32, n),
        instance_set_ids=np.zeros(n, dtype=np.int32),
    )
    usable = (
        (boxed | (sizes == 0))
        & points_complete
        & (boxed | (points.lengths > 0))
        & (columns.rows >= 0)
        & (columns.labels >= 0)
    )
    return columns, usable


def _positions(ids: Sequence[Id], positions: Mapping[Id, int]) -> NDArray[np.int64]:
    """Returns int64 (n,): the position of each id, or `_UNKNOWN`."""
    # Nearly all files have integers only, and they need no conversion.
    keys = ids if set(map(type, ids)) == {int} else map(same_id, ids)
    return np.fromiter(map(positions.get, keys, repeat(_UNKNOWN)), np.int64, len(ids))


def _points(entries: Sequence[Annotation]) -> tuple[RaggedArray, NDArray[np.bool_]]:
    """Collects the points of n entries.

    Returns:
        The points, without those of entries that have only visibilities of 0. And bool (n,),
        marking the entries with complete points, three numbers each.
    """
    n = len(entries)
    written = [entry.keypoints or () for entry in entries]
    sizes = np.fromiter(map(len, written), np.int64, n)
    complete = sizes % 3 == 0
    lengths = np.where(complete, sizes // 3, 0)
    numbers = chain.from_iterable(listed for listed in written if len(listed) % 3 == 0)
    values = np.fromiter(numbers, np.float64).reshape(-1, 3)
    owners = np.repeat(np.arange(n), lengths)
    # The weights count the points of each entry that have a visibility.
    labelled = np.bincount(owners, weights=values[:, 2] > 0, minlength=n) > 0
    with np.errstate(over="ignore", invalid="ignore"):  # as for boxes
        kept = values[labelled[owners]].astype(np.float32)
    return RaggedArray(kept, offsets_of(np.where(labelled, lengths, 0))), complete


def _explain(entry: Annotation, row: int, label: int) -> tuple[str, str]:
    """Returns the reason why an entry is unusable, and a description of the entry."""
    if row == _UNKNOWN:
        return "unknown_image_id", f"image_id {entry.image_id!r} is not among the images"
    if label == _UNKNOWN:
        return "unknown_category", f"category_id {entry.category_id!r} is not among the categories"
    return "malformed", (
        f"expected a bbox of 4 numbers or labelled keypoints of 3 numbers each, found "
        f"{len(entry.bbox or ())} and {len(entry.keypoints or ())} numbers"
    )
