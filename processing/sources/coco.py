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
- Listed images without annotations are negatives. A file in which no annotation has a box or points
  (panoptic) is rejected as ``no_boxes``, since all its images would be false negatives.
- Images are looked for beside the file, in its parent and in the raw directory, there also in
  ``images/`` and in folders called after a word of the file's name (``train2017/``); else by a
  basename that only one image has.
- The split is a word in the file's name (``instances_train2017.json``), else its folder's name
  (``valid/``).
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final

import numpy as np

from processing.annotations import AnnotationTable
from processing.errors import AnnotationError, Rejection
from processing.ragged import offsets_of
from processing.sources import coco_json
from processing.sources.coco_instances import REJECTED, Instances, malformed, read_instances
from processing.sources.coco_json import Category, CocoFile, Id, Image, same_id
from processing.sources.listing import RawDirectory, folder_of, parent_of
from processing.sources.reading import (
    Reading,
    SourceFormat,
    combine,
    labels_of,
    rejection,
    size_of,
    split_of,
)


def find(raw: RawDirectory) -> list[str]:
    """COCO files, sorted."""
    return [path for path in raw.with_suffix(".json") if coco_json.looks_like_coco(raw.path(path))]


def read(raw: RawDirectory, paths: list[str]) -> Reading:
    """Reads COCO files."""
    return combine([_read_file(raw, path) for path in paths])


FORMAT: Final = SourceFormat(
    name="coco",
    looked_for="COCO: *.json with the lists images, annotations and categories",
    find=find,
    read=read,
)


def _read_file(raw: RawDirectory, path: str) -> Reading:
    try:
        file = coco_json.load(raw.path(path))
        categories = _Categories.of(file)
        images = _Images.of(file, raw, path)
        instances, rejections = read_instances(file, path, images.positions, categories.labels)
    except AnnotationError as error:
        return Reading(rejections=[rejection(path, error)])
    # The file and the ids are as large as everything that is still to be made.
    del file
    images.positions.clear()
    table = _table(images, instances, categories, split_of(path))
    return Reading(
        # Images of an ambiguous id go with whatever was annotated on them.
        table=table.take(np.flatnonzero(~np.isin(np.arange(len(table)), list(images.ambiguous)))),
        rejections=images.rejections + rejections,
    )


@dataclass
class _Categories:
    names: tuple[str, ...]
    labels: Mapping[Id, int]
    keypoint_names: set[tuple[str, ...]]

    @classmethod
    def of(cls, file: CocoFile) -> _Categories:
        names: dict[Id, str] = {}
        keypoint_names = set()
        for _, categories, failures in coco_json.chunks(file.categories, Category):
            for position, error in failures:
                raise AnnotationError(f"categories[{position}]: {error}", reason="malformed")
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
        return cls(*labels_of({key: names[key] for key in ordered}), keypoint_names)


@dataclass
class _Images:
    """Rows of the table to be, and the row of each image id."""

    paths: list[str] = field(default_factory=list)
    sizes: array[int] = field(default_factory=lambda: array("i"))
    positions: dict[Id, int] = field(default_factory=dict)
    ambiguous: set[int] = field(default_factory=set)
    rejections: list[Rejection] = field(default_factory=list)

    @classmethod
    def of(cls, file: CocoFile, raw: RawDirectory, path: str) -> _Images:
        images = cls()
        folders = _image_folders(raw, path)
        for numbers, entries, failures in coco_json.chunks(file.images, Image):
            images.rejections += malformed(path, "images", failures)
            for number, entry in zip(numbers, entries, strict=True):
                key = same_id(entry.id)
                try:
                    image_path = raw.resolve(entry.file_name, folders)
                except AnnotationError as error:
                    error = AnnotationError(f"images[{number}]: {error}", reason=error.reason)
                    images.rejections.append(rejection(path, error))
                    images.positions.setdefault(key, REJECTED)
                else:
                    images.add(path, key, image_path, size_of(entry.height, entry.width) or (0, 0))
        return images

    def add(self, path: str, key: Id, image_path: str, size: tuple[int, int]) -> None:
        row = self.positions.setdefault(key, len(self.paths))
        if row == len(self.paths):
            self.paths.append(image_path)
            self.sizes.extend(size)
        elif row == REJECTED:
            self._reject(image_path, f"{path}: image id {key!r} names two images")
        elif self.paths[row] != image_path:
            clash = f"{path}: image id {key!r} names {self.paths[row]!r} and {image_path!r}"
            if row not in self.ambiguous:
                self._reject(self.paths[row], clash)
            self._reject(image_path, clash)
            self.ambiguous.add(row)

    def _reject(self, image_path: str, clash: str) -> None:
        self.rejections.append(Rejection(image_path, "annotation", "duplicate_image_id", clash))


def _image_folders(raw: RawDirectory, path: str) -> list[str]:
    """Where the file's images may be: its own folder first, then those that lead to images."""
    words = re.findall(r"[A-Za-z]+[0-9]*", PurePosixPath(path).stem)
    named = [name for word in words for name in (word, word.rstrip("0123456789"))]
    below = ["", "images/", *(f"images/{name}/" for name in named), *(f"{name}/" for name in named)]
    own = folder_of(path)
    folders = [base + folder for base in (own, parent_of(own), "") for folder in below]
    leading = (folder for folder in folders if folder in raw.folders_above_images)
    return list(dict.fromkeys([own, *leading]))


def _table(
    images: _Images, instances: Instances, categories: _Categories, split: int
) -> AnnotationTable:
    order = np.argsort(instances.rows, kind="stable")
    n = len(images.paths)
    lengths = set(np.unique(instances.points.lengths).tolist()) - {0}
    names = categories.keypoint_names
    fitting = {given for given in names if {len(given)} == lengths}
    return AnnotationTable(
        image_paths=np.array(images.paths, dtype=np.dtypes.StringDType()),
        declared_sizes=np.array(images.sizes, dtype=np.int32).reshape(-1, 2),
        splits=np.full(n, split, dtype=np.int8),
        normalized=np.zeros(n, dtype=bool),
        offsets=offsets_of(np.bincount(instances.rows, minlength=n)),
        boxes=instances.boxes[order],
        labels=instances.labels[order],
        flags=instances.flags[order],
        points=instances.points.take(order),
        category_names=categories.names,
        keypoint_names=fitting.pop() if len(names) == len(fitting) == 1 else (),
    )
