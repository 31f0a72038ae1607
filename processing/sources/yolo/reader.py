"""YOLO: a ``data.yaml`` of Ultralytics or Roboflow, or bare ``images`` and ``labels`` folders.

- Images are those of the yaml's ``train``, ``val`` and ``test``: folders, or lists of images in
  ``.txt`` files, relative to its ``path`` where that is in the raw directory, else to the yaml's
  own folder; Roboflow's ``../train/images`` too. Without a yaml they are all images of the
  ``images`` folder, split by folders called ``train``, ``valid``, ….
- An image's labels are at its path with the last ``images`` replaced by ``labels``, else beside it,
  ending in ``.txt``; an image without, or with an empty file, is a negative. Coordinates are
  fractions of the upright image.
- A row is ``class cx cy width height``, with ``kpt_shape: [K, 2 or 3]`` followed by K points; of
  two numbers, a point at (0, 0) is not labelled (0) and any other visible (2). Without
  ``kpt_shape`` longer rows of odd count are polygons, whose bounding box is taken, and others K
  points of three numbers. A box and one more number, as prediction exports add their confidence,
  is neither, but may be a polygon cut short: malformed.
- Categories are the yaml's ``names``, or ``classes.txt`` beside the folders or among the labels,
  else numbers up to the greatest in use.
- An image in several splits is in none (``ambiguous_split``). A bad row is rejected alone:
  ``malformed``, or ``unknown_category``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from processing.core.annotations import UNASSIGNED, TableRow, table_from_rows
from processing.core.errors import AnnotationError, Rejection
from processing.sources.raw_directory import RawDirectory
from processing.sources.source_format import Reading, SourceFormat, combine, labels_of, rejection
from processing.sources.text import check_size, check_text, read_lines
from processing.sources.yolo import layout
from processing.sources.yolo.labels import KeypointShape, LabelRow, parse_row
from processing.sources.yolo.layout import Dataset


def find(raw: RawDirectory) -> list[str]:
    """Files like ``data.yaml``, and the ``labels`` folders that belong to none of them."""
    return layout.find(raw)


def read(raw: RawDirectory, paths: list[str]) -> Reading:
    """Reads what `find` found."""
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
    find=find,
    read=read,
)


def _read_dataset(raw: RawDirectory, dataset: Dataset) -> Reading:
    rejections = list(dataset.rejections)
    parsed: list[tuple[str, int, str, list[LabelRow]]] = []
    notes: Counter[str] = Counter()
    images_missing_annotations: set[tuple[str, str]] = set()
    for image, splits in dataset.splits.items():
        notes["ambiguous_split"] += len(splits) > 1
        split = min(splits) if len(splits) == 1 else UNASSIGNED
        labels = layout.label_file(raw, image)
        rows, malformed = _read_labels(raw, labels, dataset.keypoint_shape) if labels else ([], [])
        rejections += malformed
        if malformed:
            images_missing_annotations.add((image, labels))
        parsed.append((image, split, labels, rows))
    greatest = max((row.class_id for *_, rows in parsed for row in rows), default=-1)
    names, positions = labels_of(dataset.names or {i: str(i) for i in range(greatest + 1)})
    table_rows = []
    for image, split, labels, rows in parsed:
        known = [row for row in rows if row.class_id in positions]
        unknown = [
            _unknown(labels, row, positions) for row in rows if row.class_id not in positions
        ]
        rejections += unknown
        if unknown:
            images_missing_annotations.add((image, labels))
        instances = [replace(row.instance, label=positions[row.class_id]) for row in known]
        table_rows.append(TableRow(image, instances, split=split, normalized=True))
    table = table_from_rows(table_rows, category_names=names)
    rejections += layout.without_image(raw, [labels for _, _, labels, _ in parsed])
    return Reading(table, rejections, +notes, frozenset(images_missing_annotations))


def _read_labels(
    raw: RawDirectory, path: str, shape: KeypointShape | None
) -> tuple[list[LabelRow], list[Rejection]]:
    """The rows of one label file, and those that are malformed."""
    rows: list[LabelRow] = []
    rejections: list[Rejection] = []
    try:
        check_size(raw.path(path))
        for line, content in enumerate(read_lines(raw, path), 1):
            words = content.split()
            if words:
                try:
                    check_text(content)
                    rows.append(parse_row(line, words, shape))
                except AnnotationError as error:
                    rejections.append(rejection(path, error, line=line))
    except AnnotationError as error:
        rejections.append(rejection(path, error))
    return rows, rejections


def _unknown(path: str, row: LabelRow, positions: Mapping[int, int]) -> Rejection:
    message = (
        f"{path}: line {row.line}: class id {row.class_id}, expected one of the {len(positions)} "
        "that the data set names"
    )
    return Rejection(path, "annotation", "unknown_category", message)
