"""AnnotationTable: everything the sources say about the images, in columns; one row an image.

No Python object per image or per box is kept: a million images are a few arrays. Imports numpy and
`ragged` alone. Tables are immutable by convention; `take` and `concatenate` return new ones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntFlag
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from processing.core.columns import RaggedArray, offsets_of

UNASSIGNED: Final = -1
SPLITS: Final = ("train", "val", "test")
"""Names of the splits; a table's `splits` column holds positions in it, or `UNASSIGNED`."""


class Flag(IntFlag):
    """What an annotator noted about one instance."""

    NONE = 0
    CROWD = 1
    """COCO ``iscrowd``: one box around many objects."""
    INVALID = 2
    """WIDER FACE ``invalid``: not recognisable."""
    DIFFICULT = 4
    """Pascal VOC ``difficult``: not to be counted for or against a detector."""
    NO_BOX = 8
    """The source gives points only; `boxes` holds NaN."""
    IN_PIXELS = 16
    """Not in fractions, although its row, united of several, is `normalized`."""
    UPRIGHT = 32
    """Its source declared no size, although its row, united of several, has one."""


@dataclass(frozen=True, slots=True)
class AnnotationTable:
    """Annotations of N images with I instances (a box, or points, or both) and P points.

    Boxes and points are in pixels of the image as the annotation describes it, x to the right and y
    down, the corner of the first pixel at (0, 0); where `normalized` is set, in fractions of the
    upright image's width and height instead.

    Args:
        image_paths: StringDType (N,), relative to the raw directory, ``/`` separated.
        declared_sizes: int32 (N, 2) height, width as the annotation states them; 0, 0 where it does
            not.
        splits: int8 (N,), the official split as a position in `SPLITS`, or `UNASSIGNED`.
        normalized: bool (N,), whether the image's boxes and points are fractions of its size.
        offsets: int64 (N + 1,): image i owns instances ``offsets[i]:offsets[i + 1]``.
        boxes: float32 (I, 4) x1, y1, x2, y2, the far edges exclusive.
        labels: int32 (I,), positions in `category_names`.
        flags: uint8 (I,), `Flag` bits.
        points: RaggedArray of I rows, float32 (k, 3) as x, y, visibility (0 not labelled, 1 hidden,
            2 visible); k is 0 for an instance without points.
        category_names: names of the categories.
        keypoint_names: names of the points, empty where the source has none.
    """

    image_paths: NDArray[Any]
    declared_sizes: NDArray[np.int32]
    splits: NDArray[np.int8]
    normalized: NDArray[np.bool_]
    offsets: NDArray[np.int64]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int32]
    flags: NDArray[np.uint8]
    points: RaggedArray
    category_names: tuple[str, ...] = ()
    keypoint_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.image_paths)

    def take(self, indices: NDArray[np.integer[Any]]) -> AnnotationTable:
        """The rows at `indices`, int (M,), in that order, as copies."""
        instances = RaggedArray(np.arange(len(self.labels)), self.offsets, check=False).take(
            indices
        )
        chosen = instances.values
        return dataclasses.replace(
            self,
            image_paths=self.image_paths[indices],
            declared_sizes=self.declared_sizes[indices],
            splits=self.splits[indices],
            normalized=self.normalized[indices],
            offsets=instances.offsets,
            boxes=self.boxes[chosen],
            labels=self.labels[chosen],
            flags=self.flags[chosen],
            points=self.points.take(chosen),
        )

    def image(self, index: int) -> ImageAnnotations:
        """What the table says of one image; arrays are views."""
        start, stop = int(self.offsets[index]), int(self.offsets[index + 1])
        height, width = self.declared_sizes[index].tolist()
        return ImageAnnotations(
            declared_size=(height, width) if height and width else None,
            normalized=bool(self.normalized[index]),
            boxes=self.boxes[start:stop],
            labels=self.labels[start:stop],
            flags=self.flags[start:stop],
            points=self.points[start:stop],
        )


@dataclass(frozen=True, slots=True)
class ImageAnnotations:
    """The k instances of one image; columns as in `AnnotationTable`."""

    declared_size: tuple[int, int] | None
    normalized: bool
    boxes: NDArray[np.float32]
    labels: NDArray[np.int32]
    flags: NDArray[np.uint8]
    points: RaggedArray


def table_from_rows(
    rows: Iterable[TableRow],
    *,
    category_names: Sequence[str],
    keypoint_names: Sequence[str] = (),
) -> AnnotationTable:
    """Builds a table from one `TableRow` an image; for sources whose files hold one image each."""
    columns = list(rows)
    instances = [instance for row in columns for instance in row.instances]
    return AnnotationTable(
        image_paths=np.array([row.image_path for row in columns], dtype=np.dtypes.StringDType()),
        declared_sizes=np.array(
            [row.declared_size or (0, 0) for row in columns], dtype=np.int32
        ).reshape(-1, 2),
        splits=np.array([row.split for row in columns], dtype=np.int8),
        normalized=np.array([row.normalized for row in columns], dtype=bool),
        offsets=offsets_of([len(row.instances) for row in columns]),
        boxes=_as_float32([i.box for i in instances]).reshape(-1, 4),
        labels=np.array([i.label for i in instances], dtype=np.int32),
        flags=np.array([int(i.flags) for i in instances], dtype=np.uint8),
        points=RaggedArray(
            _as_float32([point for i in instances for point in i.points]).reshape(-1, 3),
            offsets_of([len(i.points) for i in instances]),
        ),
        category_names=tuple(category_names),
        keypoint_names=tuple(keypoint_names),
    )


def _as_float32(numbers: Sequence[Any]) -> NDArray[np.float32]:
    # A finite number beyond float32 becomes inf, which the repairs reject as such.
    with np.errstate(over="ignore"):
        return np.array(numbers, dtype=np.float32)


_NO_BOX = (float("nan"),) * 4


@dataclass(frozen=True, slots=True)
class Instance:
    """One annotated object, as in `AnnotationTable`; one without a box has ``Flag.NO_BOX``."""

    label: int
    box: tuple[float, float, float, float] = _NO_BOX
    flags: Flag = Flag.NONE
    points: Sequence[Sequence[float]] | NDArray[Any] = ()


@dataclass(frozen=True, slots=True)
class TableRow:
    """One image with its instances; columns as in `AnnotationTable`."""

    image_path: str
    instances: Sequence[Instance] = ()
    declared_size: tuple[int, int] | None = None
    split: int = UNASSIGNED
    normalized: bool = False


def concatenate(tables: Sequence[AnnotationTable]) -> AnnotationTable:
    """All rows of all tables; categories are united by name, in order of appearance.

    `keypoint_names` are kept where every table that has points agrees on them, else dropped.
    """
    names = list(dict.fromkeys(name for table in tables for name in table.category_names))
    position = {name: i for i, name in enumerate(names)}
    labels = []
    for table in tables:
        mapping = np.array([position[name] for name in table.category_names], dtype=np.int32)
        labels.append(mapping[table.labels] if len(mapping) else table.labels)
    counts = np.concatenate([np.diff(table.offsets) for table in tables])
    points = RaggedArray(
        np.concatenate([table.points.values for table in tables]),
        offsets_of(np.concatenate([table.points.lengths for table in tables])),
    )
    keypoint_names = {table.keypoint_names for table in tables if len(table.points.values)}
    return AnnotationTable(
        image_paths=np.concatenate([table.image_paths for table in tables]),
        declared_sizes=np.concatenate([table.declared_sizes for table in tables]),
        splits=np.concatenate([table.splits for table in tables]),
        normalized=np.concatenate([table.normalized for table in tables]),
        offsets=offsets_of(counts),
        boxes=np.concatenate([table.boxes for table in tables]),
        labels=np.concatenate(labels),
        flags=np.concatenate([table.flags for table in tables]),
        points=points,
        category_names=tuple(names),
        keypoint_names=keypoint_names.pop() if len(keypoint_names) == 1 else (),
    )
