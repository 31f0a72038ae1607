"""COCO's ``annotations`` as columns; no Python object of theirs outlives its chunk.

The rules stand in `coco`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

import numpy as np
from numpy.typing import NDArray

from processing.annotations import Flag
from processing.errors import AnnotationError, Rejection
from processing.ragged import RaggedArray, offsets_of
from processing.sources import coco_json
from processing.sources.coco_json import Annotation, CocoFile, Failure, Id, same_id

REJECTED: Final = -2
"""Position of an image that was rejected: its annotations go with it, without a word each."""

_UNKNOWN: Final = -1
_NO_BOX: Final = [float("nan")] * 4


@dataclass
class Instances:
    """The annotations that can be used, in the file's order; columns as in `AnnotationTable`.

    Args:
        rows: int64 (I,), the row of the image that each belongs to.
        labels: int32 (I,).
        boxes: float32 (I, 4).
        flags: uint8 (I,).
        points: I rows.
    """

    rows: NDArray[np.int64]
    labels: NDArray[np.int32]
    boxes: NDArray[np.float32]
    flags: NDArray[np.uint8]
    points: RaggedArray


def malformed(path: str, name: str, failures: list[Failure]) -> list[Rejection]:
    """The records of entries of the list `name` that could not be decoded."""
    return [
        Rejection(path, "annotation", "malformed", f"{path}: {name}[{position}]: {error}")
        for position, error, _ in failures
    ]


def read_instances(
    file: CocoFile, path: str, rows: Mapping[Id, int], labels: Mapping[Id, int]
) -> tuple[Instances, list[Rejection], set[int]]:
    """All annotations of a file, the rejected ones, and the rows that these belong to.

    Args:
        file: the loaded file.
        path: its name, for rejections.
        rows: image id to row, or to `REJECTED`.
        labels: category id to label.

    Raises:
        AnnotationError: there are annotations, but none with a box or points; reason ``no_boxes``.
    """
    parts = [_columns([], rows, labels)]
    rejections: list[Rejection] = []
    incomplete: set[int] = set()
    located = not file.annotations
    for positions, entries, failures in coco_json.chunks(file.annotations, Annotation):
        located |= bool(failures) or any(entry.bbox or entry.keypoints for entry in entries)
        columns = _columns(entries, rows, labels)
        usable = _usable(entries, columns)
        incomplete.update(columns.rows[~usable].tolist())
        owners = {failure: _row_of(failure, rows) for failure in failures}
        incomplete.update(owners.values())
        rejections += malformed(path, "annotations", [f for f in failures if owners[f] != REJECTED])
        for i in np.flatnonzero(~usable & (columns.rows != REJECTED)):
            reason, found = _fault(entries[i], columns.rows[i], columns.labels[i])
            message = f"{path}: annotations[{positions[i]}]: {found}"
            rejections.append(Rejection(path, "annotation", reason, message))
        parts.append(_take(columns, np.flatnonzero(usable)))
    if not located:
        raise AnnotationError(
            f"none of its {len(file.annotations):,} annotations has a bbox or keypoints; "
            "expected object detection or keypoint annotations",
            reason="no_boxes",
        )
    return _concatenate(parts), rejections, incomplete - {REJECTED, _UNKNOWN}


def _row_of(failure: Failure, rows: Mapping[Id, int]) -> int:
    return _UNKNOWN if failure.image_id is None else rows.get(failure.image_id, _UNKNOWN)


def _columns(
    entries: Sequence[Annotation], rows: Mapping[Id, int], labels: Mapping[Id, int]
) -> Instances:
    """Columns of all entries, usable or not; what is not there is NaN, no points, or `_UNKNOWN`."""
    n = len(entries)
    boxes = np.array(
        [entry.bbox if _has_box(entry) else _NO_BOX for entry in entries], dtype=np.float64
    ).reshape(n, 4)
    boxes[:, 2:] += boxes[:, :2]
    flags = [
        (Flag.CROWD if entry.iscrowd else 0) | (0 if _has_box(entry) else Flag.NO_BOX)
        for entry in entries
    ]
    # A finite number beyond float32 becomes inf, which the repairs reject as such.
    with np.errstate(over="ignore"):
        return Instances(
            rows=np.array([rows.get(same_id(e.image_id), _UNKNOWN) for e in entries], np.int64),
            labels=np.array(
                [labels.get(same_id(e.category_id), _UNKNOWN) for e in entries], np.int32
            ),
            boxes=boxes.astype(np.float32),
            flags=np.array(flags, dtype=np.uint8),
            points=_points(entries),
        )


def _has_box(entry: Annotation) -> bool:
    return entry.bbox is not None and len(entry.bbox) == 4


def _points(entries: Sequence[Annotation]) -> RaggedArray:
    """Labelled points; an entry whose visibilities are all 0 has none."""
    written = [entry.keypoints or () for entry in entries]
    whole = [numbers if len(numbers) % 3 == 0 else () for numbers in written]
    lengths = np.array([len(numbers) // 3 for numbers in whole], dtype=np.int64)
    values = np.fromiter(chain.from_iterable(whole), dtype=np.float64).reshape(-1, 3)
    owners = np.repeat(np.arange(len(entries)), lengths)
    labelled = np.bincount(owners, weights=values[:, 2] > 0, minlength=len(entries)) > 0
    kept = values[labelled[owners]].astype(np.float32)
    return RaggedArray(kept, offsets_of(np.where(labelled, lengths, 0)))


def _usable(entries: Sequence[Annotation], columns: Instances) -> NDArray[np.bool_]:
    well_formed = [
        len(entry.bbox or ()) in (0, 4) and len(entry.keypoints or ()) % 3 == 0 for entry in entries
    ]
    located = (columns.flags & Flag.NO_BOX == 0) | (columns.points.lengths > 0)
    named = (columns.rows >= 0) & (columns.labels >= 0)
    usable: NDArray[np.bool_] = np.array(well_formed, dtype=bool) & located & named
    return usable


def _fault(entry: Annotation, row: int, label: int) -> tuple[str, str]:
    """Why an entry is not usable: reason, and what was found."""
    if row == _UNKNOWN:
        return "unknown_image_id", f"image_id {entry.image_id!r} is not among the images"
    if label == _UNKNOWN:
        return "unknown_category", f"category_id {entry.category_id!r} is not among the categories"
    return "malformed", (
        f"expected a bbox of 4 numbers or labelled keypoints of 3 numbers each, found "
        f"{len(entry.bbox or ())} and {len(entry.keypoints or ())} numbers"
    )


def _take(columns: Instances, indices: NDArray[np.intp]) -> Instances:
    return Instances(
        rows=columns.rows[indices],
        labels=columns.labels[indices],
        boxes=columns.boxes[indices],
        flags=columns.flags[indices],
        points=columns.points.take(indices),
    )


def _concatenate(parts: Sequence[Instances]) -> Instances:
    return Instances(
        rows=np.concatenate([part.rows for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        boxes=np.concatenate([part.boxes for part in parts]),
        flags=np.concatenate([part.flags for part in parts]),
        points=RaggedArray(
            np.concatenate([part.points.values for part in parts]),
            offsets_of(np.concatenate([part.points.lengths for part in parts])),
        ),
    )
