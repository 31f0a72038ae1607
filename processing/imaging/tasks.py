"""The three tasks: which images each takes, what it shows of them, and what it stores beside.

Pure functions of annotations; nothing here reads a file or touches a pixel.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from processing.core.annotations import AnnotationTable, Flag, ImageAnnotations
from processing.core.columns import Column
from processing.core.coordinates import Rect, source_to_stored
from processing.imaging.placement import crop_rect, letterbox_rect
from processing.imaging.repairs import Instances

PIXELS_VERSION: Final = 3
"""Counts up when a change of this package changes stored pixels or coordinates, or which rows."""


@dataclass(frozen=True, slots=True)
class View:
    """One row to be: the rectangle to show and the instances that go with it.

    Args:
        rect: float64 (4,) in upright source pixels; may reach beyond the image.
        instances: positions of the instances in the image's `Instances`.
    """

    rect: Rect
    instances: NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of an output.

    Args:
        image: uint8 (H, W, 3).
        values: by column name, the row's value; for a ragged column its k values.
    """

    image: NDArray[np.uint8]
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Task(ABC):
    """What one task takes from an image.

    Args:
        image_size: height, width of its stored images.
        crop_margin: by how much a crop's box is grown on each side, as a fraction of its width and
            height.
    """

    name: ClassVar[str]
    needs: ClassVar[str]
    """What an image must be annotated with, for messages."""
    default_image_size: ClassVar[int]
    """Side of stored images in pixels, unless the caller names another."""

    image_size: tuple[int, int]
    crop_margin: float = 0.0

    @abstractmethod
    def instances(self, annotations: AnnotationTable | ImageAnnotations) -> NDArray[np.bool_]:
        """bool (I,): the instances, of a table or of one image, that this task learns from."""

    def images(self, table: AnnotationTable) -> NDArray[np.bool_]:
        """bool (N,): the images that this task takes."""
        return _any_of_image(self.instances(table), table)

    def most_rows(self, table: AnnotationTable) -> int:
        """How many rows these images give at most: here one an instance."""
        return int(self.instances(table).sum())

    @abstractmethod
    def columns(self, table: AnnotationTable) -> tuple[Column, ...]:
        """The members for this task's annotations; `labels` only with several categories."""

    @abstractmethod
    def usable(self, instances: Instances) -> NDArray[np.bool_]:
        """bool (k,): the repaired instances of one image that this task can learn from."""

    @abstractmethod
    def views(self, instances: Instances, source_size: tuple[int, int]) -> list[View]:
        """The rows that an image gives, in order; an instance without extent gives none."""

    @abstractmethod
    def annotate(self, instances: Instances, view: View, source_rect: Rect) -> dict[str, Any]:
        """The row's values of `columns`, given the rectangle that its image really shows."""

    def has_labels(self, table: AnnotationTable) -> bool:
        """Whether the task's instances are of more than one category."""
        return len(np.unique(table.labels[self.instances(table)])) > 1

    def category_names(self, table: AnnotationTable) -> list[str]:
        """The categories that `labels` refers to; the only one where there are no labels."""
        if self.has_labels(table):
            return list(table.category_names)
        used = np.unique(table.labels[self.instances(table)])
        return [table.category_names[label] for label in used.tolist()]


class Detector(Task):
    """The whole image, letterboxed, with all its boxes; images with nothing are negatives."""

    name = "detector"
    needs = "boxes"
    default_image_size = 256

    def instances(self, annotations: AnnotationTable | ImageAnnotations) -> NDArray[np.bool_]:
        """Instances with a box."""
        return _boxed(annotations)

    def images(self, table: AnnotationTable) -> NDArray[np.bool_]:
        """Images with a box or with nothing; one with points alone is no negative."""
        empty = np.diff(table.offsets) == 0
        wanted: NDArray[np.bool_] = _any_of_image(self.instances(table), table) | empty
        return wanted

    def most_rows(self, table: AnnotationTable) -> int:
        """One an image."""
        return len(table)

    def columns(self, table: AnnotationTable) -> tuple[Column, ...]:
        """Ragged `bboxes`, and `labels` beside them."""
        boxes = (Column("bboxes", "<f4", (4,), ragged=True),)
        labels = (Column("labels", "<i4", ragged=True),)
        return boxes + labels if self.has_labels(table) else boxes

    def usable(self, instances: Instances) -> NDArray[np.bool_]:
        """Instances with a box."""
        return instances.has_box

    def views(self, instances: Instances, source_size: tuple[int, int]) -> list[View]:
        """One: the whole image."""
        rect = letterbox_rect(source_size, self.image_size)
        return [View(rect, np.flatnonzero(self.usable(instances)))]

    def annotate(self, instances: Instances, view: View, source_rect: Rect) -> dict[str, Any]:
        """Boxes in the stored image."""
        boxes = source_to_stored(instances.boxes[view.instances], source_rect, self.image_size)
        return {"bboxes": boxes, "labels": instances.labels[view.instances]}


class Landmarker(Task):
    """One crop an instance with points: around its box, or around the points where it has none."""

    name = "landmarker"
    needs = "keypoints"
    default_image_size = 192

    def instances(self, annotations: AnnotationTable | ImageAnnotations) -> NDArray[np.bool_]:
        """Instances with points."""
        pointed: NDArray[np.bool_] = annotations.points.lengths > 0
        return pointed

    def columns(self, table: AnnotationTable) -> tuple[Column, ...]:
        """`keypoints` (N, K, 3), ragged if K varies, and `labels`."""
        counts = np.unique(table.points.lengths[self.instances(table)])
        points = (
            Column("keypoints", "<f4", (int(counts[0]), 3))
            if len(counts) == 1
            else Column("keypoints", "<f4", (3,), ragged=True)
        )
        return (points, Column("labels", "<i4")) if self.has_labels(table) else (points,)

    def usable(self, instances: Instances) -> NDArray[np.bool_]:
        """Instances with points."""
        pointed: NDArray[np.bool_] = instances.points.lengths > 0
        return pointed

    def views(self, instances: Instances, source_size: tuple[int, int]) -> list[View]:
        """One for each instance with a box, or labelled points that have an extent."""
        views = []
        for i in np.flatnonzero(self.usable(instances)):
            box = instances.boxes[i] if instances.has_box[i] else _bounds(instances.points[int(i)])
            if box is not None:
                rect = crop_rect(box, self.crop_margin, self.image_size)
                views.append(View(rect, np.array([i])))
        return views

    def annotate(self, instances: Instances, view: View, source_rect: Rect) -> dict[str, Any]:
        """Points in the stored image."""
        (i,) = view.instances
        points = source_to_stored(instances.points[int(i)], source_rect, self.image_size)
        return {"keypoints": points, "labels": instances.labels[i]}


class Teacher(Task):
    """One crop a box; the box itself stays in source pixels."""

    name = "teacher"
    needs = "boxes"
    default_image_size = 128

    def instances(self, annotations: AnnotationTable | ImageAnnotations) -> NDArray[np.bool_]:
        """Instances with a box."""
        return _boxed(annotations)

    def columns(self, table: AnnotationTable) -> tuple[Column, ...]:
        """`bboxes` (N, 4), and `labels`."""
        boxes = (Column("bboxes", "<f4", (4,)),)
        return (*boxes, Column("labels", "<i4")) if self.has_labels(table) else boxes

    def usable(self, instances: Instances) -> NDArray[np.bool_]:
        """Instances with a box."""
        return instances.has_box

    def views(self, instances: Instances, source_size: tuple[int, int]) -> list[View]:
        """One a box."""
        return [
            View(crop_rect(instances.boxes[i], self.crop_margin, self.image_size), np.array([i]))
            for i in np.flatnonzero(self.usable(instances))
        ]

    def annotate(self, instances: Instances, view: View, source_rect: Rect) -> dict[str, Any]:
        """The box in the upright source image."""
        (i,) = view.instances
        return {"bboxes": instances.boxes[i], "labels": instances.labels[i]}


TASKS: Final[dict[str, type[Task]]] = {task.name: task for task in (Detector, Landmarker, Teacher)}


def _boxed(annotations: AnnotationTable | ImageAnnotations) -> NDArray[np.bool_]:
    boxed: NDArray[np.bool_] = (annotations.flags & Flag.NO_BOX) == 0
    return boxed


def _any_of_image(chosen: NDArray[np.bool_], table: AnnotationTable) -> NDArray[np.bool_]:
    """bool (N,): whether an image owns a chosen instance."""
    before = np.concatenate([[0], np.cumsum(chosen)])
    owned: NDArray[np.bool_] = before[table.offsets[1:]] > before[table.offsets[:-1]]
    return owned


def _bounds(points: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """The box around the labelled points; None where they have no extent."""
    labelled = points[points[:, 2] > 0, :2]
    if not len(labelled):
        return None
    low, high = labelled.min(axis=0), labelled.max(axis=0)
    return np.concatenate([low, high]) if (high > low).any() else None
