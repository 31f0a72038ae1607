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

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from processing.core.annotations import UNASSIGNED, Instance, TableRow, table_from_rows
from processing.core.errors import AnnotationError, Rejection
from processing.sources.raw_directory import RawDirectory
from processing.sources.source_format import Reading, SourceFormat, combine, labels_of, rejection
from processing.sources.text import check_size, check_text, read_lines
from processing.sources.yolo import layout
from processing.sources.yolo.labels import KeypointShape, LabelRow, parse_row
from processing.sources.yolo.layout import Dataset


def read(raw: RawDirectory, paths: list[str]) -> Reading:
    """Reads data.yaml files and ``labels`` folders."""
    readings = []
    for path in paths:
        try:
            dataset = layout.load(raw, path)
        except AnnotationError as error:
            readings.append(Reading(rejections=[rejection(path, error)]))
        else:
            readings.append(_read_dataset(raw, dataset))
    return combine(readings)


FORMAT: Final = SourceFormat(
    name="yolo",
    pattern_description=(
        "YOLO: data.yaml with train or val and names, or the folders images and labels"
    ),
    find=layout.find,
    read=read,
)


@dataclass
class _LabelledImage:
    """An image and the contents of its label file.

    Args:
        path: the image.
        splits: the splits that name it.
        label_file: its label file, or ``""``.
        rows: the well-formed rows.
        rejections: the unusable rows.
    """

    path: str
    splits: set[int]
    label_file: str
    rows: list[LabelRow] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)


def _read_dataset(raw: RawDirectory, dataset: Dataset) -> Reading:
    # All rows are read first: without names, the classes are known only after the last file.
    images = []
    for path, splits in dataset.splits.items():
        image = _LabelledImage(path, splits, layout.label_file(raw, path))
        if image.label_file:
            _read_labels(raw, image, dataset.keypoint_shape)
        images.append(image)
    greatest = max((row.class_id for image in images for row in image.rows), default=-1)
    names, labels = labels_of(dataset.names or {i: str(i) for i in range(greatest + 1)})
    rejections = list(dataset.rejections)
    for image in images:
        rejections += image.rejections
    notes: Counter[str] = Counter()
    images_missing_annotations = set()
    table_rows = []
    for image in images:
        instances, unknown = _instances(image, labels)
        rejections += unknown
        if unknown or image.rejections:
            images_missing_annotations.add((image.path, image.label_file))
        # An image in train and val must not be in both: it would spoil the validation.
        notes["ambiguous_split"] += len(image.splits) > 1
        split = min(image.splits) if len(image.splits) == 1 else UNASSIGNED
        table_rows.append(TableRow(image.path, instances, split=split, normalized=True))
    rejections += layout.labels_without_image(raw, [image.label_file for image in images])
    return Reading(
        table_from_rows(table_rows, category_names=names),
        rejections,
        +notes,
        frozenset(images_missing_annotations),
    )


def _read_labels(raw: RawDirectory, image: _LabelledImage, shape: KeypointShape | None) -> None:
    """Reads the label file of an image into its `rows` and `rejections`."""
    path = image.label_file
    try:
        check_size(raw.path(path))
        for line, content in enumerate(read_lines(raw, path), 1):
            words = content.split()
            if words:
                try:
                    check_text(content)
                    image.rows.append(parse_row(line, words, shape))
                except AnnotationError as error:
                    image.rejections.append(rejection(path, error, line=line))
    except AnnotationError as error:
        image.rejections.append(rejection(path, error))


def _instances(
    image: _LabelledImage, labels: Mapping[int, int]
) -> tuple[list[Instance], list[Rejection]]:
    """Gives the instances of an image their labels, and rejects those of unknown classes."""
    instances = []
    unknown = []
    for row in image.rows:
        if row.class_id in labels:
            instances.append(replace(row.instance, label=labels[row.class_id]))
        else:
            message = (
                f"class id {row.class_id}, expected one of the {len(labels)} that the data set "
                "names"
            )
            error = AnnotationError(message, reason="unknown_category")
            unknown.append(rejection(image.label_file, error, line=row.line))
    return instances, unknown
