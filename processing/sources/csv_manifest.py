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
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from processing.core.annotations import Flag, Instance, TableRow, table_from_rows
from processing.core.errors import AnnotationError
from processing.sources.image_search import locate_in_reading
from processing.sources.raw_directory import RawDirectory, folder_of, is_image_name
from processing.sources.source_format import Reading, SourceFormat, each_line, per_file
from processing.sources.split_names import split_of
from processing.sources.text import check_text, malformed, numbers_of, open_text, read_text, size_of

_BOX: Final = ("xmin", "ymin", "xmax", "ymax")
_TENSORFLOW: Final = ("filename", "class", *_BOX)
_RETINANET: Final = ("filename", *_BOX, "class")
_INTEGER: Final = re.compile(r"\d{1,9}", re.ASCII)
_LANDMARK: Final = re.compile(r"part_(\d{1,9})_([xy])", re.ASCII)
_VISIBLE: Final = 2.0
_PADDING: Final = " ,\t\r\n"
"""Characters of an empty line: spreadsheets pad their exports with lines of commas."""
_HEAD_LINES: Final = 10
"""Lines that are searched for a dialect; comments and bad lines may precede the first good one."""


def find(raw: RawDirectory) -> list[str]:
    """Finds the CSV files of the three dialects, sorted."""
    return [path for path in raw.with_suffix(".csv") if _dialect(raw, path)]


def read_file(raw: RawDirectory, path: str) -> Reading:
    """Reads a CSV file."""
    columns = _dialect(raw, path)
    assert columns is not None  # find() has checked it
    if columns.duplicates:
        names = ", ".join(columns.duplicates)
        raise malformed(f"line {columns.header}: two columns are called {names}")
    labels: dict[str, int] = {}
    # By the image's path and declared size.
    objects: defaultdict[tuple[str, tuple[int, int]], list[Instance]] = defaultdict(list)
    images_missing_annotations = set()

    def use(number: int, line: str) -> None:
        if number == columns.header or not line.strip(_PADDING):
            return
        check_text(line)
        cells = _cells(line)
        image = raw.image(folder_of(path), columns.cell(cells, "filename"))
        try:
            found = _instances(number, cells, columns, labels)
        except AnnotationError:
            images_missing_annotations.add((image, ""))
            raise
        size = size_of(columns.cell(cells, "height"), columns.cell(cells, "width"))
        objects[image, size] += found

    rejections = each_line(raw, path, use)
    split = split_of(path)
    rows = [TableRow(image, found, size, split) for (image, size), found in objects.items()]
    table = table_from_rows(rows, category_names=list(labels))
    table = table.with_categories(_class_order(raw, path, labels))
    reading = Reading(table, rejections, images_missing_annotations=images_missing_annotations)
    return locate_in_reading(raw, path, reading)


FORMAT: Final = SourceFormat(
    name="csv_manifest",
    pattern_description=(
        "CSV: *.csv with the columns filename,class,xmin,ymin,xmax,ymax, "
        "or path,x1,y1,x2,y2,class without a header, or image_name,part_0_x,part_0_y,…"
    ),
    find=find,
    read=per_file(read_file),
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
        lines = ((number, line) for number, line in enumerate(file, 1) if line.strip(_PADDING))
        for number, line in itertools.islice(lines, _HEAD_LINES):
            try:
                columns = _columns(_cells(line), number)
            except AnnotationError:
                continue
            if columns is not None:
                return columns
    return None


def _cells(line: str) -> list[str]:
    """Splits a line into cells.

    Raises:
        AnnotationError: a quoted cell does not end, or is too large; reason ``malformed``.
    """
    try:
        return [cell.strip() for cell in next(csv.reader([line], strict=True))]
    except csv.Error as error:
        raise malformed(f"expected cells, found {error} in {line[:80]!r}") from error


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


def _instances(
    number: int, cells: list[str], columns: _Columns, labels: dict[str, int]
) -> list[Instance]:
    """Returns the instance of one line; none for a negative.

    Args:
        number: of the line.
        cells: the line.
        columns: the columns of the file.
        labels: the label of each class name; receives new names.
    """
    needed = 1 + max(*columns.position.values(), *itertools.chain(*columns.landmarks), 0)
    if len(cells) < needed:
        raise malformed(f"expected {needed} cells, found {len(cells)}")
    # A decimal comma splits a number into two cells and shifts all that follow.
    if any(cells[columns.count :]):
        raise malformed(f"expected {columns.count} cells, found {len(cells)}")
    if columns.landmarks:
        points = _points(cells, columns)
        label = labels.setdefault("object", 0)
        return [Instance(label, flags=Flag.NO_BOX, points=points, entry=number)]
    corners = [columns.cell(cells, name) for name in _BOX]
    name = columns.cell(cells, "class")
    if not name and not any(corners):
        return []
    numbers = numbers_of(corners)
    if not name or numbers is None:
        raise malformed(f"expected a class and four numbers, found {name!r} and {corners}")
    left, top, right, bottom = numbers
    label = labels.setdefault(name, len(labels))
    return [Instance(label, (left, top, right, bottom), entry=number)]


def _points(cells: list[str], columns: _Columns) -> list[tuple[float, ...]]:
    points = []
    for part, (x, y) in enumerate(columns.landmarks):
        point = numbers_of([cells[x], cells[y]])
        if point is None:
            raise malformed(f"part {part}: expected x and y, found {(cells[x], cells[y])}")
        points.append((*point, _VISIBLE))
    return points


def _class_order(raw: RawDirectory, path: str, used: Collection[str]) -> list[str]:
    """Returns the class names in the order of a ``name,id`` file that has them all, or sorted."""
    for neighbour in raw.with_suffix(".csv"):
        if folder_of(neighbour) == folder_of(path) and neighbour != path:
            try:
                lines = io.StringIO(read_text(raw, neighbour))
                rows = [_cells(line) for line in lines if line.strip(_PADDING)]
            except AnnotationError:
                # Not a list of classes; if it is a manifest, its own reading reports the error.
                continue
            if rows and all(len(cells) == 2 and _INTEGER.fullmatch(cells[1]) for cells in rows):
                ids = {name: int(number) for name, number in rows}
                if ids.keys() >= set(used):
                    return sorted(ids, key=ids.__getitem__)
    return sorted(used)
