"""The three tasks: which images each uses, which parts it renders, and which columns it stores.

A task declares everything that distinguishes it: name, image size, columns and their values.
Pure functions of annotations; nothing here reads a file or touches a pixel.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from processing.core.annotations import AnnotationTable, Flag, ImageAnnotations
from processing.core.columns import Column, offsets_of
from processing.core.coordinates import Rect, source_to_stored
from processing.imaging.encoding import RAW, Encoding
from processing.imaging.placement import crop_rect, letterbox_rect
from processing.imaging.repairs import Instances, Repairs

PIXELS_VERSION: Final = 4
"""Incremented whenever a change to this package changes stored pixels, coordinates or rows."""

REDUCTIONS_COLUMN: Final = "image_reductions"
"""Column of files whose rows may be photographs' own files; see `processing.npz.format`."""


@dataclass(frozen=True, slots=True)
class View:
    """Plan of one row: the rectangle to show and the instances stored with it.

    Args:
        rect: in upright source pixels; may reach beyond the image.
        instances: positions of the instances in the image's `Instances`.
    """

    rect: Rect
    instances: NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of an output.

    Args:
        image: uint8 (H, W, 3); uint8 (k,) if it is encoded.
        values: by column name, the row's value; the k values of a ragged column.
    """

    image: NDArray[np.uint8]
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Task(ABC):
    """The rows that one task makes of an image.

    Args:
        image_size: height, width of the stored images.
        crop_margin: how far a crop extends beyond the box on each side, as a fraction of the box's
            width and height.
        encoding: how the images are stored.
    """

    name: ClassVar[str]
    needs: ClassVar[str]
    """The annotations that an image needs for this task, for messages."""
    unit: ClassVar[str] = "box"
    units: ClassVar[str] = "boxes"
    """One instance and several, for messages."""
    stores_points: ClassVar[bool] = False
    """Whether instances are sets of points, not boxes."""
    default_image_size: ClassVar[int]
    """Side of the stored images in pixels, unless the caller chooses another."""
    many_per_row: ClassVar[bool] = False
    """Whether one row holds several instances; its boxes and labels are then ragged."""
    shows_whole_images: ClassVar[bool] = False
    """Whether each row shows a whole photograph, letterboxed."""

    image_size: tuple[int, int]
    crop_margin: float = 0.0
    encoding: Encoding = RAW

    @property
    def may_keep_originals(self) -> bool:
        """Whether rows may be photographs' own files: rows that show the whole photograph may."""
        return self.shows_whole_images and self.encoding.keeps_originals

    @property
    def image_columns(self) -> tuple[Column, ...]:
        """The columns that decoding the images needs."""
        return (Column(REDUCTIONS_COLUMN, "|u1"),) if self.may_keep_originals else ()

    def instances(self, annotations: AnnotationTable | ImageAnnotations) -> NDArray[np.bool_]:
        """bool (I,): the instances of a table or of one image that this task can use.

        These are the instances with a box, unless a task needs something else.
        """
        boxed: NDArray[np.bool_] = (annotations.flags & Flag.NO_BOX) == 0
        return boxed

    def images(self, table: AnnotationTable) -> NDArray[np.bool_]:
        """bool (N,): the images that this task uses: those with an instance that it can use."""
        # `np.logical_or.reduceat` would be wrong for images without instances.
        before = offsets_of(self.instances(table).view(np.int8))[table.offsets]
        used: NDArray[np.bool_] = before[1:] > before[:-1]
        return used

    def most_rows(self, table: AnnotationTable) -> int:
        """The most rows that a table's images can give: one per instance."""
        return int(self.instances(table).sum())

    def columns(self, table: AnnotationTable) -> tuple[Column, ...]:
        """The columns of this task's annotations; `labels` only with several categories."""
        if not self.has_labels(table):
            return (self._column(table),)
        return self._column(table), Column("labels", "<i4", ragged=self.many_per_row)

    def _column(self, table: AnnotationTable) -> Column:
        """The column of the boxes, or of what a task stores instead."""
        return Column("bboxes", "<f4", (4,), ragged=self.many_per_row)

    @abstractmethod
    def annotate(self, instances: Instances, view: View, source_rect: Rect) -> dict[str, Any]:
        """The row's values of `columns`; `labels` may be given although it is not among them.

        Args:
            instances: the repaired instances of the image.
            view: the row.
            source_rect: the rectangle that the stored image really shows; `View.rect` after
                rounding to pixels.
        """

    def usable(self, instances: Instances) -> NDArray[np.bool_]:
        """bool (k,): the repaired instances of one image that this task can use."""
        return instances.has_box

    def lost_because(self, repairs: Repairs, instance: int) -> str:
        """The reason why `repairs` left nothing of an instance that this task can use, or ``""``.

        Args:
            repairs: of the image.
            instance: position in the image's annotations.
        """
        outcome = repairs.outcome(instance)
        return "" if outcome == "kept" else outcome

    def values(self, annotations: ImageAnnotations, instance: int) -> NDArray[np.float32]:
        """float32 (V,): an instance as annotated, for lists of what was dropped."""
        box: NDArray[np.float32] = annotations.boxes[instance]
        return box

    @abstractmethod
    def views(self, instances: Instances, source_size: tuple[int, int]) -> list[View]:
        """The rows to make of an image, in order; an instance without an extent gives none."""

    def _crop(self, box: Iterable[float], instance: int) -> View:
        """A row that shows one instance."""
        return View(crop_rect(box, self.crop_margin, self.image_size), np.array([instance]))

    def has_labels(self, table: AnnotationTable) -> bool:
        """Whether the task's instances have more than one category."""
        return len(np.unique(table.labels[self.instances(table)])) > 1

    def keypoint_names(self, table: AnnotationTable) -> list[str]:
        """The names of the points in this task's files; empty for a task without points."""
        return []

    def category_names(self, table: AnnotationTable) -> list[str]:
        """The categories that `labels` refers to; without labels, the only category."""
        if self.has_labels(table):
            return list(table.category_names)
        used = np.unique(table.labels[self.instances(table)])
        return [table.category_names[label] for label in used.tolist()]


class Detector(Task):
    """The whole image, letterboxed, with all its boxes; an image without objects is a negative."""

    name = "detector"
    needs = "boxes"
    default_image_size = 256
    many_per_row = True
    shows_whole_images = True

    def images(self, table: AnnotationTable) -> NDArray[np.bool_]:
        """Images with a box, or without objects. An image with points only is no negative."""
        # Points show that objects are there, though their boxes are unknown.
        empty: NDArray[np.bool_] = np.diff(table.offsets) == 0
        return super().images(table) | empty

    def most_rows(self, table: AnnotationTable) -> int:
        """One per image."""
        return len(table)

    def annotate(self, instances: Instances, view: View, source_rect: Rect) -> dict[str, Any]:
        """Boxes in pixels of the stored image."""
        boxes = source_to_stored(instances.boxes[view.instances], source_rect, self.image_size)
        return {"bboxes": boxes, "labels": instances.labels[view.instances]}

    def views(self, instances: Instances, source_size: tuple[int, int]) -> list[View]:
        """One row: the whole image."""
        rect = letterbox_rect(source_size, self.image_size)
        return [View(rect, np.flatnonzero(self.usable(instances)))]


class Landmarker(Task):
    """One crop per instance with points: around its box, or around the points without a box."""

    name = "landmarker"
    needs = "keypoints"
    unit = "point set"
    units = "point sets"
    stores_points = True
    default_image_size = 192

    def instances(self, annotations: AnnotationTable | ImageAnnotations) -> NDArray[np.bool_]:
        """Instances with points."""
        has_points: NDArray[np.bool_] = annotations.points.lengths > 0
        return has_points

    def _column(self, table: AnnotationTable) -> Column:
        """`keypoints` (N, K, 3), ragged if K varies."""
        counts = np.unique(table.points.lengths[self.instances(table)]).tolist()
        if len(counts) == 1:
            return Column("keypoints", "<f4", (counts[0], 3))
        return Column("keypoints", "<f4", (3,), ragged=True)

    def annotate(self, instances: Instances, view: View, source_rect: Rect) -> dict[str, Any]:
        """Points in pixels of the stored image."""
        (i,) = view.instances
        points = source_to_stored(instances.points[int(i)], source_rect, self.image_size)
        return {"keypoints": points, "labels": instances.labels[i]}

    def keypoint_names(self, table: AnnotationTable) -> list[str]:
        """The names that the source gives."""
        return list(table.keypoint_names)

    def usable(self, instances: Instances) -> NDArray[np.bool_]:
        """Instances with points."""
        has_points: NDArray[np.bool_] = instances.points.lengths > 0
        return has_points

    def lost_because(self, repairs: Repairs, instance: int) -> str:
        """A flag, or ``bad_points``. A face without a usable box is cropped to its points."""
        if repairs.is_flagged(instance):
            return repairs.outcome(instance)
        return "bad_points" if repairs.lost_points[instance] else ""

    def values(self, annotations: ImageAnnotations, instance: int) -> NDArray[np.float32]:
        """float32 (3 p,): x, y, visibility of each point."""
        return annotations.points[instance].reshape(-1)

    def views(self, instances: Instances, source_size: tuple[int, int]) -> list[View]:
        """One row for each instance with a box, or with labelled points that have an extent."""
        views = []
        # Python numbers, because numpy takes far longer for one box than for an array of them.
        boxes, has_box = instances.boxes.tolist(), instances.has_box.tolist()
        for i in np.flatnonzero(self.usable(instances)).tolist():
            box = boxes[i] if has_box[i] else _bounds(instances.points[i])
            if box is not None:
                views.append(self._crop(box, i))
        return views


class Teacher(Task):
    """One crop per box; the box itself stays in source pixels."""

    name = "teacher"
    needs = "boxes"
    default_image_size = 128

    def annotate(self, instances: Instances, view: View, source_rect: Rect) -> dict[str, Any]:
        """The box in pixels of the upright source image."""
        # In the stored image it would be nearly the same for every crop.
        (i,) = view.instances
        return {"bboxes": instances.boxes[i], "labels": instances.labels[i]}

    def views(self, instances: Instances, source_size: tuple[int, int]) -> list[View]:
        """One row per box."""
        boxes = instances.boxes.tolist()
        return [self._crop(boxes[i], i) for i in np.flatnonzero(self.usable(instances)).tolist()]


def common_columns(table: AnnotationTable) -> tuple[Column, ...]:
    """The columns that rows have in every task, after those of the task."""
    # Of the whole table, not of one file, so that files of one run have the same dtypes.
    longest = max(map(len, table.image_paths), default=1)
    return (
        Column("image_paths", f"<U{longest}"),
        Column("image_crc32", "<u4"),
        Column("source_rects", "<f4", (4,)),
        Column("source_sizes", "<i4", (2,)),
    )


def common_values(
    path: str, checksum: int, source_rect: Rect, source_size: tuple[int, int]
) -> dict[str, Any]:
    """A row's values of `common_columns`."""
    return {
        "image_paths": path,
        "image_crc32": checksum,
        "source_rects": source_rect,
        "source_sizes": source_size,
    }


TASKS: Final[dict[str, type[Task]]] = {task.name: task for task in (Detector, Landmarker, Teacher)}


def _bounds(points: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """The box around the labelled points; None if they have no extent."""
    labelled = points[points[:, 2] > 0, :2]
    if not len(labelled):
        return None
    low, high = labelled.min(axis=0), labelled.max(axis=0)
    # A single point says nothing about the object's size, so there is nothing to crop to.
    return np.concatenate([low, high]) if (high > low).any() else None
