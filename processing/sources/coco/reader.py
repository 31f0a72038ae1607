"""COCO: ``*.json`` with ``images``, ``annotations`` and ``categories``; also Roboflow's export.

- A file is COCO if it has the three lists, or images and categories without the key
  ``annotations``. An incomplete JSON file with a list ``images`` counts as a COCO file cut short,
  and is rejected as ``malformed``. Captions, and JSON files of other tools, are not found.
- ``bbox`` is x, y, width, height in pixels; ``iscrowd`` becomes `Flag.CROWD` and ``ignore``
  `Flag.IGNORED`. Without a ``bbox``, the polygons of ``segmentation`` give the box; a run-length
  mask gives none. An instance with points only gets `Flag.NO_BOX`.
- If all boxes of a file make sense as two corners, and many reach beyond their images as x, y,
  width, height, the file is rejected (``looks_like_corners``).
- ``keypoints`` are x, y, visibility; if all visibilities are 0, the instance has no points. A point
  at -1, -1 is not labelled, and NaN becomes so in the repairs. An annotation with another number of
  points than its category names, or without names than most of its category have, is
  ``malformed``. If categories name their points differently, no points of the file are read
  (``mixed_keypoints``).
- An annotation with a ``score`` is a ``prediction`` and rejected. A file of nothing else is
  rejected as a whole, and so is a list of results. Next to another COCO file a list of results is
  only noted.
- Ids are integers or strings; ``1`` and ``"1"`` are the same. Categories are numbered without gaps
  in the order of their ids, including unused ones; categories of the same name become one. A
  category id with two names makes the file ``malformed``.
- An image id that names two files rejects both images (``duplicate_image_id``). Annotations with an
  unlisted id (``unknown_image_id``, ``unknown_category``) and ``malformed`` entries are rejected;
  all others are kept.
- Listed images without annotations are negatives if the file has annotations of other images. The
  images of a file without any annotation are not labelled. They are left out: with a note for the
  test split (``unlabelled_images``), otherwise as a rejection of the file (``no_annotations``). The
  option ``unlabelled: negatives`` makes them negatives.
- If no annotation of a file has a box or points, the file is rejected as ``no_boxes``, because all
  its images would become false negatives. So is a panoptic file, but next to another COCO file it
  is only noted.
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
from functools import partial
from typing import Final

import numpy as np

from processing.core.annotation_sets import AnnotationSet
from processing.core.annotations import INSTANCE_COLUMNS, AnnotationTable, take_columns
from processing.core.columns import offsets_of
from processing.core.errors import AnnotationError, Note, Rejection, SourceError
from processing.sources.coco.corners import check_not_corners
from processing.sources.coco.detection import is_coco, is_panoptic, is_results
from processing.sources.coco.entries import Category, CocoFile, Id, Image, load, same_id
from processing.sources.coco.instances import REJECTED, CocoInstances, read_instances, rejections_of
from processing.sources.coco.keypoint_checks import check_keypoints
from processing.sources.coco.unlabelled import report_unlabelled
from processing.sources.image_search import locate
from processing.sources.paths import folder_of
from processing.sources.raw_directory import RawDirectory
from processing.sources.source_format import Reading, SourceFormat, per_file, rejection
from processing.sources.split_names import split_of
from processing.sources.text import malformed, size_of


def find(raw: RawDirectory) -> list[str]:
    """Finds COCO files, sorted."""
    return [path for path in raw.with_suffix(".json") if is_coco(raw.path(path))]


def read(raw: RawDirectory, paths: list[str], *, unlabelled: str = "") -> Reading:
    """Reads COCO files.

    Args:
        raw: the raw directory.
        paths: the files.
        unlabelled: ``negatives`` if the images of a file without any annotation show no object.

    Raises:
        SourceError: `unlabelled` is another text.
    """
    if unlabelled not in ("", "negatives"):
        raise SourceError(f"source coco: unlabelled is {unlabelled!r}, expected negatives")
    others = {path: reason for path in paths if (reason := _why_not_read(raw, path))}
    data_sets = [path for path in paths if path not in others]
    read_one = partial(read_file, unlabelled_are_negatives=unlabelled == "negatives")
    reading = per_file(read_one)(raw, data_sets)
    for path, reason in others.items():
        message = f"{path}: {_NOT_READ[reason]}; not read"
        if data_sets:
            reading.notes.append(Note(reason, path, message))
        else:
            reading.rejections.append(Rejection(path, "annotation", reason, message))
    return reading


_NOT_READ: Final = {
    "predictions": "a list of predictions with scores, which are no annotations",
    "no_boxes": "the segments of panoptic masks, which are no boxes of single objects",
}
"""Files that belong to COCO data sets and hold no annotations of objects."""


def _why_not_read(raw: RawDirectory, path: str) -> str:
    """Returns a key of `_NOT_READ`, or ``""``."""
    if is_results(raw.path(path)):
        return "predictions"
    return "no_boxes" if is_panoptic(raw.path(path)) else ""


def read_file(raw: RawDirectory, path: str, *, unlabelled_are_negatives: bool) -> Reading:
    """Reads a COCO file."""
    file = load(raw.path(path))
    categories = _Categories.of(file, path)
    images = _Images.of(file, raw, path)
    if not (file.annotations or unlabelled_are_negatives):
        reading = report_unlabelled(raw, path, images.paths)
        reading.rejections.extend(categories.rejections + images.rejections)
        return reading
    instances, rejections, rows_missing_annotations, notes = read_instances(
        file, path, images.positions, categories.labels
    )
    instances, bad_points, rows_missing_points = check_keypoints(
        instances, path, categories.names, categories.keypoint_names
    )
    rejections += bad_points
    rows_missing_annotations |= rows_missing_points
    # The file and the ids take as much memory as everything that is still to be made.
    del file
    images.positions.clear()
    located = locate(raw, path, images.paths)
    table = _table(images, located.paths, instances, categories, path)
    check_not_corners(table)
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
        notes,
        images_missing_annotations={located.paths[row] for row in rows_missing_annotations},
    )


FORMAT: Final = SourceFormat(
    name="coco",
    pattern_description="COCO: *.json with the lists images, annotations and categories",
    find=find,
    read=read,
    options=("unlabelled",),
)


@dataclass
class _Categories:
    """The categories of a file.

    Args:
        names: in the order of the ids; names that occur twice become one in `combine`.
        labels: category id to position in `names`.
        keypoint_names: the keypoint names of each label that has any.
        rejections: the malformed entries.
    """

    names: list[str]
    labels: Mapping[Id, int]
    keypoint_names: Mapping[int, tuple[str, ...]]
    rejections: list[Rejection]

    @classmethod
    def of(cls, file: CocoFile, path: str) -> _Categories:
        """Reads the list ``categories``.

        Raises:
            AnnotationError: an id has two names; reason ``malformed``.
        """
        names: dict[Id, str] = {}
        keypoint_names: dict[Id, tuple[str, ...]] = {}
        rejections = []
        for chunk in file.categories.decoded(Category):
            rejections += rejections_of(path, "categories", chunk.failures)
            for category in chunk.entries:
                key = same_id(category.id)
                if names.setdefault(key, category.name) != category.name:
                    raise malformed(
                        f"category id {key!r} is named {names[key]!r} and {category.name!r}; "
                        "expected one name for each id"
                    )
                if category.keypoints:
                    keypoint_names[key] = tuple(category.keypoints)
        # Integers come first: Python cannot compare them with strings.
        ordered = sorted(names, key=lambda key: (isinstance(key, str), key))
        labels = {key: label for label, key in enumerate(ordered)}
        by_label = {labels[key]: listed for key, listed in keypoint_names.items()}
        return cls([names[key] for key in ordered], labels, by_label, rejections)


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
        for chunk in file.images.decoded(Image):
            images.rejections += rejections_of(path, "images", chunk.failures)
            for failure in chunk.failures:
                if failure.image_id is not None:
                    images.positions.setdefault(failure.image_id, REJECTED)
            for number, entry in zip(chunk.positions, chunk.entries, strict=True):
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
    path: str,
) -> AnnotationTable:
    # A stable sort keeps the file's order within each image.
    order = np.argsort(instances.rows, kind="stable")
    n = len(paths)
    keypoint_names: tuple[str, ...] = ()
    for label in np.unique(instances.labels[instances.points.lengths > 0]).tolist():
        # All categories with points have the same names, or none.
        keypoint_names = categories.keypoint_names.get(label, keypoint_names)
    return AnnotationTable(
        image_paths=np.array(paths, dtype=np.dtypes.StringDType()),
        declared_sizes=np.array(images.sizes, dtype=np.int32).reshape(-1, 2),
        splits=np.full(n, split_of(path), dtype=np.int8),
        normalized=np.zeros(n, dtype=bool),
        set_ids=np.zeros(n, dtype=np.int32),
        found_by_name=np.zeros(n, dtype=bool),
        annotation_files=np.full(n, "", dtype=np.dtypes.StringDType()),
        offsets=offsets_of(np.bincount(instances.rows, minlength=n)),
        category_names=tuple(categories.names),
        keypoint_names=keypoint_names,
        annotation_sets=(
            AnnotationSet(
                path,
                place="annotations[{}]",
                keypoint_names=keypoint_names,
                category_names=tuple(categories.names),
            ),
        ),
        **take_columns(instances, INSTANCE_COLUMNS, order),
    )
