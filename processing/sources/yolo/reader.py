"""YOLO: a ``data.yaml``, Darknet's ``obj.data``, or only folders of images and label files.

- The images are those that a description names: folders, or lists of images in ``.txt`` files
  (see `targets` and `lists` for paths of other machines). If it leads nowhere, the folders of
  labels next to it are read with its names (``yaml_paths_ignored``). Without a description, all
  images of ``images`` folders with ``labels``, and of folders with text next to images, are taken.
  Then lists such as ``train.txt`` and folders called ``train``, ``valid``, … give the splits.
- `labels` says which label file belongs to an image, and `unlabelled` what happens to images
  without one. An image with an empty label file is a negative.
- A row is ``class cx cy width height`` in fractions of the upright image. Rows with other numbers
  are rejected (``not_fractions``). With ``kpt_shape: [K, 2 or 3]``, K points may follow; without
  it, `long_rows` tells points from polygons. A polygon becomes its bounding box. ``-1 -1``, NaN
  and, for points of two numbers, ``0 0`` mean that a point is not labelled.
- `names` finds the names of the classes. Without any, classes are numbers (``unnamed_classes``).
- An image in several splits is in none of them (``ambiguous_split``). A bad row is rejected, and
  the other rows are kept.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass, field
from typing import Final

from processing.core.annotation_sets import AnnotationSet
from processing.core.annotations import Instance, TableRow, table_from_rows
from processing.core.errors import AnnotationError, Note, Rejection, SourceError
from processing.sources.paths import folder_of
from processing.sources.raw_directory import RawDirectory
from processing.sources.source_format import (
    Reading,
    SourceFormat,
    combine,
    each_line,
    rejection,
)
from processing.sources.split_names import only_split
from processing.sources.text import check_size, check_text
from processing.sources.yolo.dataset import Dataset
from processing.sources.yolo.labels import expected_places, image_folders_of, label_root
from processing.sources.yolo.layout import Layout, find
from processing.sources.yolo.long_rows import decide
from processing.sources.yolo.names import ClassNames, applying_names, choose_names
from processing.sources.yolo.pairing import find_ambiguous
from processing.sources.yolo.rows import (
    Check,
    LongRows,
    Row,
    check_centres,
    check_fractions,
    check_pixels,
    instance_of,
    parse_row,
)
from processing.sources.yolo.unlabelled import find_unlabelled, note_empty_splits


def read(
    raw: RawDirectory,
    paths: list[str],
    *,
    unlabelled: str = "",
    polygons: bool = False,
    units: str = "fractions",
) -> Reading:
    """Reads descriptions and folders of labels.

    Args:
        raw: the raw directory.
        paths: some of the paths that `find` returned.
        unlabelled: ``negatives`` takes splits without any label file for images without objects.
        polygons: whether rows that are longer than a box are polygons for certain.
        units: ``pixels`` if the coordinates are no fractions.

    Raises:
        SourceError: an option has another value.
    """
    if unlabelled not in ("", "negatives"):
        raise SourceError(f"source yolo: unlabelled is {unlabelled!r}, expected negatives")
    if not isinstance(polygons, bool):
        raise SourceError(f"source yolo: polygons is {polygons!r}, expected true or false")
    layout = Layout(raw)
    readings = []
    for dataset in layout.datasets(paths):
        reader = _Reader(
            raw, layout, dataset, check_pixels if units == "pixels" else check_fractions
        )
        readings.append(reader.read(negatives=unlabelled == "negatives", polygons=polygons))
    return combine(readings)


FORMAT: Final = SourceFormat(
    name="yolo",
    pattern_description=(
        "YOLO: data.yaml with train or val and names, obj.data, the folders images and labels, or "
        "a text file of class and box next to each image"
    ),
    find=find,
    read=read,
    options=("unlabelled", "polygons", "units"),
)


@dataclass
class _LabelFile:
    """One label file.

    Args:
        rows: its rows, as numbers.
        problems: numbers of unusable lines, and why.
        is_incomplete: whether a line, or the whole file, was rejected.
    """

    rows: list[Row] = field(default_factory=list)
    problems: list[tuple[int, AnnotationError]] = field(default_factory=list)
    is_incomplete: bool = False


class _Reader:
    """Reads the label files of one data set."""

    def __init__(self, raw: RawDirectory, layout: Layout, dataset: Dataset, check: Check) -> None:
        self._check = check
        self._raw = raw
        self._layout = layout
        self._dataset = dataset
        self._rejections = list(dataset.rejections)
        self._notes = list(dataset.notes)
        self._label_of: dict[int, int] = {}

    def read(self, *, negatives: bool, polygons: bool) -> Reading:
        """Reads all label files, and settles names, points and images without label file."""
        dataset, all_labels = self._dataset, self._layout.labels
        label_files = {image: all_labels.of_image(image) for image in dataset.splits}
        paths = [path for path in dict.fromkeys(label_files.values()) if path]
        files = {path: self._read_rows(path) for path in paths}
        left_out = self._left_out(label_files, negatives=negatives)
        self._rejections += self._labels_without_image(paths)
        with_rows = {path for path, file in files.items() if file.rows or file.problems}
        self._notes += note_empty_splits(dataset, label_files, with_rows)
        rows = [row for file in files.values() for row in file.rows]
        try:
            check_centres([row for row in rows if row.is_box])
            names = self._names(paths, {row.class_id for row in rows})
        except AnnotationError as error:
            message = f"{dataset.path}: {error}; its {len(dataset.splits)} images are left out"
            rejected = Rejection(dataset.path, "annotation", error.reason, message)
            return Reading(
                rejections=[*self._rejections, rejected],
                notes=self._notes,
                named_splits=dataset.named_splits(),
            )
        long_rows = LongRows(dataset.keypoint_shape)
        if dataset.keypoint_shape is None and not polygons:
            long_rows = decide([row for row in rows if not row.is_box])
        categories = self._categories(names, rows)
        del rows  # `_instances` frees the rows file by file
        instances = {path: self._instances(path, file, long_rows) for path, file in files.items()}
        table_rows = []
        missing = set()
        for image, path in label_files.items():
            if image in left_out:
                continue
            if path and files[path].is_incomplete:
                missing.add(image)
            table_rows.append(self._table_row(image, path, instances.get(path, [])))
        details = [long_rows.details, f"names from {names.path}" if names else ""]
        annotation_set = AnnotationSet(
            dataset.path,
            has_names=names is not None and not _are_numbers(names),
            details="; ".join(filter(None, details)),
        )
        table = table_from_rows(
            table_rows, category_names=list(categories.values()), annotation_sets=[annotation_set]
        )
        return Reading(
            table, self._rejections, self._notes, missing, named_splits=dataset.named_splits()
        )

    def _left_out(self, label_files: Mapping[str, str], *, negatives: bool) -> set[str]:
        """Finds images whose objects are unknown: unlabelled ones, and ambiguous ones."""
        unlabelled = find_unlabelled(
            self._raw, self._dataset, self._layout.labels, label_files, negatives=negatives
        )
        ambiguous = find_ambiguous(self._raw, label_files)
        self._rejections += unlabelled.rejections + ambiguous
        self._notes += unlabelled.notes
        return unlabelled.images.union(rejected.path for rejected in ambiguous)

    def _read_rows(self, path: str) -> _LabelFile:
        """Reads the rows of one label file."""
        file = _LabelFile()

        def use(number: int, line: str) -> None:
            words = line.split()
            if words:
                try:
                    check_text(line)
                    file.rows.append(parse_row(number, words))
                except AnnotationError as error:
                    file.problems.append((number, error))

        try:
            check_size(self._raw.path(path))
            each_line(self._raw, path, use)
        except AnnotationError as error:
            self._rejections.append(rejection(path, error))
            file.is_incomplete = True
        return file

    def _instances(self, path: str, file: _LabelFile, long_rows: LongRows) -> list[Instance]:
        """Turns the rows of a label file into instances, and rejects its unusable lines."""
        instances = []
        for row in file.rows:
            try:
                label = self._label(row.class_id)
                instances.append(instance_of(row, label, long_rows, self._check))
            except AnnotationError as error:
                file.problems.append((row.line, error))
        file.rows.clear()  # a million label files must not be in memory twice
        for line, problem in sorted(file.problems, key=lambda found: found[0]):
            self._rejections.append(rejection(path, problem, f"line {line}"))
            file.is_incomplete = True
        return instances

    def _label(self, class_id: int) -> int:
        """Returns the label of a class.

        Raises:
            AnnotationError: the class has no name; reason ``unknown_category``.
        """
        if class_id not in self._label_of:
            raise AnnotationError(
                f"class id {class_id}, expected one of the {len(self._label_of)} that the data set "
                "names",
                reason="unknown_category",
            )
        return self._label_of[class_id]

    def _names(self, paths: Collection[str], used: Set[int]) -> ClassNames | None:
        """Returns the names of the used classes; None without any.

        Raises:
            AnnotationError: several files name them differently; reason ``conflicting_names``.
        """
        dataset = self._dataset
        scope = dataset.names_scope | set(map(folder_of, paths))
        candidates = applying_names(self._raw, self._layout.names_files, scope, self._rejections)
        if dataset.names is not None:
            own = dataset.names
            candidates = [own, *(names for names in candidates if names.path != own.path)]
        names = choose_names(candidates, used)
        if names is None and used:
            message = (
                f"{dataset.path}: nothing names its classes, so their numbers are used; looked for "
                "names in data.yaml, obj.names, classes.txt, labelmap.txt and the like"
            )
            elsewhere = [path for path in self._layout.names_files if folder_of(path) not in scope]
            if elsewhere:
                message += f"; if {elsewhere[0]} names them, move it next to the labels"
            self._notes.append(Note("unnamed_classes", dataset.path, message))
        if names is not None:
            counts = Counter(names.by_id[class_id] for class_id in used & names.by_id.keys())
            for name in [name for name, count in counts.items() if count > 1]:
                message = f"{names.path}: {counts[name]} classes are called {name!r}: they are one"
                self._notes.append(Note("same_names", names.path, message))
        return names

    def _categories(self, names: ClassNames | None, rows: Collection[Row]) -> dict[int, str]:
        """Returns the names of the categories by class id, and remembers their labels."""
        if not self._dataset.splits:
            categories = {}  # a template of another data set, as yolov5/data/ has a dozen
        elif names is not None:
            categories = dict(names.by_id)
        else:
            # Without names, the classes are known only after the last file.
            greatest = max((row.class_id for row in rows), default=-1)
            count = self._dataset.class_count or greatest + 1
            categories = {class_id: str(class_id) for class_id in range(count)}
        self._label_of = {class_id: label for label, class_id in enumerate(categories)}
        return categories

    def _table_row(self, image: str, path: str, instances: list[Instance]) -> TableRow:
        split = only_split(image, self._dataset.splits[image], self._notes)
        return TableRow(image, instances, split=split, normalized=True, annotation_file=path)

    def _labels_without_image(self, paths: Collection[str]) -> list[Rejection]:
        """Rejects label files without an image in the folders of the data set."""
        folders = {label_root(path) or folder_of(path) for path in paths}
        for image in self._dataset.splits:
            root = label_root(expected_places(image)[0])
            if root:
                folders.add(root)
        rejections = []
        for path in self._layout.labels.without_image(folders | self._dataset.label_prefixes):
            stem = posixpath.splitext(path)[0]
            name = posixpath.basename(stem)
            place = f"{image_folders_of(path)[0]}{name}.*"
            message = f"expected an image at {place}, found none: was the copy interrupted?"
            images = self._raw.images_by_stem.get(name, [])
            if images:
                looked_for = " or ".join(expected_places(images[0]))
                message = f"no image at {place}; the labels of {images[0]} belong at {looked_for}"
            missing = AnnotationError(message, reason="missing_image")
            rejections.append(rejection(path, missing))
        return rejections


def _are_numbers(names: ClassNames) -> bool:
    """Whether each name is only the number of its class, as Roboflow writes without names."""
    return all(name == str(class_id) for class_id, name in names.by_id.items())
