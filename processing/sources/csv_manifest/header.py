"""Finds the header of a CSV table, or the meaning of its cells where it has none."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from processing.core.errors import AnnotationError
from processing.sources.csv_manifest.cells import DELIMITERS, PADDING, split_cells
from processing.sources.csv_manifest.columns import Box, Roles, is_box_name, plain, roles_of
from processing.sources.csv_manifest.points import Points, named, numbered, numbered_only
from processing.sources.paths import is_image_name
from processing.sources.raw_directory import RawDirectory
from processing.sources.text import numbers_of, open_text, read_lines

Kind = Literal["annotations", "no_boxes", "via", "pixels", "masks"]

_HEAD_LINES: Final = 10
"""Lines that are searched for a header; comments and bad lines may precede it."""
_ROWS_SHOWN: Final = 20
"""Rows that show whether a column names images, and whether a category is a name."""
_HEADERLESS_CELLS: Final = 6
_FEWEST_PIXELS: Final = 16

_OPEN_IMAGES: Final = {"imageid", "labelname", "xmin", "xmax", "ymin", "ymax"}
_OPEN_IMAGES_MARKS: Final = {"source", "isoccluded", "istruncated", "isgroupof", "isdepiction"}
_WHEAT: Final = ["imageid", "width", "height", "bbox", "source"]


@dataclass(frozen=True)
class Header:
    """The columns of a table.

    Args:
        names: the header as written; empty without a header.
        count: number of columns.
        delimiter: between cells.
        roles: the meaning of the columns.
        line: number of the header's line; 0 without a header.
        points: the columns of landmarks.
        kind: ``annotations``, or the reason why the table cannot be read.
        problem: a fault of the whole table; empty if there is none.
        is_open_images: whether coordinates are fractions and images named by their id.
        number_columns: how many columns hold numbers in all of the first rows.
    """

    names: tuple[str, ...]
    count: int
    delimiter: str
    roles: Roles
    line: int = 0
    points: Points = field(default_factory=Points)
    kind: Kind = "annotations"
    problem: str = ""
    is_open_images: bool = False
    number_columns: int = 0

    @property
    def box_is_x_y_width_height(self) -> bool:
        """Whether a single column of four numbers is known to hold a corner and the size."""
        return [plain(name) for name in self.names] == _WHEAT

    @property
    def may_be_annotations(self) -> bool:
        """Whether people may take the table for annotations, even if it cannot be read."""
        if self.kind != "no_boxes":
            return self.kind != "masks"
        # Four columns of numbers may be boxes under names that are not known here.
        return self.roles.category is not None or self.number_columns >= len("xyxy")

    def describe(self) -> str:
        """Returns the names of the columns, for messages."""
        return self.delimiter.join(self.names[:12]) + ("…" if len(self.names) > 12 else "")


def find_header(raw: RawDirectory, path: str) -> Header | None:
    """Finds the columns of a file; None if it is no table about images."""
    # Undecodable bytes are replaced here: a file in another encoding shall be found, and then
    # rejected with a reason.
    with open_text(raw, path) as file:
        numbered_lines = ((n, line) for n, line in enumerate(file, 1) if line.strip(PADDING))
        head = list(itertools.islice(numbered_lines, _HEAD_LINES + _ROWS_SHOWN))
    candidates = []
    for delimiter in DELIMITERS:
        header = _find(raw, head, delimiter)
        if header is not None:
            candidates.append(header)
    # Another delimiter than the right one finds fewer columns.
    return max(candidates, key=lambda header: header.count, default=None)


def same_header(header: Header, cells: Sequence[str]) -> bool:
    """Whether a line repeats the header, as in files that were joined."""
    return bool(header.names) and tuple(cells[: header.count]) == header.names


def _find(raw: RawDirectory, head: list[tuple[int, str]], delimiter: str) -> Header | None:
    rows = []
    for number, line in head:
        try:
            rows.append((number, split_cells(line, delimiter)))
        except AnnotationError:
            continue
    for i, (number, cells) in enumerate(rows[:_HEAD_LINES]):
        below = [row for _, row in rows[i + 1 :]]
        header = named_columns(raw, cells, below, delimiter)
        if header is not None:
            return replace(header, line=number)
        with_size = _roles_with_size(cells)
        if with_size is not None:
            return Header((), len(cells), delimiter, with_size)
        if _is_row(cells):
            return _without_header(rows[:i], delimiter)
    return _unknown_rows(rows, delimiter)


def named_columns(
    raw: RawDirectory, cells: Sequence[str], below: list[list[str]], delimiter: str
) -> Header | None:
    """Reads a line as a header; None if it is none, or the table is not about images.

    Args:
        raw: the raw directory.
        cells: the line.
        below: the first rows below it.
        delimiter: between cells.
    """
    names = tuple(cells)
    while names and not names[-1]:
        names = names[:-1]
    if len(names) < 2 or any(is_image_name(name) for name in names):
        return None
    below = [row for row in below if len(row) >= len(names)]
    try:
        points = numbered_only(names)
        if points is None:
            if any(numbers_of([name]) is not None for name in names):
                return None
            points = numbered([plain(name) for name in names])
        roles = roles_of(names, points.used, below)
        problem = ""
    except AnnotationError as error:
        points, roles, problem = Points(), Roles(), str(error)
    if not points.columns:
        of_boxes = {position for position, name in enumerate(names) if is_box_name(name)}
        points = named(names, roles.used | of_boxes, with_box=roles.box is not None)
    image = _image_column(raw, names, roles, below)
    if image is None:
        return None
    roles = replace(roles, image=image)
    header = Header(names, len(names), delimiter, roles, points=points, problem=problem)
    return _judged(raw, header, below)


def _judged(raw: RawDirectory, header: Header, rows: list[list[str]]) -> Header | None:
    """Returns the header with its kind and its problem; None if the table annotates no image."""
    plain_names = {plain(name) for name in header.names}
    image = header.roles.image
    assert image is not None  # checked before
    has_images = any(_names_image(raw, row[image]) for row in rows)
    if any(_is_pixels(row[image]) for row in rows):
        return replace(header, kind="pixels")
    if "regionshapeattributes" in plain_names:
        return replace(header, kind="via")
    if "maskpath" in plain_names and has_images:
        return replace(header, kind="masks")
    if plain(header.names[image]) == "name" and rows and not has_images:
        return None
    if header.roles.box is None and not header.problem:
        if not has_images and (rows or not header.points.columns):
            return None
        if not header.points.columns:
            return replace(header, kind="no_boxes", number_columns=_number_columns(header, rows))
    duplicates = _duplicates(header)
    if duplicates and not header.problem:
        problem = f"two columns are called {', '.join(duplicates)}"
        header = replace(header, problem=problem)
    marks = plain_names & _OPEN_IMAGES_MARKS
    return replace(header, is_open_images=plain_names >= _OPEN_IMAGES and bool(marks))


def _image_column(
    raw: RawDirectory, names: Sequence[str], roles: Roles, rows: list[list[str]]
) -> int | None:
    """Finds the column that names the images, by its cells where its name leaves a doubt."""
    with_images = []
    for position in range(len(names)):
        cells = [row[position] for row in rows if row[position]]
        if cells and all(is_image_name(cell) for cell in cells):
            with_images.append(position)
    named_so = roles.image
    if named_so in with_images or (named_so is not None and not with_images):
        return named_so
    # "image_id" may be a number next to a "file_name", and the first column may have no name.
    free = [position for position in with_images if position not in roles.used - {named_so}]
    if free:
        return free[0]
    for position, name in enumerate(names):
        cells = [row[position] for row in rows if row[position]]
        unknown = position not in roles.used and name != ""
        if unknown and cells and all(_names_image(raw, cell) for cell in cells):
            return position
    return named_so


def _number_columns(header: Header, rows: list[list[str]]) -> int:
    count = 0
    for position in range(header.count):
        cells = [row[position] for row in rows if row[position]]
        if cells and numbers_of(cells) is not None:
            count += 1
    return count


def _names_image(raw: RawDirectory, cell: str) -> bool:
    """Whether a cell is the name of an image, or that of an existing one without its ending."""
    if is_image_name(cell):
        return True
    stem = cell.replace("\\", "/").rpartition("/")[2]
    return stem in raw.images_by_stem


def _is_pixels(cell: str) -> bool:
    words = cell[:400].split()
    return len(words) >= _FEWEST_PIXELS and all(re.fullmatch(r"\d{1,3}", w) for w in words[:-1])


def _duplicates(header: Header) -> list[str]:
    """Returns the names of used columns that other columns have too."""
    names = [name.lower() for name in header.names]
    counts = Counter(names)
    used = dict.fromkeys(names[position] for position in sorted(header.roles.used))
    return [*(name for name in used if counts[name] > 1), *header.points.duplicates]


def _is_row(cells: Sequence[str]) -> bool:
    """Whether a line holds an image, four numbers and a class, as in a file without header."""
    if len(cells) != _HEADERLESS_CELLS or not is_image_name(cells[0]):
        return False
    # Three of four numbers are enough, since this line may be a bad one.
    last = sum(numbers_of([cell]) is not None for cell in cells[1:5]) >= 3
    second = sum(numbers_of([cell]) is not None for cell in cells[2:6]) >= 3
    return last or second or not any(cells[1:])


def _roles_with_size(cells: Sequence[str]) -> Roles | None:
    """Returns the meaning of a row that ends with the width and height of its image, or None.

    Make Sense and SKU-110K write no header. The size in each row is compared with that of the
    image itself, so no other table can be taken for theirs.
    """
    if len(cells) != len(("class", *"xyxy", "image", *"WH")):
        return None
    if numbers_of([*cells[1:5], *cells[6:]]) is None:
        return None
    if is_image_name(cells[5]) and numbers_of(cells[:1]) is None:
        return Roles(5, 0, Box("size", (1, 2, 3, 4)), size=(7, 6))
    if is_image_name(cells[0]) and numbers_of(cells[5:6]) is None:
        return Roles(0, 5, Box("corners", (1, 2, 3, 4)), size=(7, 6))
    return None


def _unknown_rows(rows: list[tuple[int, list[str]]], delimiter: str) -> Header | None:
    """Describes rows of an image and numbers in an order that only a header could explain."""
    for number, cells in rows:
        numbers = [cell for cell in cells if numbers_of([cell]) is not None]
        if is_image_name(cells[0] if cells else "") and len(numbers) >= len("xyxy"):
            problem = (
                f"{delimiter.join(cells[:8])!r}: rows of {len(cells)} cells without a header; "
                "expected path,x1,y1,x2,y2,class, or a header that names the columns"
            )
            return Header((), len(cells), delimiter, Roles(), number, problem=problem)
    return None


def _without_header(before: list[tuple[int, list[str]]], delimiter: str) -> Header:
    """Describes a table of rows only; a line of six names above them is an unknown header."""
    header = Header((), _HEADERLESS_CELLS, delimiter, Roles())
    for number, cells in before:
        texts = [cell for cell in cells if cell and numbers_of([cell]) is None]
        if len(texts) == len(cells) == _HEADERLESS_CELLS and not is_image_name(cells[0]):
            shown = delimiter.join(cells)
            return replace(header, line=number, problem=f"unknown columns {shown}")
    return header


def columns_without_header(raw: RawDirectory, path: str, header: Header) -> Header:
    """Finds out by all rows of a file without header whether the class is second or last.

    Raises:
        AnnotationError: neither, or both, are text; reason ``ambiguous_columns``.
    """
    second_is_class = last_is_class = False
    doubtful = ""
    for line in read_lines(raw, path):
        try:
            cells = split_cells(line, header.delimiter)
        except AnnotationError:
            continue  # the line is rejected when it is read
        if len(cells) != _HEADERLESS_CELLS:
            continue
        is_number = [numbers_of([cell]) is not None for cell in cells]
        if all(is_number[1:]):
            doubtful = doubtful or line.strip()
        elif all(is_number[2:]) and cells[1]:
            second_is_class = True
        elif all(is_number[1:5]) and cells[5]:
            last_is_class = True
    if second_is_class and last_is_class:
        problem = "the class is the second cell of some rows and the last one of others"
    elif doubtful and not second_is_class and not last_is_class:
        problem = (
            f"{doubtful!r}: the second and the last cell are both numbers, so it is unknown which "
            "one is the class"
        )
    elif second_is_class:
        return replace(header, roles=Roles(0, 1, Box("corners", (2, 3, 4, 5))))
    else:
        return replace(header, roles=Roles(0, 5, Box("corners", (1, 2, 3, 4))))
    raise AnnotationError(
        f"{problem}: add a header such as path,x1,y1,x2,y2,class", reason="ambiguous_columns"
    )
