"""AnnotationTable: the annotations of all images as columns, one row per image.

The columns are declared once, as fields of `ImageColumns` and `InstanceColumns`.

A table holds no Python object per image or per box, so a million images are a few arrays. Tables
are immutable by convention: every method returns a new one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import IntFlag
from itertools import chain
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from processing.core.annotation_sets import AnnotationSet
from processing.core.columns import Column, ColumnArray, RaggedArray, offsets_of

UNASSIGNED: Final = -1
"""In the column `splits`: the image has no official split."""
SPLITS: Final = ("train", "val", "test")
"""Names of the splits; the column `splits` holds positions in this tuple, or `UNASSIGNED`."""

NOT_DECLARED: Final = (0, 0)
"""In the column `declared_sizes`: the annotation does not state the size of its image."""


class Flag(IntFlag):
    """Properties of one instance that an annotator noted, or that merging has to remember."""

    NONE = 0
    CROWD = 1
    """COCO ``iscrowd``: one box around many objects."""
    INVALID = 2
    """WIDER FACE ``invalid``: the face cannot be recognised."""
    DIFFICULT = 4
    """Pascal VOC ``difficult``: evaluations ignore this object."""
    NO_BOX = 8
    """The source gives points only; `boxes` holds NaN."""
    IN_PIXELS = 16
    """In pixels, although the merged row of its image is `normalized`."""
    UPRIGHT = 32
    """Its source declared no image size, although another source of the same image did."""
    IGNORED = 64
    """COCO ``ignore``: evaluations ignore this object."""


def _made_from(
    attribute: str, dtype: str, row_shape: tuple[int, ...] = (), *, ragged: bool = False
) -> dict[str, Column]:
    """Metadata of a column: the attribute of a `TableRow` or `Instance` that it is filled from."""
    return {"made_from": Column(attribute, dtype, row_shape, ragged)}


@dataclass(frozen=True, kw_only=True)
class ImageColumns:
    """The columns with one row per image. A new column is declared here and nowhere else.

    Args:
        image_paths: StringDType (N,), relative to the raw directory, ``/`` separated.
        declared_sizes: int32 (N, 2) height, width as the annotation states them, or
            `NOT_DECLARED`.
        splits: int8 (N,), the official split as a position in `SPLITS`, or `UNASSIGNED`.
        normalized: bool (N,), whether the image's boxes and points are fractions of its size.
        set_ids: int32 (N,), positions in `AnnotationTable.annotation_sets`.
        annotation_files: StringDType (N,), the file that describes only this image, relative to the
            raw directory; ``""`` if the set is one file that describes many images.
        found_by_name: bool (N,), whether the image was not in any usual place, and was found only
            by the end of its path.
    """

    image_paths: NDArray[Any] = field(metadata=_made_from("image_path", "T"))
    declared_sizes: NDArray[np.int32] = field(metadata=_made_from("declared_size", "<i4", (2,)))
    splits: NDArray[np.int8] = field(metadata=_made_from("split", "|i1"))
    normalized: NDArray[np.bool_] = field(metadata=_made_from("normalized", "|b1"))
    set_ids: NDArray[np.int32] = field(metadata=_made_from("set_id", "<i4"))
    annotation_files: NDArray[Any] = field(metadata=_made_from("annotation_file", "T"))
    found_by_name: NDArray[np.bool_] = field(metadata=_made_from("found_by_name", "|b1"))


@dataclass(frozen=True, kw_only=True)
class InstanceColumns:
    """The columns with one row per instance. A new column is declared here and nowhere else.

    Boxes and points are in pixels of the image as the annotation describes it, x to the right and y
    down, the corner of the first pixel at (0, 0). Where `ImageColumns.normalized` is set, they are
    fractions of the upright image's width and height instead.

    Args:
        boxes: float32 (I, 4) x1, y1, x2, y2, the far edges exclusive; NaN without a box.
        labels: int32 (I,), positions in `AnnotationTable.category_names`.
        flags: uint8 (I,), `Flag` bits.
        points: RaggedArray of I rows, float32 (k, 3) as x, y, visibility (0 not labelled, 1 hidden,
            2 visible); k is 0 for an instance without points.
        entries: int32 (I,), the line, object or list position that describes the instance in its
            annotation file, counted as `AnnotationSet.place` says; -1 if there is none.
        instance_set_ids: int32 (I,), like `ImageColumns.set_ids`. Filled in when rows are merged,
            because a merged image may have instances of several sets.
    """

    boxes: NDArray[np.float32] = field(metadata=_made_from("box", "<f4", (4,)))
    labels: NDArray[np.int32] = field(metadata=_made_from("label", "<i4"))
    flags: NDArray[np.uint8] = field(metadata=_made_from("flags", "|u1"))
    points: RaggedArray = field(metadata=_made_from("points", "<f4", (3,), ragged=True))
    entries: NDArray[np.int32] = field(metadata=_made_from("entry", "<i4"))
    instance_set_ids: NDArray[np.int32] = field(metadata=_made_from("set_id", "<i4"))


IMAGE_COLUMNS: Final = tuple(column.name for column in fields(ImageColumns))
INSTANCE_COLUMNS: Final = tuple(column.name for column in fields(InstanceColumns))


# The table inherits its columns, so that they are plain attributes with types: `table.boxes`.
@dataclass(frozen=True, kw_only=True)
class AnnotationTable(ImageColumns, InstanceColumns):
    """Annotations of N images with I instances (a box, or points, or both).

    Args:
        offsets: int64 (N + 1,): image i owns the instances ``offsets[i]:offsets[i + 1]``.
        category_names: names of the categories.
        keypoint_names: names of the points, empty where the source has none.
        annotation_sets: where the rows come from.
    """

    offsets: NDArray[np.int64]
    category_names: tuple[str, ...] = ()
    keypoint_names: tuple[str, ...] = ()
    annotation_sets: tuple[AnnotationSet, ...] = ()

    def __len__(self) -> int:
        return len(self.image_paths)

    def take(self, indices: NDArray[np.integer[Any]]) -> AnnotationTable:
        """Returns the images at `indices`, int (M,), in that order, as copies."""
        # The numbers of all instances as one ragged row per image: taking rows gives the numbers of
        # the instances to keep, and the new offsets.
        instances = RaggedArray(np.arange(len(self.labels)), self.offsets, check=False).take(
            indices
        )
        return replace(
            self,
            offsets=instances.offsets,
            **take_columns(self, IMAGE_COLUMNS, indices),
            **take_columns(self, INSTANCE_COLUMNS, instances.values),
        )

    def keep_instances(self, kept: NDArray[np.bool_]) -> AnnotationTable:
        """Returns all images with only the instances marked in `kept`, bool (I,), as copies."""
        # Offsets of the marks count the kept instances before each instance.
        return replace(
            self,
            offsets=offsets_of(kept.view(np.int8))[self.offsets],
            **take_columns(self, INSTANCE_COLUMNS, np.flatnonzero(kept)),
        )

    def with_categories(self, names: Sequence[str]) -> AnnotationTable:
        """Returns the table with labels that are positions in `names`.

        Args:
            names: the new `category_names`, which must contain all present ones. Categories with
                the same name become one.
        """
        position = {name: i for i, name in enumerate(names)}
        mapping = np.array([position[name] for name in self.category_names], dtype=np.int32)
        return replace(self, labels=mapping[self.labels], category_names=tuple(names))

    def image(self, index: int) -> ImageAnnotations:
        """Returns the annotations of one image; their arrays are views."""
        start, stop = int(self.offsets[index]), int(self.offsets[index + 1])
        height, width = self.declared_sizes[index].tolist()
        return ImageAnnotations(
            declared_size=(height, width) if height and width else None,
            normalized=bool(self.normalized[index]),
            annotation_file=str(self.annotation_files[index]),
            set_id=int(self.set_ids[index]),
            **{name: getattr(self, name)[start:stop] for name in INSTANCE_COLUMNS},
        )


@dataclass(frozen=True)
class ImageAnnotations(InstanceColumns):
    """The instances of one image, and how to read their coordinates.

    Args:
        declared_size: height, width as the annotation states them, if it does.
        normalized: whether boxes and points are fractions of the image's size.
        annotation_file: the file that describes only this image, or ``""``.
        set_id: the annotation set of that file, as in `ImageColumns`.
    """

    declared_size: tuple[int, int] | None
    normalized: bool
    annotation_file: str = ""
    set_id: int = 0


def take_columns(
    record: object, names: Sequence[str], indices: NDArray[np.integer[Any]]
) -> dict[str, Any]:
    """Copies the same rows of several columns.

    Args:
        record: the object that has the columns as attributes.
        names: the columns, such as `INSTANCE_COLUMNS`.
        indices: int (M,), positions of rows.

    Returns:
        Each name and its column with M rows.
    """
    taken: dict[str, Any] = {}
    for name in names:
        column: ColumnArray = getattr(record, name)
        if isinstance(column, RaggedArray):
            taken[name] = column.take(indices)
        else:
            taken[name] = column[indices]
    return taken


def concatenate_columns(records: Sequence[object], names: Sequence[str]) -> dict[str, Any]:
    """Joins the rows of several records, column by column.

    Args:
        records: objects that have the columns as attributes; at least one.
        names: the columns, such as `INSTANCE_COLUMNS`.

    Returns:
        Each name and its column with the rows of all records, in their order.
    """
    joined: dict[str, Any] = {}
    for name in names:
        parts = [getattr(record, name) for record in records]
        if isinstance(parts[0], RaggedArray):
            lengths = np.concatenate([part.lengths for part in parts])
            values = np.concatenate([part.values for part in parts])
            joined[name] = RaggedArray(values, offsets_of(lengths))
        else:
            joined[name] = np.concatenate(parts)
    return joined


_NO_BOX = (float("nan"),) * 4


@dataclass(frozen=True, slots=True)
class Instance:
    """One annotated object as a reader of small files makes it.

    Args:
        label: position of its category in the table's `category_names`.
        box: x1, y1, x2, y2, as in `InstanceColumns`; without one, set ``Flag.NO_BOX``.
        flags: see `Flag`.
        points: rows of x, y, visibility.
        entry: its line, object or list position in the annotation file.
        set_id: see `InstanceColumns.instance_set_ids`.
    """

    label: int
    box: tuple[float, float, float, float] = _NO_BOX
    flags: Flag = Flag.NONE
    points: Sequence[Sequence[float]] | NDArray[Any] = ()
    entry: int = -1
    set_id: int = 0


@dataclass(frozen=True, slots=True)
class TableRow:
    """One image and its instances; values as in `ImageColumns`."""

    image_path: str
    instances: Sequence[Instance] = ()
    declared_size: tuple[int, int] = NOT_DECLARED
    split: int = UNASSIGNED
    normalized: bool = False
    set_id: int = 0
    annotation_file: str = ""
    found_by_name: bool = False


def table_from_rows(
    rows: Iterable[TableRow],
    *,
    category_names: Sequence[str],
    keypoint_names: Sequence[str] = (),
    annotation_sets: Sequence[AnnotationSet] = (),
) -> AnnotationTable:
    """Builds a table from one `TableRow` per image.

    For formats with small files. A format with millions of boxes in one file fills the columns
    itself, because an object per box takes far more memory than the columns.
    """
    rows = list(rows)
    instances = list(chain.from_iterable(row.instances for row in rows))
    return AnnotationTable(
        offsets=offsets_of([len(row.instances) for row in rows]),
        category_names=tuple(category_names),
        keypoint_names=tuple(keypoint_names),
        annotation_sets=tuple(annotation_sets),
        **_columns_from(rows, ImageColumns),
        **_columns_from(instances, InstanceColumns),
    )


def _columns_from(
    records: Sequence[TableRow] | Sequence[Instance],
    declaration: type[ImageColumns | InstanceColumns],
) -> dict[str, Any]:
    """Fills every declared column with one value per record."""
    columns: dict[str, Any] = {}
    for declared in fields(declaration):
        column: Column = declared.metadata["made_from"]
        values = [getattr(record, column.name) for record in records]
        # One array of all points is far faster to make than an array per instance.
        offsets = None
        if column.ragged:
            offsets = offsets_of([len(value) for value in values])
            values = list(chain.from_iterable(values))
        # A finite number beyond float32 becomes inf, and the repairs drop it as not finite.
        with np.errstate(over="ignore"):
            array = np.array(values, dtype=column.dtype).reshape(-1, *column.row_shape)
        columns[declared.name] = array if offsets is None else RaggedArray(array, offsets)
    return columns


def concatenate(tables: Sequence[AnnotationTable]) -> AnnotationTable:
    """Joins the rows of all tables; categories with the same name become one.

    Categories keep the order of their first appearance. `keypoint_names` are kept if all tables
    with points have the same ones; otherwise the result has none.
    """
    names = tuple(dict.fromkeys(chain.from_iterable(table.category_names for table in tables)))
    renumbered = [table.with_categories(names) for table in tables]
    sets_before = offsets_of([len(table.annotation_sets) for table in tables]).tolist()
    renumbered = [
        replace(table, set_ids=table.set_ids + np.int32(before))
        for table, before in zip(renumbered, sets_before, strict=False)
    ]
    keypoint_names = {table.keypoint_names for table in tables if len(table.points.values)}
    counts = np.concatenate([np.diff(table.offsets) for table in tables])
    return AnnotationTable(
        offsets=offsets_of(counts),
        category_names=names,
        keypoint_names=keypoint_names.pop() if len(keypoint_names) == 1 else (),
        annotation_sets=tuple(chain.from_iterable(table.annotation_sets for table in tables)),
        **concatenate_columns(renumbered, IMAGE_COLUMNS),
        **concatenate_columns(renumbered, INSTANCE_COLUMNS),
    )
