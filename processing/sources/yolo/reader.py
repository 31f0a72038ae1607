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
from typing import Final

from processing.core.annotations import Instance, TableRow, table_from_rows
from processing.core.errors import Rejection
from processing.sources.raw_directory import RawDirectory
from processing.sources.source_format import (
    Reading,
    SourceFormat,
    collecting,
    file_by_file,
    read_each_line,
)
from processing.sources.split_names import only_split
from processing.sources.text import check_size, check_text
from processing.sources.yolo import layout
from processing.sources.yolo.data_yaml import KeypointShape
from processing.sources.yolo.labels import parse_row


def read_dataset(raw: RawDirectory, path: str) -> Reading:
    """Reads a data.yaml file or a ``labels`` folder."""
    dataset = layout.load(raw, path)
    labels = None
    if dataset.names:
        labels = {class_id: label for label, class_id in enumerate(dataset.names)}
    rejections = list(dataset.rejections)
    notes: Counter[str] = Counter()
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
        split = only_split(splits, notes)
        rows.append(TableRow(image, instances, split=split, normalized=True))
    rejections += layout.labels_without_image(raw, label_files)
    names = list((dataset.names or {}).values())
    if labels is None:
        # Without names, the classes are known only after the last file.
        greatest = max((found.label for row in rows for found in row.instances), default=-1)
        names = [str(i) for i in range(greatest + 1)]
    table = table_from_rows(rows, category_names=names)
    return Reading(table, rejections, notes, images_missing_annotations)


FORMAT: Final = SourceFormat(
    name="yolo",
    pattern_description=(
        "YOLO: data.yaml with train or val and names, or the folders images and labels"
    ),
    find=layout.find,
    read=file_by_file(read_dataset),
)


def _read_labels(
    raw: RawDirectory, path: str, labels: Mapping[int, int] | None, shape: KeypointShape | None
) -> tuple[list[Instance], list[Rejection]]:
    """Reads a label file: its instances, and its unusable rows."""
    instances: list[Instance] = []
    rejections: list[Rejection] = []

    def use(_: int, line: str) -> None:
        words = line.split()
        if words:
            check_text(line)
            instances.append(parse_row(words, labels, shape))

    with collecting(rejections, path):
        check_size(raw.path(path))
        rejections += read_each_line(raw, path, use)
    return instances, rejections
