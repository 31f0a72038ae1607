"""YOLO: a ``data.yaml`` of Ultralytics or Roboflow, or only ``images`` and ``labels`` folders.

- The images are those that the yaml names in ``train``, ``val`` and ``test``: folders, or lists of
  images in ``.txt`` files. They are relative to the yaml's ``path`` if that is in the raw
  directory, otherwise to the yaml's own folder; Roboflow's ``../train/images`` is understood too.
  Without a yaml, all images of the ``images`` folder are taken, and folders called ``train``,
  ``valid``, … give the splits.
- The labels of an image are at its path with the last ``images`` replaced by ``labels`` and the
  ending ``.txt``, otherwise next to the image. An image without label file, or with an empty one,
  is a negative. Coordinates are fractions of the upright image.
- A row is ``class cx cy width height``. With ``kpt_shape: [K, 2 or 3]``, K points may follow. If
  points have two numbers, a point at (0, 0) is not labelled (0) and any other visible (2).
- Without ``kpt_shape``, a longer row with an odd number of columns is a polygon and becomes its
  bounding box. Other longer rows have points of three numbers each. A box and one more number is
  malformed: it is the confidence of a prediction, or a polygon cut short.
- The categories are the yaml's ``names``, or ``classes.txt`` next to the folders or among the
  labels, otherwise numbers up to the greatest in use.
- An image in several splits is in none of them (``ambiguous_split``). A bad row is rejected, as
  ``malformed`` or ``unknown_category``, and the other rows are kept.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from processing.core.annotations import AnnotationSet, Instance, TableRow, table_from_rows
from processing.core.errors import AnnotationError, Note, Rejection
from processing.sources.raw_directory import RawDirectory
from processing.sources.source_format import Reading, SourceFormat, collecting, each_line, per_file
from processing.sources.split_names import only_split
from processing.sources.text import check_size, check_text, malformed, numbers_of
from processing.sources.yolo import layout
from processing.sources.yolo.data_yaml import MAX_CLASSES, KeypointShape

_BOX_NUMBERS: Final = 4
_VISIBLE: Final = 2.0


def read_dataset(raw: RawDirectory, path: str) -> Reading:
    """Reads a data.yaml file or a ``labels`` folder."""
    dataset = layout.load(raw, path)
    labels = {class_id: label for label, class_id in enumerate(dataset.names)}
    rejections = list(dataset.rejections)
    notes: list[Note] = []
    images_missing_annotations = set()
    rows = []
    label_files = set()
    for image, splits in dataset.splits.items():
        label_file = layout.label_file(raw, image)
        instances: list[Instance] = []
        if label_file:
            label_files.add(label_file)
            instances, rejected = _read_labels(raw, label_file, labels, dataset.keypoint_shape)
            rejections += rejected
            if rejected:
                images_missing_annotations.add((image, label_file))
        split = only_split(image, splits, notes)
        rows.append(
            TableRow(image, instances, split=split, normalized=True, annotation_file=label_file)
        )
    rejections += layout.labels_without_image(raw, label_files)
    names = list(dataset.names.values())
    annotation_set = AnnotationSet(path, has_names=bool(names))
    if not names:
        # Without names, the classes are known only after the last file.
        greatest = max((found.label for row in rows for found in row.instances), default=-1)
        names = [str(i) for i in range(greatest + 1)]
    table = table_from_rows(rows, category_names=names, annotation_sets=[annotation_set])
    return Reading(table, rejections, notes, images_missing_annotations)


FORMAT: Final = SourceFormat(
    name="yolo",
    pattern_description=(
        "YOLO: data.yaml with train or val and names, or the folders images and labels"
    ),
    find=layout.find,
    read=per_file(read_dataset),
)


def _read_labels(
    raw: RawDirectory, path: str, labels: Mapping[int, int], shape: KeypointShape | None
) -> tuple[list[Instance], list[Rejection]]:
    """Reads a label file: its instances, and its unusable rows."""
    instances: list[Instance] = []
    rejections: list[Rejection] = []

    def use(number: int, line: str) -> None:
        words = line.split()
        if words:
            check_text(line)
            instance = _parse_row(words, labels, shape)
            instances.append(dataclasses.replace(instance, entry=number))

    with collecting(rejections, path):
        check_size(raw.path(path))
        rejections += each_line(raw, path, use)
    return instances, rejections


def _parse_row(
    words: Sequence[str], labels: Mapping[int, int], shape: KeypointShape | None
) -> Instance:
    """Parses one row.

    Args:
        words: the columns of the row.
        labels: the label of each class id; empty for a data set without names, where every class id
            is its own label.
        shape: the data set's keypoint shape, if it declares one.

    Raises:
        AnnotationError: the row does not fit the data set; reason ``malformed``. Or its class has
            no name; reason ``unknown_category``.
    """
    numbers = numbers_of(words)
    if numbers is None or len(numbers) <= _BOX_NUMBERS:
        raise malformed(
            "expected a class and the numbers of its box, separated by spaces, found "
            f"{' '.join(words)[:80]!r}"
        )
    class_id, values = numbers[0], numbers[1:]
    if not 0 <= class_id < MAX_CLASSES or not class_id.is_integer():
        raise malformed(f"class id {words[0]}: expected an integer from 0")
    points: list[list[float]] = []
    if len(values) > _BOX_NUMBERS and len(values) % 2 == 0 and shape is None:
        box = _bounds_of_polygon(values)
    else:
        box = _corners(values[:_BOX_NUMBERS])
        if len(values) > _BOX_NUMBERS:
            points = _points(values[_BOX_NUMBERS:], shape)
    label = int(class_id)
    if labels and label not in labels:
        message = f"class id {label}, expected one of the {len(labels)} that the data set names"
        raise AnnotationError(message, reason="unknown_category")
    return Instance(labels.get(label, label), box, points=points)


def _corners(values: Sequence[float]) -> tuple[float, float, float, float]:
    x, y, width, height = values
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _bounds_of_polygon(values: Sequence[float]) -> tuple[float, float, float, float]:
    corners = np.array(values).reshape(-1, 2)
    # Numpy's minimum of NaN is NaN, and the repairs drop that. Python's depends on the order.
    (x1, y1), (x2, y2) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    return x1, y1, x2, y2


def _points(values: Sequence[float], shape: KeypointShape | None) -> list[list[float]]:
    count, size = shape or (len(values) // 3, 3)
    if len(values) != count * size:
        expected = f"{count} points of {size} numbers" if shape else "points of 3 numbers"
        found = f"{len(values)} numbers"
        if len(values) == 1:
            found = "1 number; a confidence, as predictions have it, must be removed"
        raise malformed(f"after the box expected {expected} or nothing, found {found}")
    points = np.array(values).reshape(count, size)
    if size == 2:
        # Without visibility, 0, 0 is YOLO's way to write that a point is not labelled.
        visibility = np.where(points.any(axis=1), _VISIBLE, 0.0)
        points = np.column_stack([points, visibility])
    if not points[:, 2].any():
        return []
    rows: list[list[float]] = points.tolist()
    return rows
