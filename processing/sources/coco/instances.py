"""The list ``annotations`` of a COCO file as columns, filled chunk by chunk.

No Python object of an annotation outlives its chunk. The rules are documented in `coco.reader`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from types import SimpleNamespace
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
from processing.core.errors import AnnotationError, Note, Rejection
from processing.sources.coco.entries import Annotation, Chunk, CocoFile, Failure, Id, same_id
from processing.sources.coco.keypoints import count_unlabelled, note_unlabelled, points_of
from processing.sources.coco.polygons import add_missing_boxes, explain_missing_box
from processing.sources.text import numbers_of

REJECTED: Final = -2
"""Row of a rejected image. Its annotations are dropped without a rejection of their own."""

_UNKNOWN: Final = -1
"""Row or label of an id that is not in the file's lists."""

_NO_NUMBERS: Final = np.zeros(0, dtype=np.int32)

_NO_IDS: Final = np.zeros(0, dtype=np.int64)

_SET: Final = (1, "1", "true", "True")
"""Values of ``ignore`` that mean yes; True equals 1."""


@dataclass(frozen=True, kw_only=True)
class CocoInstances(InstanceColumns):
    """The usable annotations in the order of the file.

    Args:
        rows: int64 (I,), for each annotation the table row of its image.
    """

    rows: NDArray[np.int64]

    def take(self, kept: NDArray[np.integer]) -> CocoInstances:
        """Returns the instances at the positions `kept`, as copies."""
        return CocoInstances(**take_columns(self, _COLUMNS, kept))


_COLUMNS: Final = ("rows", *INSTANCE_COLUMNS)
_PART_COLUMNS: Final = tuple(
    name for name in _COLUMNS if name not in ("entries", "instance_set_ids")
)
"""Columns of a part of a file. The others are known at the end, and would take memory twice."""


def _part(columns: CocoInstances, kept: NDArray[np.int64]) -> SimpleNamespace:
    return SimpleNamespace(**take_columns(columns, _PART_COLUMNS, kept))


def rejections_of(path: str, name: str, failures: list[Failure]) -> list[Rejection]:
    """Records the entries of the list `name` that could not be decoded."""
    return [
        Rejection(path, "annotation", "malformed", f"{path}: {name}[{position}]: {error}")
        for position, error, _ in failures
    ]


def read_instances(
    file: CocoFile, path: str, rows: Mapping[Id, int], labels: Mapping[Id, int]
) -> tuple[CocoInstances, list[Rejection], set[int], list[Note]]:
    """Reads all annotations of a file.

    Args:
        file: the loaded file.
        path: its name, for rejections.
        rows: the row of each image id, or `REJECTED`.
        labels: the label of each category id.

    Returns:
        The usable annotations, the rejected ones, the rows that lost an annotation, and notes.

    Raises:
        AnnotationError: none of the annotations has a box, an outline or points; reason
            ``no_boxes``. Or all of them have a score; reason ``prediction``.
    """
    # A part without rows first, so that a file without annotations has all columns too.
    parts = [_part(_columns(Chunk([], [], [], []), rows, labels)[0], np.zeros(0, np.int64))]
    unusable = [np.zeros(0, dtype=np.int64)]
    rejections: list[Rejection] = []
    images_missing_annotations: set[int] = set()
    has_objects = not file.annotations
    predictions = unlabelled = 0
    ids = [_NO_IDS]
    for chunk in file.annotations.decoded(Annotation):
        outlined = add_missing_boxes(chunk)
        has_objects |= bool(chunk.failures or outlined) or any(
            entry.bbox or entry.keypoints for entry in chunk.entries
        )
        ids.append(_ids(chunk.entries))
        predicted = _predictions(chunk.entries)
        predictions += int(np.count_nonzero(predicted))
        columns, usable = _columns(chunk, rows, labels)
        unlabelled += count_unlabelled(chunk.entries, columns.points)
        usable &= ~predicted
        images_missing_annotations.update(columns.rows[~usable].tolist())
        for failure in chunk.failures:
            row = _UNKNOWN
            if failure.image_id is not None:
                row = rows.get(failure.image_id, _UNKNOWN)
            images_missing_annotations.add(row)
            if row != REJECTED:
                rejections += rejections_of(path, "annotations", [failure])
        for i in np.flatnonzero(~usable & (columns.rows != REJECTED)).tolist():
            reason, found = _explain(chunk, i, columns.rows[i], columns.labels[i])
            message = f"{path}: annotations[{chunk.positions[i]}]: {found}"
            rejections.append(Rejection(path, "annotation", reason, message))
        parts.append(_part(columns, np.flatnonzero(usable)))
        unusable.append(np.asarray(chunk.positions, dtype=np.int64)[~usable])
        unusable.append(np.array([failure.position for failure in chunk.failures], np.int64))
        del chunk  # see `Entries.decoded`
    _check_objects(len(file.annotations), predictions, has_objects=has_objects)
    joined = concatenate_columns(parts, _PART_COLUMNS)
    del parts
    entries = np.delete(np.arange(len(file.annotations), dtype=np.int32), np.concatenate(unusable))
    set_ids = np.zeros(len(entries), dtype=np.int32)
    instances = CocoInstances(**joined, entries=entries, instance_set_ids=set_ids)
    rows_of_rejected = images_missing_annotations - {REJECTED, _UNKNOWN}
    notes = [*note_unlabelled(path, unlabelled), *_note_repeated_ids(path, np.concatenate(ids))]
    return instances, rejections, rows_of_rejected, notes


def _ids(entries: Sequence[Annotation]) -> NDArray[np.int64]:
    """Returns the ids of annotations that are numbers."""
    ids = [entry.id for entry in entries]
    if set(map(type, ids)) != {int}:
        ids = [each for each in ids if type(each) is int]
    try:
        return np.array(ids, dtype=np.int64)
    except OverflowError:
        return np.array([each for each in ids if abs(each) < 1 << 63], dtype=np.int64)


def _note_repeated_ids(path: str, ids: NDArray[np.int64]) -> Iterator[Note]:
    """Notes ids that several annotations have. Here each of them counts; in other tools, one."""
    ids = np.sort(ids)
    repeated = ids[1:][ids[1:] == ids[:-1]]
    if len(repeated):
        message = (
            f"{path}: {len(repeated):,} annotations have the id of another one, such as "
            f"{repeated[0]}; all are kept, but pycocotools would take one for the other"
        )
        yield Note("duplicate_annotation_id", path, message, len(repeated))


def _check_objects(count: int, predictions: int, *, has_objects: bool) -> None:
    if count and predictions == count:
        raise AnnotationError(
            f"all its {count:,} annotations have a score, so they are predictions and no "
            "annotations; expected a file that people have checked, without scores",
            reason="prediction",
        )
    if not has_objects:
        raise AnnotationError(
            f"none of its {count:,} annotations has a bbox, polygons or keypoints; "
            "expected object detection or keypoint annotations",
            reason="no_boxes",
        )


def _columns(
    chunk: Chunk[Annotation], rows: Mapping[Id, int], labels: Mapping[Id, int]
) -> tuple[CocoInstances, NDArray[np.bool_]]:
    """Turns entries into columns.

    Returns:
        The columns of all n entries, with NaN, no points or `_UNKNOWN` for missing values; and
        bool (n,), marking the usable entries.
    """
    entries = chunk.entries
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
    points, points_complete = points_of(entries)
    columns = CocoInstances(
        rows=_positions([entry.image_id for entry in entries], rows),
        labels=_positions([entry.category_id for entry in entries], labels).astype(np.int32),
        boxes=boxes_in_float32,
        flags=_flags(entries, boxed),
        points=points,
        entries=_NO_NUMBERS,
        instance_set_ids=_NO_NUMBERS,
    )
    usable = (
        (boxed | (sizes == 0))
        & points_complete
        & (boxed | (points.lengths > 0))
        & (columns.rows >= 0)
        & (columns.labels >= 0)
    )
    return columns, usable


def _flags(entries: Sequence[Annotation], boxed: NDArray[np.bool_]) -> NDArray[np.uint8]:
    n = len(entries)
    crowded = np.fromiter((bool(entry.iscrowd) for entry in entries), np.bool_, n)
    ignored = np.zeros(n, dtype=bool)
    written = [entry.ignore for entry in entries]
    if written.count(None) < n:  # nearly all files have no such key
        ignored[:] = [value in _SET for value in written]
    flags = np.where(crowded, Flag.CROWD, 0) | np.where(ignored, Flag.IGNORED, 0)
    return (flags | np.where(boxed, 0, Flag.NO_BOX)).astype(np.uint8)


def _predictions(entries: Sequence[Annotation]) -> NDArray[np.bool_]:
    """Returns bool (n,): marks the entries with a score."""
    if [entry.score for entry in entries].count(None) == len(entries):  # as in nearly all files
        return np.zeros(len(entries), dtype=bool)
    return np.fromiter(map(_is_prediction, entries), np.bool_, len(entries))


def _is_prediction(entry: Annotation) -> bool:
    """Whether an entry has a number as its score."""
    score = entry.score
    if score is None or isinstance(score, bool):
        return False
    return isinstance(score, int | float) or numbers_of([str(score)]) is not None


def _positions(ids: Sequence[Id], positions: Mapping[Id, int]) -> NDArray[np.int64]:
    """Returns int64 (n,): the position of each id, or `_UNKNOWN`."""
    # Nearly all files have integers only, and they need no conversion.
    keys = ids if set(map(type, ids)) == {int} else map(same_id, ids)
    return np.fromiter(map(positions.get, keys, repeat(_UNKNOWN)), np.int64, len(ids))


def _explain(chunk: Chunk[Annotation], i: int, row: int, label: int) -> tuple[str, str]:
    """Returns the reason why entry `i` of a chunk is unusable, and a description of the entry."""
    entry = chunk.entries[i]
    if row == _UNKNOWN:
        return "unknown_image_id", f"image_id {entry.image_id!r} is not among the images"
    if label == _UNKNOWN:
        return "unknown_category", f"category_id {entry.category_id!r} is not among the categories"
    if _is_prediction(entry):
        return "prediction", (
            f"a score of {entry.score}: predictions are no annotations; expected an object without "
            "score"
        )
    outline = "" if entry.bbox else explain_missing_box(chunk.written[i])
    return "malformed", (
        f"expected a bbox of 4 numbers or labelled keypoints of 3 numbers each, found "
        f"{len(entry.bbox or ())} and {len(entry.keypoints or ())} numbers{outline}"
    )
