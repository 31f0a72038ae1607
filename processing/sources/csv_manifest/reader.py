"""CSV: one box or one set of landmarks per line.

- A header that names its columns decides, in any order, with ``,``, ``;`` or tab, quoted or not.
  `columns` has the names of boxes, `points` those of landmarks. Some usual tables:
  TensorFlow's ``filename,width,height,class,xmin,ymin,xmax,ymax``; VoTT's
  ``image,xmin,ymin,xmax,ymax,label``; ``image,x,y,width,height,label``; OpenImages'
  ``ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,…``, whose numbers are fractions.
- Without a header, rows are ``path,x1,y1,x2,y2,class`` (keras-retinanet) or
  ``path,class,x1,y1,x2,y2``. If the second and the last cell are numbers in all rows, it is unknown
  which one is the class, and the file is rejected. So are the rows of Make
  Sense, ``class,x,y,width,height,image,W,H``, and of SKU-110K, ``image,x1,y1,x2,y2,class,W,H``,
  with W and H of the image.
- The category of a table without one is ``object``. A file of ``name,id`` lines in the same folder
  gives the order of the classes if it names all of them; otherwise they are sorted.
- Points are visible (2). Empty cells, NaN and ``-1,-1`` are points that are not labelled (0).

Rejected as a whole are tables with two columns of one name, with two boxes, with confidences other
than 1 (they are predictions), and tables that name images but no boxes or points. A bad line costs
only itself: quoted cells must end in their line, so that a stray quote cannot swallow the next
lines.

Coordinates are taken as written, with exclusive far edges. A line with a path and nothing more is a
negative. The split is the row's (a column ``split``, ``set``, ``subset`` or ``usage``), otherwise a
word in the file's name (``train_labels.csv``), otherwise the name of its folder. Lines with
different sizes for one image are kept here; merging then rejects the image.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections import defaultdict
from typing import Final

from processing.core.annotation_sets import AnnotationSet
from processing.core.annotations import UNASSIGNED, Flag, Instance, TableRow, table_from_rows
from processing.core.errors import AnnotationError, Note
from processing.sources.celeba import is_celeba_list
from processing.sources.csv_manifest.boxes import check_sizes, corners_of
from processing.sources.csv_manifest.categories import class_order, display_names
from processing.sources.csv_manifest.cells import PADDING, split_cells
from processing.sources.csv_manifest.header import (
    Header,
    columns_without_header,
    find_header,
    named_columns,
    same_header,
)
from processing.sources.csv_manifest.images import ImageNames
from processing.sources.csv_manifest.rows import Row, Spelling, cell, parse
from processing.sources.image_search import locate_in_reading, usual_layouts
from processing.sources.raw_directory import RawDirectory
from processing.sources.source_format import Reading, SourceFormat, combine, each_line, rejection
from processing.sources.split_names import split_of
from processing.sources.text import check_text, malformed, numbers_of


class _NoAnnotations(AnnotationError):
    """A table about images has neither boxes nor points that can be read."""


def find(raw: RawDirectory) -> list[str]:
    """Finds the CSV files that people may take for annotations, sorted.

    Data sets have tables of licences, sizes or addresses of their images too. They are not found.
    """
    found = []
    for path in raw.with_suffix(".csv", ".tsv"):
        header = None if is_celeba_list(path) else find_header(raw, path)
        if header is not None and header.may_be_annotations:
            found.append(path)
    return found


def read(raw: RawDirectory, paths: list[str]) -> Reading:
    """Reads CSV files."""
    readings: list[Reading] = []
    for path in paths:
        try:
            readings.append(read_file(raw, path))
        except _NoAnnotations as error:
            # Nothing is lost by leaving it out. If there is nothing else, this note is the answer.
            note = Note(error.reason, path, f"{path}: {error}; left out")
            readings.append(Reading(notes=[note]))
        except AnnotationError as error:
            readings.append(Reading(rejections=[rejection(path, error)]))
    return combine(readings)


FORMAT: Final = SourceFormat(
    name="csv_manifest",
    pattern_description=(
        "CSV: *.csv or *.tsv with a header that names the columns, such as "
        "filename,class,xmin,ymin,xmax,ymax or image,x,y,width,height,label or "
        "image_name,part_0_x,part_0_y,…; or path,x1,y1,x2,y2,class without a header"
    ),
    find=find,
    read=read,
)


def read_file(raw: RawDirectory, path: str) -> Reading:
    """Reads a CSV file.

    Raises:
        AnnotationError: the whole file cannot be used.
    """
    header = find_header(raw, path)
    assert header is not None  # find() has checked it
    if header.roles.image is None and not header.problem:
        header = columns_without_header(raw, path, header)
    _check_header(header)
    table = _Table(raw, path, header)
    rejections = each_line(raw, path, table.read_line)
    if not table.rows and not rejections and header.names:
        raise _NoAnnotations(
            f"line {header.line}: only a header ({header.describe()}), and no rows below it",
            reason="no_boxes",
        )
    reading = dataclasses.replace(table.reading(), rejections=rejections)
    return locate_in_reading(raw, path, reading)


class _Table:
    """The rows of a file while it is read.

    Args:
        raw: the raw directory.
        path: the file.
        header: its columns.
    """

    def __init__(self, raw: RawDirectory, path: str, header: Header) -> None:
        self.raw = raw
        self.path = path
        self.header = header
        self.names = ImageNames(raw, path, usual_layouts(raw, path), header)
        self.rows: list[Row] = []
        self.images_missing_annotations: set[str] = set()
        self._spelling = Spelling()
        # The first fault that spoils the whole file, found while its lines are read.
        self._fault: AnnotationError | None = None

    def read_line(self, number: int, line: str) -> None:
        """Reads one line.

        Raises:
            AnnotationError: the line is malformed.
        """
        header = self.header
        if number == header.line or not line.strip(PADDING) or line.startswith("sep="):
            return
        check_text(line)
        cells = split_cells(line, header.delimiter)
        if same_header(header, cells):
            return
        self._check_score(number, cells)
        written = cell(cells, header.roles.image)
        try:
            image = self.names.find(written)
            self.rows.append(parse(header, cells, number, image, self._spelling))
        except AnnotationError:
            if named_columns(self.raw, cells, [], header.delimiter) is not None:
                shown = header.delimiter.join(cells)
                self._fault = self._fault or malformed(
                    f"line {number}: a second header, {shown}: give each table a file of its own"
                )
            elif self.names.is_image(written):
                with contextlib.suppress(AnnotationError):
                    self.images_missing_annotations.add(self.names.find(written))
            raise

    def _check_score(self, number: int, cells: list[str]) -> None:
        """Notes a confidence other than 1: the table holds predictions."""
        position = self.header.roles.score
        written = cell(cells, position)
        if not written or self._fault is not None:
            return
        numbers = numbers_of([written])
        if numbers is not None and numbers[0] != 1:
            assert position is not None  # it has a cell
            name = self.header.names[position]
            self._fault = AnnotationError(
                f"line {number}: {name} is {written}: predictions are no annotations; remove the "
                "file, or the column if people have checked the boxes",
                reason="predictions",
            )

    def reading(self) -> Reading:
        """Returns the table of all rows, once the file has been read.

        Raises:
            AnnotationError: the rows contradict each other, so the whole file cannot be used.
        """
        header = self.header
        if self._fault is not None:
            raise self._fault
        self._spelling.check()
        boxes = corners_of(header, self.rows)
        rows = check_sizes(header, self.rows, boxes)
        splits = [row.split for row in rows]
        of_file = split_of(self.path) if all(s == UNASSIGNED for s in splits) else UNASSIGNED
        labels: dict[str, int] = {}
        shown = display_names(self.raw) if header.is_open_images else {}
        objects: defaultdict[tuple[str, tuple[int, int], int], list[Instance]] = defaultdict(list)
        for row, box in zip(rows, boxes, strict=True):
            split = of_file if row.split == UNASSIGNED else row.split
            instances = objects[row.image, row.size, split]
            if row.category:
                name = shown.get(row.category, row.category)
                label = labels.setdefault(name, len(labels))
                instance = Instance(label, flags=row.flags, points=row.points, entry=row.number)
                if box is None:
                    instance = dataclasses.replace(instance, flags=row.flags | Flag.NO_BOX)
                else:
                    instance = dataclasses.replace(instance, box=box)
                instances.append(instance)
        annotation_set = AnnotationSet(
            self.path,
            has_names=not labels or any(numbers_of([name]) is None for name in labels),
            details=self._details(),
            keypoint_names=header.points.names,
        )
        table = table_from_rows(
            [
                TableRow(image, found, size, split, normalized=header.is_open_images)
                for (image, size, split), found in objects.items()
            ],
            category_names=list(labels),
            keypoint_names=header.points.names,
            annotation_sets=[annotation_set],
        )
        table = table.with_categories(class_order(self.raw, self.path, labels))
        return Reading(table, images_missing_annotations=self.images_missing_annotations)

    def _details(self) -> str:
        if self.header.names:
            return f"columns {self.header.describe()}"
        return f"no header, the class in column {(self.header.roles.category or 0) + 1}"


def _check_header(header: Header) -> None:
    """Checks that a table can be read.

    Raises:
        AnnotationError: it cannot.
    """
    where = f"line {header.line}"
    if header.kind == "pixels":
        raise AnnotationError(
            f"{where}: the column {header.names[header.roles.image or 0]} holds pixels, not names "
            "of images: write each image to a file, and its name into the column",
            reason="pixels_in_table",
        )
    if header.kind == "via":
        raise _NoAnnotations(
            f"{where}: a table of the VGG Image Annotator: export the project as JSON",
            reason="no_boxes",
        )
    if header.kind == "no_boxes":
        labels = (
            "" if header.roles.category is None else "; labels of images are for classification"
        )
        raise _NoAnnotations(
            f"{where}: the columns {header.describe()} hold neither boxes nor points{labels}; "
            "expected columns such as xmin,ymin,xmax,ymax or x,y,width,height",
            reason="no_boxes",
        )
    if header.problem:
        raise malformed(f"{where}: {header.problem}")
