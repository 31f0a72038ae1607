"""COCO: ``*.json`` with ``images``, ``annotations`` and ``categories``; also Roboflow's export.

- A file is COCO if it has the three lists. An incomplete JSON file with a list ``images`` counts as
  a COCO file cut short, and is rejected as ``malformed``. Captions, and JSON files of other tools,
  are not found.
- ``bbox`` is x, y, width, height in pixels; ``iscrowd`` becomes `Flag.CROWD`. ``keypoints`` are x,
  y, visibility; if all visibilities are 0, the instance has no points. An instance with points
  only gets `Flag.NO_BOX`. Segmentations are never parsed.
- Ids are integers or strings; ``1`` and ``"1"`` are the same. Categories are numbered without gaps
  in the order of their ids, including unused ones; categories of the same name become one. A
  category id with two names makes the file ``malformed``.
- An image id that names two files rejects both images (``duplicate_image_id``). Annotations with an
  unlisted id (``unknown_image_id``, ``unknown_category``) and ``malformed`` entries are rejected;
  all others are kept.
- Listed images without annotations are negatives, even if the list of annotations is empty. If no
  annotation of a file has a box or points (panoptic), the file is rejected as ``no_boxes``, because
  all its images would become false negatives.
- Images are looked for in the file's folder, its parent and the raw directory, each also in
  ``images/`` and in folders named after a word of the file's name (``train2017/``); if none of them
  is there, by basename.
- The split is a word in the file's name (``instances_train2017.json``), otherwise the name of its
  folder (``valid/``).
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from processing.core.annotations import (
    INSTANCE_COLUMNS,
    AnnotationSet,
    AnnotationTable,
    take_columns,
)
from processing.core.columns import offsets_of
from processing.core.errors import AnnotationError, Rejection
from processing.sources.coco.entries import Category, CocoFile, Id, Image, is_coco, load, same_id
from processing.sources.coco.instances import REJECTED, CocoInstances, read_instances, rejections_of
from processing.sources.image_search import locate
from processing.sources.raw_directory import RawDirectory, folder_of
from processing.sources.source_format import Reading, SourceFormat, per_file, rejection
from processing.sources.split_names import split_of
from processing.sources.text import malformed, size_of


def find(raw: RawDirectory) -> list[str]:
    """Finds COCO files, sorted."""
    return [path for path in raw.with_suffix(".json") if is_coco(raw.path(path))]


def read_file(raw: RawDirectory, path: str) -> Reading:
    """Reads a COCO file."""
    file = load(raw.path(path))
    categories = _Categories.of(file, path)
    images = _Images.of(file, raw, path)
    instances, rejections, rows_missing_annotations = read_instances(
        file, path, images.positions, categories.labels
    )
    # The file and the ids take as much memory as everything that is still to be made.
    del file
    images.positions.clear()
    located = locate(raw, path, images.paths)
    annotation_set = AnnotationSet(path, place="annotations[{}]")
    table = _table(images, located.paths, instances, categories, split_of(path), annotation_set)
    table = replace(table, found_by_name=np.full(len(table), located.by_name))
    # By path: an image listed twice under the ambiguous id is reported once.
    ambiguous = {located.paths[row]: key for row, key in images.ambiguous.items()}
    duplicate_ids = []
    for image, key in ambiguous.items():
        message = f"{path}: image id {key!r} names {image!r} and another image"
        duplicate_ids.append(Rejection(image, "annotation", "duplicate_image_id", message))
    if ambiguous:
        # Their annotations go with them, since it is unknown which image they describe.
        table = table.take(np.delete(np.arange(len(table)), list(images.ambiguous)))
    return Reading(
        table,
        categories.rejections + images.rejections + duplicate_ids + rejections,
        images_missing_annotations={(located.paths[row], "") for row in rows_missing_annotations},
    )


FORMAT: Final = SourceFormat(
    name="coco",
    pattern_description="COCO: *.json with the lists images, annotations and categories",
    find=find,
    read=per_file(read_file),
)


@dataclass
class _Categories:
    """The categories of a file.

    Args:
        names: in the order of the ids; names that occur twice become one in `combine`.
        labels: category id to position in `names`.
        keypoint_names: all different lists of keypoint names.
        rejections: the malformed entries.
    """

    names: list[str]
    labels: Mapping[Id, int]
    keypoint_names: set[tuple[str, ...]]
    rejections: list[Rejection]

    @classmethod
    def of(cls, file: CocoFile, path: str) -> _Categories:
        """Reads the list ``categories``.

        Raises:
            AnnotationError: an id has two names; reason ``malformed``.
        """
        names: dict[Id, str] = {}
        keypoint_names, rejections = set(), []
        for _, categories, failures in file.categories.decoded(Category):
            rejections += rejections_of(path, "categories", failures)
            for category in categories:
                key = same_id(category.id)
                if names.setdefault(key, category.name) != category.name:
                    raise malformed(
                        f"category id {key!r} is named {names[key]!r} and {category.name!r}; "
                        "expected one name for each id"
                    )
                if category.keypoints:
                    keypoint_names.add(tuple(category.keypoints))
        # Integers come first: Python cannot compare them with strings.
        ordered = sorted(names, key=lambda key: (isinstance(key, str), key))
        labels = {key: label for label, key in enumerate(ordered)}
        return cls([names[key] for key in ordered], labels, keypoint_names, rejections)


@dataclass
class _Images:
    """The images of a file, one row each.

    Args:
        paths: relative to the raw directory, as if they lay in the file's folder.
        sizes: height and width of each image in turn.
        positions: image id to row, or to `REJECTED`.
        ambiguous: rows that share their image id with another image, and that id.
        rejections: entries without a usable id or file name.
    """

    paths: list[str] = field(default_factory=list)
    # An array takes 8 bytes for each image, a list of tuples a hundred.
    sizes: array[int] = field(default_factory=lambda: array("i"))
    positions: dict[Id, int] = field(default_factory=dict)
    ambiguous: dict[int, Id] = field(default_factory=dict)
    rejections: list[Rejection] = field(default_factory=list)

    @classmethod
    def of(cls, file: CocoFile, raw: RawDirectory, path: str) -> _Images:
        """Reads the list ``images``."""
        images = cls()
        own = folder_of(path)
        for numbers, entries, failures in file.images.decoded(Image):
            images.rejections += rejections_of(path, "images", failures)
            for failure in failures:
                if failure.image_id is not None:
                    images.positions.setdefault(failure.image_id, REJECTED)
            for number, entry in zip(numbers, entries, strict=True):
                key = same_id(entry.id)
                try:
                    image = raw.image(own, entry.file_name)
                except AnnotationError as error:
                    images.rejections.append(rejection(path, error, f"images[{number}]"))
                    images.positions.setdefault(key, REJECTED)
                else:
                    images.add(key, image, size_of(entry.height, entry.width))
        return images

    def add(self, key: Id, path: str, size: tuple[int, int]) -> None:
        """Adds an image, unless the same id and path are there already."""
        new = len(self.paths)
        row = self.positions.setdefault(key, new)
        if row in (new, REJECTED) or self.paths[row] != path:
            self.paths.append(path)
            self.sizes.extend(size)
        if row == REJECTED:
            # An unusable entry had this id too, so the annotations may describe its image.
            self.ambiguous[new] = key
        elif self.paths[row] != path:
            self.ambiguous |= {row: key, new: key}


def _table(
    images: _Images,
    paths: list[str],
    instances: CocoInstances,
    categories: _Categories,
    split: int,
    annotation_set: AnnotationSet,
) -> AnnotationTable:
    # A stable sort keeps the file's order within each image.
    order = np.argsort(instances.rows, kind="stable")
    n = len(paths)
    # Names of points are kept only if there is one list of them and it fits all points.
    lengths = set(np.unique(instances.points.lengths).tolist()) - {0}
    keypoint_names: tuple[str, ...] = ()
    if len(categories.keypoint_names) == 1:
        (names,) = categories.keypoint_names
        keypoint_names = names if {len(names)} == lengths else ()
    return AnnotationTable(
        image_paths=np.array(paths, dtype=np.dtypes.StringDType()),
        declared_sizes=np.array(images.sizes, dtype=np.int32).reshape(-1, 2),
        splits=np.full(n, split, dtype=np.int8),
        normalized=np.zeros(n, dtype=bool),
        set_ids=np.zeros(n, dtype=np.int32),
        found_by_name=np.zeros(n, dtype=bool),
        annotation_files=np.full(n, "", dtype=np.dtypes.StringDType()),
        offsets=offsets_of(np.bincount(instances.rows, minlength=n)),
        category_names=tuple(categories.names),
        keypoint_names=keypoint_names,
        annotation_sets=(annotation_set,),
        **take_columns(instances, INSTANCE_COLUMNS, order),
    )
