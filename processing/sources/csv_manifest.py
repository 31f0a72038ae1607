"""CSV: one box or one set of landmarks a line, in three dialects told apart by their first lines.

- TensorFlow: a header with ``filename, class, xmin, ymin, xmax, ymax`` in any order, ``width,
  height`` if known.
- keras-retinanet: no header, ``path,x1,y1,x2,y2,class``. A file of ``name,id`` lines in the same
  folder that names every class gives their order.
- Landmarks: a header with ``image_name, part_0_x, part_0_y, part_1_x, …``; category ``object``, no
  boxes, all points visible (2).

What stands before the first line that is of a dialect is a bad line, such as a comment. A file
with two columns of one name is rejected.

Coordinates are taken as written, with exclusive far edges. A line that has a path and nothing else
is a negative. Categories are sorted by name. Images are looked for beside the file, in its parent
and the raw directory, there also in ``images/`` and in folders called after a word of the file's
name (``images/train/``); if none is there, by basename. A line is a line: a quoted cell may not
hold its end, so that a quote too many costs one line. Sizes that contradict each other are left
to the merging of rows, which rejects the image. The split is a word in the file's name
(``train_labels.csv``), else its folder's name. Bad lines are rejected alone; tables of other kinds
are not found.
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
_WHOLE: Final = re.compile(r"\d{1,9}", re.ASCII)
_LANDMARK: Final = re.compile(r"part_(\d{1,9})_([xy])", re.ASCII)
_VISIBLE: Final = 2.0
_LINES_LOOKED_AT: Final = 10


def find(raw: RawDirectory) -> list[str]:
    """CSV files one of whose first lines is one of a dialect, sorted."""
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
    """Where a dialect keeps what.

    Args:
        position: by name, in lower case.
        count: of all columns.
        header: number of the line that says so; 0 if none does.
        landmarks: where x and y of each are.
        twice: names that the header has twice.
    """

    position: dict[str, int]
    count: int
    header: int = 0
    landmarks: list[tuple[int, int]] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)

    def cell(self, cells: Sequence[str], name: str) -> str:
        """The text in the named column; empty if the line has no such column."""
        position = self.position.get(name, len(cells))
        return cells[position].strip() if position < len(cells) else ""


def _dialect(raw: RawDirectory, path: str) -> _Columns | None:
    """What the first line of a dialect says of the file; those before it may be bad ones."""
    # Any bytes: a file in another encoding shall be found, and then rejected with a reason.
    with open_text(raw, path) as file:
        for number, line in itertools.islice(_lines(file), _LINES_LOOKED_AT):
            try:
                columns = _columns(_cells(line), number)
            except AnnotationError:
                continue
            if columns is not None:
                return columns
    return None


def _lines(text: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Number and text of each line that has cells."""
    return ((number, line) for number, line in enumerate(text, 1) if line.strip(" ,\t\r\n"))


def _cells(line: str) -> list[str]:
    """The cells of one line.

    Raises:
        AnnotationError: a cell without end, or too large for a table; reason ``malformed``.
    """
    try:
        return [cell.strip() for cell in next(csv.reader([line], strict=True))]
    except csv.Error as error:
        found = f"{error} in {line[:80]!r}"
        raise AnnotationError(f"expected cells, found {found}", reason="malformed") from error


def _columns(cells: list[str], number: int) -> _Columns | None:
    """The dialect that a line shows, as a header or a row; None for neither."""
    names = [name.lower() for name in cells]
    position = {name: i for i, name in enumerate(names)}
    if position.keys() >= set(_TENSORFLOW):
        used = {*_TENSORFLOW, "width", "height"}
        twice = _twice(name for name in names if name in used)
        return _Columns(position, len(cells), number, twice=twice)
    found = [(i, _LANDMARK.fullmatch(name)) for i, name in enumerate(names)]
    of_axes = [(int(match[1]), match[2], i) for i, match in found if match]
    at = {(part, axis): i for part, axis, i in of_axes}
    parts = sorted({part for part, _ in at})
    if "image_name" in position and parts and len(at) == 2 * len(parts):
        twice = _twice(f"part_{part}_{axis}" for part, axis, _ in of_axes)
        landmarks = [(at[part, "x"], at[part, "y"]) for part in parts]
        own = {"filename": position["image_name"]}
        return _Columns(own, len(cells), number, landmarks, twice)
    if len(cells) == len(_RETINANET) and is_image_name(cells[0]):
        numeric = sum(numbers_of([corner]) is not None for corner in cells[1:5])
        # Three of four, since the line may be a bad one.
        if numeric >= 3 or not any(cells[1:]):
            return _Columns({name: i for i, name in enumerate(_RETINANET)}, len(_RETINANET))
    return None


def _twice(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


@dataclass
class _Lines:
    """What the lines of one file say, by the image's path seen from the file's folder."""

    own: str
    columns: _Columns
    objects: dict[tuple[str, tuple[int, int]], list[tuple[str, Instance]]] = field(
        default_factory=dict
    )
    images_missing_annotations: set[str] = field(default_factory=set)

    def add(self, raw: RawDirectory, cells: list[str]) -> None:
        """Reads one line.

        Raises:
            AnnotationError: it cannot be used; the image that it names is then incomplete.
        """
        path = raw.inside(self.own, self.columns.cell(cells, "filename"))
        try:
            found = _object(cells, self.columns)
        except AnnotationError:
            self.images_missing_annotations.add(path)
            raise
        size = size_of(self.columns.cell(cells, "height"), self.columns.cell(cells, "width"))
        self.objects.setdefault((path, size), []).extend([] if found is None else [found])


def _read_file(raw: RawDirectory, path: str) -> Reading:
    columns = _dialect(raw, path)
    assert columns is not None  # find() saw to it
    if columns.twice:
        said = f"line {columns.header}: two columns are called {', '.join(columns.twice)}"
        return Reading(rejections=[rejection(path, AnnotationError(said, reason="malformed"))])
    read = _Lines(folder_of(path), columns)
    rejections: list[Rejection] = []
    try:
        for number, line in _lines(read_lines(raw, path)):
            if number == columns.header:
                continue
            try:
                check_text(line)
                read.add(raw, _cells(line))
            except AnnotationError as error:
                rejections.append(rejection(path, error, line=number))
    except AnnotationError as error:
        rejections.append(rejection(path, error))
    listed = list(
        dict.fromkeys([*(name for name, _ in read.objects), *read.images_missing_annotations])
    )
    located = locate(raw, usual_layouts(raw, path), listed)
    places = dict(zip(listed, located.paths, strict=True))
    return Reading(
        _table(read, places, _class_order(raw, path), split_of(path)),
        rejections,
        images_missing_annotations=frozenset(
            (places[name], "") for name in read.images_missing_annotations
        ),
        candidates_by_name=located.candidates_by_name,
    )


def _object(cells: list[str], columns: _Columns) -> tuple[str, Instance] | None:
    needed = 1 + max(*columns.position.values(), *itertools.chain(*columns.landmarks), 0)
    if len(cells) < needed:
        raise AnnotationError(f"expected {needed} cells, found {len(cells)}", reason="malformed")
    if any(cells[columns.count :]):  # a decimal comma shifts all that follows
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
    return name, Instance(0, (left, top, right, bottom))


def _landmarks(cells: list[str], columns: _Columns) -> tuple[str, Instance]:
    written = [(cells[x], cells[y]) for x, y in columns.landmarks]
    points = [numbers_of(pair) for pair in written]
    whole = [(*point, _VISIBLE) for point in points if point is not None]
    if len(whole) < len(points):
        part = points.index(None)
        raise AnnotationError(
            f"part {part}: expected x and y, found {written[part]}", reason="malformed"
        )
    return "object", Instance(0, flags=Flag.NO_BOX, points=whole)


def _class_order(raw: RawDirectory, path: str) -> list[dict[str, int]]:
    """Tables of class and number in the file's folder."""
    tables = []
    for beside in raw.with_suffix(".csv"):
        if folder_of(beside) == folder_of(path) and beside != path:
            try:
                lines = [_cells(line) for _, line in _lines(io.StringIO(read_text(raw, beside)))]
            except AnnotationError:
                continue
            if lines and all(len(cells) == 2 and _WHOLE.fullmatch(cells[1]) for cells in lines):
                tables.append({name: int(number) for name, number in lines})
    return tables


def _table(
    read: _Lines, places: dict[str, str], orders: list[dict[str, int]], split: int
) -> AnnotationTable:
    used = {name for objects in read.objects.values() for name, _ in objects}
    order = next((table for table in orders if table.keys() >= used), None)
    names = sorted(used) if order is None else sorted(order, key=order.__getitem__)
    label = {name: i for i, name in enumerate(names)}
    rows = [
        TableRow(
            places[path],
            [replace(instance, label=label[name]) for name, instance in objects],
            size,
            split,
        )
        for (path, size), objects in read.objects.items()
    ]
    return table_from_rows(rows, category_names=names)
