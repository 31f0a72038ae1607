"""COCO: ``*.json`` with ``images``, ``annotations`` and ``categories``; also Roboflow's export.

- A file is ours if it has the three lists. One that has ``images`` and is not whole JSON is ours
  too and rejected as ``malformed``: it may be a COCO file cut short. Captions, and files of other
  tools, are not found.
- ``bbox`` is x, y, width, height in pixels; ``iscrowd`` becomes `Flag.CROWD`. ``keypoints`` are x,
  y, visibility; all visibilities 0 means no points. Points without a box: `Flag.NO_BOX`.
  Segmentations are never parsed.
- Ids are integers or strings, ``1`` and ``"1"`` the same. Categories are numbered without gaps in
  the order of their ids, unused ones too; those of one name are one. A category id with two names
  makes the file ``malformed``.
- An image id that names two files rejects those images (``duplicate_image_id``). Annotations of an
  id that is not listed (``unknown_image_id``, ``unknown_category``) and ``malformed`` entries are
  rejected, the rest is kept.
- Listed images without annotations are negatives, also where the list of annotations is empty. A
  file in which no annotation has a box or points (panoptic) is rejected as ``no_boxes``, since all
  its images would be false negatives.
- Images are looked for beside the file, in its parent and in the raw directory, there also in
  ``images/`` and in folders called after a word of the file's name (``train2017/``); if none of
  them is there, by basename.
- The split is a word in the file's name (``instances_train2017.json``), else its folder's name
  (``valid/``).
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from processing.core.annotations import INSTANCE_COLUMNS, AnnotationTable, take_columns
from processing.core.columns import offsets_of
from processing.core.errors import AnnotationError, Rejection
from processing.sources.coco.entries import (
    Category,
    CocoFile,
    Id,
    Image,
    load,
    looks_like_coco,
    same_id,
)
from processing.sources.coco.instances import REJECTED, CocoInstances, malformed, read_instances
from processing.sources.image_search import locate, usual_layouts
from processing.sources.raw_directory import RawDirectory, folder_of
from processing.sources.source_format import Reading, SourceFormat, combine, labels_of, rejection
from processing.sources.split_names import split_of
from processing.sources.text import size_of


def find(raw: RawDirectory) -> list[str]:
    """COCO files, sorted."""
    return [path for path in raw.with_suffix(".json") if looks_like_coco(raw.path(path))]


def read(raw: RawDirectory, paths: list[str]) -> Reading:
    """Reads COCO files."""
    return combine([_read_file(raw, path) for path in paths])


FORMAT: Final = SourceFormat(
    name="coco",
    pattern_description="COCO: *.json with the lists images, annotations and categories",
    find=find,
    read=read,
)


def _read_file(raw: RawDirectory, path: str) -> Reading:
    try:
        file = load(raw.path(path))
        categories = _Categories.of(file, path)
        images = _Images.of(file, raw, path)
        instances, rejections, images_missing_annotations = read_instances(
            file, path, images.positions, categories.labels
        )
    except AnnotationError as error:
        return Reading(rejections=[rejection(path, error)])
    # The file and the ids are as large as everything that is still to be made.
    del file
    images.positions.clear()
    located = locate(raw, usual_layouts(raw, path), images.paths)
    ambiguous = {located.paths[row]: key for row, key in images.ambiguous.items()}
    table = _table(images, located.paths, instances, categories, split_of(path))
    if images.ambiguous:
        # They go with whatever was annotated on them.
        table = table.take(np.delete(np.arange(len(table)), list(images.ambiguous)))
    return Reading(
        table=table,
        rejections=categories.rejections
        + images.rejections
        + [_ambiguous(path, image, key) for image, key in ambiguous.items()]
        + rejections,
        images_missing_annotations=frozenset(
            (located.paths[row], "") for row in images_missing_annotations
        ),
        candidates_by_name=located.candidates_by_name,
    )


def _ambiguous(path: str, image: str, key: Id) -> Rejection:
    message = f"{path}: image id {key!r} names {image!r} and another image"
    return Rejection(image, "annotation", "duplicate_image_id", message)


@dataclass
class _Categories:
    names: tuple[str, ...]
    labels: Mapping[Id, int]
    keypoint_names: set[tuple[str, ...]]
    rejections: list[Rejection]

    @classmethod
    def of(cls, file: CocoFile, path: str) -> _Categories:
        names: dict[Id, str] = {}
        keypoint_names, rejections = set(), []
        for _, categories, failures in file.categories.decoded(Category):
            for failure in failures:
                said = f"categories[{failure.position}]: {failure.error}"
                rejections.append(rejection(path, AnnotationError(said, reason="malformed")))
            for category in categories:
                key = same_id(category.id)
                if names.setdefault(key, category.name) != category.name:
                    raise AnnotationError(
                        f"category id {key!r} is named {names[key]!r} and {category.name!r}; "
                        "expected one name for each id",
                        reason="malformed",
                    )
                if category.keypoints:
                    keypoint_names.add(tuple(category.keypoints))
        ordered = sorted(names, key=lambda key: (isinstance(key, str), key))
        labels = labels_of({key: names[key] for key in ordered})
        return cls(*labels, keypoint_names, rejections)


@dataclass
class _Images:
    """Rows of the table to be, and the row of each image id.

    Args:
        paths: as seen from the file's folder.
        sizes: height and width in turn.
        positions: image id to row, or `REJECTED`.
        ambiguous: rows that are not the only image of their id, and the id.
        rejections: entries that name no image.
    """

    paths: list[str] = field(default_factory=list)
    sizes: array[int] = field(default_factory=lambda: array("i"))
    positions: dict[Id, int] = field(default_factory=dict)
    ambiguous: dict[int, Id] = field(default_factory=dict)
    rejections: list[Rejection] = field(default_factory=list)

    @classmethod
    def of(cls, file: CocoFile, raw: RawDirectory, path: str) -> _Images:
        images = cls()
        own = folder_of(path)
        for numbers, entries, failures in file.images.decoded(Image):
            images.rejections += malformed(path, "images", failures)
            for failure in failures:
                if failure.image_id is not None:
                    images.positions.setdefault(failure.image_id, REJECTED)
            for number, entry in zip(numbers, entries, strict=True):
                key = same_id(entry.id)
                try:
                    image = raw.inside(own, entry.file_name)
                except AnnotationError as error:
                    error = AnnotationError(f"images[{number}]: {error}", reason=error.reason)
                    images.rejections.append(rejection(path, error))
                    images.positions.setdefault(key, REJECTED)
                else:
                    images.add(key, image, size_of(entry.height, entry.width))
        return images

    def add(self, key: Id, path: str, size: tuple[int, int]) -> None:
        new = len(self.paths)
        row = self.positions.setdefault(key, new)
        if row in (new, REJECTED) or self.paths[row] != path:
            self.paths.append(path)
            self.sizes.extend(size)
        if row == REJECTED:
            self.ambiguous[new] = key
        elif self.paths[row] != path:
            self.ambiguous |= {row: key, new: key}


def _table(
    images: _Images,
    paths: list[str],
    instances: CocoInstances,
    categories: _Categories,
    split: int,
) -> AnnotationTable:
    order = np.argsort(instances.rows, kind="stable")
    n = len(paths)
    lengths = set(np.unique(instances.points.lengths).tolist()) - {0}
    names = categories.keypoint_names
    fitting = {given for given in names if {len(given)} == lengths}
    return AnnotationTable(
        image_paths=np.array(paths, dtype=np.dtypes.StringDType()),
        declared_sizes=np.array(images.sizes, dtype=np.int32).reshape(-1, 2),
        splits=np.full(n, split, dtype=np.int8),
        normalized=np.zeros(n, dtype=bool),
        offsets=offsets_of(np.bincount(instances.rows, minlength=n)),
        **take_columns(instances, INSTANCE_COLUMNS, order),
        category_names=categories.names,
        keypoint_names=fitting.pop() if len(names) == len(fitting) == 1 else (),
    )
