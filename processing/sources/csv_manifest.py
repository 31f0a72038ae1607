"""CSV: one box or one set of landmarks per line, in three dialects known by their first lines.

- TensorFlow: a header with ``filename, class, xmin, ymin, xmax, ymax`` in any order, and optional
  ``width, height``.
- keras-retinanet: no header, ``path,x1,y1,x2,y2,class``. A file of ``name,id`` lines in the same
  folder gives the order of the classes if it names all of them.
- Landmarks: a header with ``image_name, part_0_x, part_0_y, part_1_x, …``. The category is
  ``object``, there are no boxes, and all points are visible (2).

Other tables are not found. Lines before the first line of a dialect, such as comments, are bad
lines. A file with two columns of the same name is rejected. A bad line costs only itself: quoted
cells must end in their line, so that a stray quote cannot swallow the lines that follow.

Coordinates are taken as written, with exclusive far edges. A line with a path and nothing more is a
negative. Categories are sorted by name. Images are looked for in the file's folder, its parent and
the raw directory, each also in ``images/`` and in folders named after a word of the file's name
(``images/train/``); if none of them is there, by basename. The split is a word in the file's name
(``train_labels.csv``), otherwise the name of its folder. Lines with different sizes for one image
are kept here; merging then rejects the image.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from processing.core.annotations import AnnotationTable, Flag, Instance, TableRow, table_from_rows
from processing.core.errors import AnnotationError, Rejection
from processing.sources.image_search import locate, usual_layouts
from processing.sources.raw_directory import RawDirectory, folder_of, is_image_name
from processing.sources.source_format import Reading, SourceFormat, combine, rejection
from processing.sources.split_names import split_of
from processing.sources.text import (
    check_text,
    numbers_of,
    open_text,
    read_lines,
    read_text,
    size_of,
)

_BOX: Final = ("xmin", "ymin", "xmax", "ymax")
_TENSORFLOW: Final = ("filename", "class", *_BOX)
_RETINANET: Final = ("filename", *_BOX, "class")
_INTEGER: Final = re.compile(r"\d{1,9}", re.ASCII)
_LANDMARK: Final = re.compile(r"part_(\d{1,9})_([xy])", re.ASCII)
_VISIBLE: Final = 2.0
_HEAD_LINES: Final = 10
"""Lines that are searched for a dialect; comments and bad lines may precede the first good one."""


def find(raw: RawDirectory) -> list[str]:
    """Finds the CSV files of the three dialects, sorted."""
    return [path for path in raw.with_suffix(".csv") if _dialect(raw, path)]


def read(raw: RawDirectory, paths: list[str]) -> Reading:
    """Reads CSV files."""
    return combine([_read_file(raw, path) for path in paths])


FORMAT: Final = SourceFormat(
    name="csv_manifest",
    pattern_description=(
        "CSV: *.csv with the columns filename,class,xmin,ymin,xmax,ymax, "
        "or path,x1,y1,x2,y2,class without a header, or image_name,part_0_x,part_0_y,…"
    ),
    find=find,
    read=read,
)


@dataclass
class _Columns:
    """The columns of a file.

    Args:
        position: position of each column, by its name in lower case.
        count: number of all columns.
        header: number of the header's line; 0 without a header.
        landmarks: positions of x and y, for each landmark.
        duplicates: names that two columns have.
    """

    position: dict[str, int]
    count: int
    header: int = 0
    landmarks: list[tuple[int, int]] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)

    def cell(self, cells: Sequence[str], name: str) -> str:
        """Returns the text in the named column; ``""`` if the line has no such column."""
        position = self.position.get(name, len(cells))
        return cells[position].strip() if position < len(cells) else ""


def _dialect(raw: RawDirectory, path: str) -> _Columns | None:
    """Finds the columns of a file; None if it has no known dialect."""
    # Undecodable bytes are replaced here: a file in another encoding shall be found, and then
    # rejected with a reason.
    with open_text(raw, path) as file:
        for number, line in itertools.islice(_lines(file), _HEAD_LINES):
            try:
                columns = _columns(_cells(line), number)
            except AnnotationError:
                continue
            if columns is not None:
                return columns
    return None


def _lines(text: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Yields the number and text of each line that has any content."""
    for number, line in enumerate(text, 1):
        # Spreadsheets pad their exports with lines of commas.
        if line.strip(" ,\t\r\n"):
            yield number, line


def _cells(line: str) -> list[str]:
    """Splits a line into cells.

    Raises:
        AnnotationError: a quoted cell does not end, or is too large; reason ``malformed``.
    """
    try:
        return [cell.strip() for cell in next(csv.reader([line], strict=True))]
    except csv.Error as error:
        found = f"{error} in {line[:80]!r}"
        raise AnnotationError(f"expected cells, found {found}", reason="malformed") from error


def _columns(cells: list[str], number: int) -> _Columns | None:
    """Finds the columns by one line, a header or a row; None if it fits no dialect."""
    names = [name.lower() for name in cells]
    position = {name: i for i, name in enumerate(names)}
    if position.keys() >= set(_TENSORFLOW):
        used = {*_TENSORFLOW, "width", "height"}
        duplicates = _duplicates(filter(used.__contains__, names))
        return _Columns(position, len(cells), number, duplicates=duplicates)
    landmarks, duplicates = _landmark_positions(names)
    if "image_name" in position and landmarks:
        own = {"filename": position["image_name"]}
        return _Columns(own, len(cells), number, landmarks, duplicates)
    if len(cells) == len(_RETINANET) and is_image_name(cells[0]):
        numeric = sum(numbers_of([corner]) is not None for corner in cells[1:5])
        # Three of four numbers are enough, since this line may be a bad one.
        if numeric >= 3 or not any(cells[1:]):
            return _Columns({name: i for i, name in enumerate(_RETINANET)}, len(_RETINANET))
    return None


def _landmark_positions(names: list[str]) -> tuple[list[tuple[int, int]], list[str]]:
    """Returns the positions of x and y of all landmarks, and names that two columns have.

    There are no positions if x or y of a landmark is missing.
    """
    position: dict[tuple[int, str], int] = {}
    used = []
    for i, name in enumerate(names):
        match = _LANDMARK.fullmatch(name)
        if match:
            part, axis = int(match[1]), match[2]
            position[part, axis] = i
            # Landmarks are known by their number: part_1_x and part_01_x are the same column.
            used.append(f"part_{part}_{axis}")
    parts = sorted({part for part, _ in position})
    if len(position) != 2 * len(parts):
        return [], []
    return [(position[part, "x"], position[part, "y"]) for part in parts], _duplicates(used)


def _duplicates(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


@dataclass
class _Lines:
    """The objects that the lines of one file describe.

    Args:
        folder: prefix of the file's folder.
        columns: the columns of the file.
        objects: class names and instances, by the image's path and declared size.
        images_missing_annotations: paths of images that lost a line.
    """

    folder: str
    columns: _Columns
    objects: dict[tuple[str, tuple[int, int]], list[tuple[str, Instance]]] = field(
        default_factory=dict
    )
    images_missing_annotations: set[str] = field(default_factory=set)

    def add(self, raw: RawDirectory, cells: list[str]) -> None:
        """Adds the object of one line.

        Raises:
            AnnotationError: the line cannot be used. If it names an image, the image is recorded as
                missing an annotation.
        """
        path = raw.inside(self.folder, self.columns.cell(cells, "filename"))
        try:
            found = _object(cells, self.columns)
        except AnnotationError:
            self.images_missing_annotations.add(path)
            raise
        size = size_of(self.columns.cell(cells, "height"), self.columns.cell(cells, "width"))
        objects = self.objects.setdefault((path, size), [])
        if found is not None:
            objects.append(found)

    def image_paths(self) -> list[str]:
        """Lists all images, each one once, in the order of the lines."""
        paths = dict.fromkeys(path for path, _ in self.objects)
        return list(paths | dict.fromkeys(self.images_missing_annotations))


def _read_file(raw: RawDirectory, path: str) -> Reading:
    columns = _dialect(raw, path)
    assert columns is not None  # find() has checked it
    if columns.duplicates:
        names = ", ".join(columns.duplicates)
        message = f"line {columns.header}: two columns are called {names}"
        return Reading(rejections=[rejection(path, AnnotationError(message, reason="malformed"))])
    read = _Lines(folder_of(path), columns)
    rejections = _read_lines(raw, path, read)
    image_paths = read.image_paths()
    located = locate(raw, usual_layouts(raw, path), image_paths)
    places = dict(zip(image_paths, located.paths, strict=True))
    return Reading(
        _table(read, places, _class_orders(raw, path), split_of(path)),
        rejections,
        images_missing_annotations=frozenset(
            (places[name], "") for name in read.images_missing_annotations
        ),
        candidates_by_name=located.candidates_by_name,
    )


def _read_lines(raw: RawDirectory, path: str, read: _Lines) -> list[Rejection]:
    """Adds all lines of a file to `read`, and returns the rejected ones."""
    rejections: list[Rejection] = []
    try:
        for number, line in _lines(read_lines(raw, path)):
            if number == read.columns.header:
                continue
            try:
                check_text(line)
                read.add(raw, _cells(line))
            except AnnotationError as error:
                rejections.append(rejection(path, error, line=number))
    except AnnotationError as error:
        rejections.append(rejection(path, error))
    return rejections


def _object(cells: list[str], columns: _Columns) -> tuple[str, Instance] | None:
    """Returns the class name and instance of one line; None for a negative."""
    needed = 1 + max(*columns.position.values(), *itertools.chain(*columns.landmarks), 0)
    if len(cells) < needed:
        raise AnnotationError(f"expected {needed} cells, found {len(cells)}", reason="malformed")
    # A decimal comma splits a number into two cells and shifts all that follow.
    if any(cells[columns.count :]):
        raise AnnotationError(
            f"expected {columns.count} cells, found {len(cells)}", reason="malformed"
        )
    return _landmarks(cells, columns) if columns.landmarks else _box(cells, columns)


def _box(cells: list[str], columns: _Columns) -> tuple[str, Instance] | None:
    corners = [columns.cell(cells, name) for name in _BOX]
    name = columns.cell(cells, "class")
    if not name and not any(corners):
        return None
    numbers = numbers_of(corners)
    if not name or numbers is None:
        raise AnnotationError(
            f"expected a class and four numbers, found {name!r} and {corners}", reason="malformed"
        )
    left, top, right, bottom = numbers
    # The label follows in _table, when all class names are known.
    return name, Instance(0, (left, top, right, bottom))


def _landmarks(cells: list[str], columns: _Columns) -> tuple[str, Instance]:
    points = []
    for part, (x, y) in enumerate(columns.landmarks):
        point = numbers_of([cells[x], cells[y]])
        if point is None:
            raise AnnotationError(
                f"part {part}: expected x and y, found {(cells[x], cells[y])}", reason="malformed"
            )
        points.append((*point, _VISIBLE))
    return "object", Instance(0, flags=Flag.NO_BOX, points=points)


def _class_orders(raw: RawDirectory, path: str) -> list[dict[str, int]]:
    """Reads the files of ``name,id`` lines in a file's folder: the id of each class name."""
    tables = []
    for neighbour in raw.with_suffix(".csv"):
        if folder_of(neighbour) == folder_of(path) and neighbour != path:
            try:
                text = read_text(raw, neighbour)
                lines = [_cells(line) for _, line in _lines(io.StringIO(text))]
            except AnnotationError:
                # Not a list of classes; if it is a manifest, its own reading reports the error.
                continue
            if lines and all(len(cells) == 2 and _INTEGER.fullmatch(cells[1]) for cells in lines):
                tables.append({name: int(number) for name, number in lines})
    return tables


def _table(
    read: _Lines, places: dict[str, str], orders: list[dict[str, int]], split: int
) -> AnnotationTable:
    used = {name for objects in read.objects.values() for name, _ in objects}
    names = sorted(used)
    for order in orders:
        if order.keys() >= used:
            names = sorted(order, key=order.__getitem__)
            break
    label = {name: i for i, name in enumerate(names)}
    rows = []
    for (path, size), objects in read.objects.items():
        instances = [replace(instance, label=label[name]) for name, instance in objects]
        rows.append(TableRow(places[path], instances, size, split))
    return table_from_rows(rows, category_names=names)
