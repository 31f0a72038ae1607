"""PlacedAnnotations: all boxes and points in pixels of their upright photographs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from processing.core.annotations import AnnotationTable, Flag
from processing.core.coordinates import Size
from processing.core.errors import ImageError
from processing.imaging.losses import Origins
from processing.imaging.photo import ImageHeader
from processing.imaging.repairs import in_upright_pixels


class PlacedAnnotations:
    """The annotations of a table, filled in image by image as headers become known.

    Args:
        table: the annotations.

    Attributes:
        boxes: float32 (I, 4) x1, y1, x2, y2 in pixels of the upright photograph; NaN without a box
            or a header.
        points: float32 (P, 3), the values of `table.points` in the same pixels; NaN without header.
        sizes: int32 (N, 2) height, width of the upright photographs; 0 if not known, or if the
            annotation declares another size.
        stored_sizes: int32 (N, 2) height, width of the photographs in their files; 0 if not known.
        orientations: int8 (N,), their EXIF orientations; 0 if not known.
        owners: int64 (I,), the image of each instance.
    """

    def __init__(self, table: AnnotationTable) -> None:
        self.table = table
        self.boxes = np.full((len(table.labels), 4), np.nan, dtype=np.float32)
        self.points = np.full((len(table.points.values), 3), np.nan, dtype=np.float32)
        self.sizes, self.stored_sizes = np.zeros((2, len(table), 2), dtype=np.int32)
        self.orientations = np.zeros(len(table), dtype=np.int8)
        self.owners = np.repeat(np.arange(len(table)), np.diff(table.offsets))

    def place(self, image: int, header: ImageHeader) -> None:
        """Converts the annotations of one image."""
        annotations = self.table.image(image)
        self.stored_sizes[image], self.orientations[image] = header.stored_size, header.orientation
        try:
            boxes, points = in_upright_pixels(annotations, header)
        except ImageError:  # size_mismatch, which is a rejection already
            return
        start, stop = self.table.offsets[image : image + 2].tolist()
        self.sizes[image] = header.upright_size
        self.boxes[start:stop] = boxes
        first, last = self.table.points.offsets[[start, stop]].tolist()
        self.points[first:last] = points.values

    def boxed(self) -> NDArray[np.bool_]:
        """Marks bool (I,) the instances with a finite box of positive size and without a flag.

        All others are dropped by processing, which has reasons of its own for them.
        """
        marks = Flag.CROWD | Flag.INVALID | Flag.DIFFICULT | Flag.IGNORED | Flag.NO_BOX
        plain = (self.table.flags & np.uint8(marks)) == 0
        with np.errstate(invalid="ignore"):
            sound = (self.boxes[:, 2:] > self.boxes[:, :2]).all(axis=1)
        usable: NDArray[np.bool_] = plain & sound & np.isfinite(self.boxes).all(axis=1)
        return usable

    def outlined(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Returns boxes and the rectangles around points that have no box.

        Returns:
            float32 (I, 4) in pixels of the upright photographs, a copy; and bool (I,), those that
            are finite, have a positive size and no flag of an annotator.
        """
        boxes, usable = self.boxes.copy(), self.boxed()
        without = np.flatnonzero(self.table.flags & np.uint8(Flag.NO_BOX) != 0)
        offsets = self.table.points.offsets
        for i in without.tolist():
            points = self.points[offsets[i] : offsets[i + 1]]
            places = points[points[:, 2] > 0, :2]
            if len(places) > 1 and np.isfinite(places).all():
                boxes[i, :2], boxes[i, 2:] = places.min(axis=0), places.max(axis=0)
                usable[i] = bool((boxes[i, 2:] > boxes[i, :2]).all())
        return boxes, usable

    def extents(self) -> NDArray[np.float32]:
        """Returns float32 (I, 2): width and height of the photograph of each instance."""
        extents: NDArray[np.float32] = self.sizes[self.owners][:, ::-1].astype(np.float32)
        return extents

    def size_of(self, instance: int) -> Size:
        """Returns height, width of the photograph of an instance."""
        height, width = self.sizes[self.owners[instance]].tolist()
        return height, width

    def format_of(self, instance: int) -> str:
        """Returns the format that gave an instance, such as ``coco``."""
        set_id = int(self.table.instance_set_ids[instance])
        sets = self.table.annotation_sets
        return sets[set_id].format if set_id < len(sets) else ""

    def where(self, instance: int) -> tuple[str, str, str]:
        """Returns the photograph of an instance, its annotation file and its place there."""
        image = int(self.owners[instance])
        table, path = self.table, str(self.table.image_paths[image])
        at = instance - int(table.offsets[image])
        origins = Origins(path, table.image(image), table.category_names, table.annotation_sets)
        return path, origins.file(at), origins.place(at)

    def category(self, instance: int) -> str:
        """Returns the category of an instance."""
        label = int(self.table.labels[instance])
        names = self.table.category_names
        return names[label] if label < len(names) else str(label)
