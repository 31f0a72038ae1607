"""Turns the cells of one row of a CSV table into a category, a box and points."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from processing.core.annotations import NOT_DECLARED, UNASSIGNED, Flag
from processing.core.errors import AnnotationError
from processing.sources.split_names import split_of_word
from processing.sources.text import malformed, number_of, numbers_of, size_of

if TYPE_CHECKING:
    from processing.sources.csv_manifest.header import Header

Four = tuple[float, float, float, float]
Point = tuple[float, float, float]

_DECIMAL_COMMA: Final = re.compile(r"[-+]?\d+,\d+(?:[eE][-+]?\d+)?", re.ASCII)
_TRUE: Final = frozenset({"1", "1.0", "true", "yes", "t"})
_VISIBLE: Final = 2.0
_NOT_LABELLED: Final = (0.0, 0.0, 0.0)
ONLY_CATEGORY: Final = "object"
"""The category of tables that name none."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row.

    Args:
        number: of its line.
        image: the image's path relative to the raw directory.
        category: its category; empty for an image without objects.
        numbers: the four numbers of the box as written; None without a box.
        points: x, y, visibility of each point.
        size: height and width that the row declares for the image.
        split: position in `SPLITS`, or `UNASSIGNED`.
        flags: of the object.
    """

    number: int
    image: str
    category: str
    numbers: Four | None
    points: list[Point]
    size: tuple[int, int]
    split: int
    flags: Flag


@dataclass
class Spelling:
    """How the numbers of a table are written.

    Args:
        comma: a cell with a decimal comma.
        point: a cell with a decimal point.
        visibilities: all that occur.
    """

    comma: str = ""
    point: str = ""
    visibilities: set[float] = field(default_factory=set)

    def numbers(self, cells: Sequence[str], delimiter: str) -> list[float] | None:
        """Parses all cells as numbers; None if one of them is no number."""
        if delimiter == ",":
            return numbers_of(cells)
        plain = []
        for cell in cells:
            if _DECIMAL_COMMA.fullmatch(cell):
                self.comma = cell
                cell = cell.replace(",", ".")
            elif "." in cell:
                self.point = cell
            plain.append(cell)
        return numbers_of(plain)

    def check(self) -> None:
        """Checks that the numbers of the whole table have one meaning.

        Raises:
            AnnotationError: decimal commas and points both occur, or no visibility is 2; reason
                ``malformed``.
        """
        if self.visibilities and _VISIBLE not in self.visibilities:
            raise malformed(
                "its visibilities are only 0 and 1: it is unknown whether 1 means visible, or "
                "hidden as in COCO; write 2 for visible points"
            )
        if self.comma and self.point:
            raise malformed(
                f"{self.comma!r} has a decimal comma and {self.point!r} a decimal point: it is "
                "unknown which of them separates thousands; write all numbers alike"
            )


def cell(cells: Sequence[str], position: int | None) -> str:
    """Returns the text of a column; ``""`` if the table has no such column."""
    return "" if position is None or position >= len(cells) else cells[position]


def check_count(header: Header, cells: Sequence[str]) -> None:
    """Checks that a row has as many cells as the table has columns; empty ones at its end are free.

    Raises:
        AnnotationError: it has more or fewer; reason ``malformed``. A decimal comma splits a number
            into two cells and shifts all that follow; a lost cell shifts them the other way.
    """
    if len(cells) < header.count or any(cells[header.count :]):
        raise malformed(f"expected {header.count} cells, found {len(cells)}")


def parse(header: Header, cells: Sequence[str], number: int, image: str, spelling: Spelling) -> Row:
    """Reads one row.

    Args:
        header: the columns of the table.
        cells: the row.
        number: of its line.
        image: the image's path.
        spelling: of the table's numbers.

    Raises:
        AnnotationError: the row is malformed.
    """
    check_count(header, cells)
    roles = header.roles
    size = NOT_DECLARED
    if roles.size is not None:
        size = size_of(cell(cells, roles.size[0]), cell(cells, roles.size[1]))
    split = UNASSIGNED if roles.split is None else split_of_word(cell(cells, roles.split))
    flags = Flag.NONE
    for position, flag in roles.flags:
        if cell(cells, position).lower() in _TRUE:
            flags |= flag
    category = cell(cells, roles.category)
    box = [cell(cells, position) for position in roles.box.positions] if roles.box else []
    points: list[Point] = []
    if header.points.columns:
        points = _points(header, cells, spelling)
        if not points and not any(box):
            raise malformed(f"none of its {len(header.points.columns)} points is labelled")
    elif not category and not any(box):
        return Row(number, image, "", None, [], size, split, flags)
    numbers = None
    if any(box) or not points:
        numbers = _four_numbers(box, header, spelling)
        if numbers is None:
            raise _incomplete(header, category, box)
    if roles.category is not None and not category:
        raise _incomplete(header, category, box)
    return Row(number, image, category or ONLY_CATEGORY, numbers, points, size, split, flags)


def _incomplete(header: Header, category: str, box: list[str]) -> AnnotationError:
    if header.roles.category is None and header.names:
        return malformed(f"expected four numbers, found {box}")
    return malformed(f"expected a class and four numbers, found {category!r} and {box}")


def _four_numbers(box: list[str], header: Header, spelling: Spelling) -> Four | None:
    """Parses the four numbers of a box as written; None if there are not four."""
    delimiter = header.delimiter
    if len(box) == 1:
        # "[834.0, 222.0, 56.0, 36.0]": the commas are no decimal commas.
        box, delimiter = box[0].strip("[]() ").replace(",", " ").split(), ","
    numbers = spelling.numbers(box, delimiter)
    if numbers is None or len(numbers) != len("xyxy"):
        return None
    first, second, third, fourth = numbers
    if header.is_open_images and not all(0 <= number <= 1 for number in numbers):
        raise malformed(f"expected fractions of the image's size as OpenImages has, found {box}")
    return first, second, third, fourth


def _points(header: Header, cells: Sequence[str], spelling: Spelling) -> list[Point]:
    """Reads the points of a row; none if not one of them is labelled."""
    points = []
    for i, (x, y, v) in enumerate(header.points.columns):
        # An empty cell is a point that nobody labelled, as NaN is.
        written = [cells[x] or "nan", cells[y] or "nan"]
        place = spelling.numbers(written, header.delimiter)
        if place is None:
            name = header.points.names[i] if header.points.names else f"part {i}"
            raise malformed(f"{name}: expected x and y, found {(cells[x], cells[y])}")
        visibility = _VISIBLE if v is None else _visibility(cells[v], spelling)
        missing = any(map(math.isnan, place)) or place == [-1, -1] or visibility == 0
        points.append(_NOT_LABELLED if missing else (place[0], place[1], visibility))
    return points if any(point[2] for point in points) else []


def _visibility(written: str, spelling: Spelling) -> float:
    """Parses a visibility: 0 not labelled, 1 hidden, 2 visible."""
    try:
        visibility = number_of(written)
    except ValueError:
        visibility = math.nan
    if visibility not in (0, 1, _VISIBLE):
        raise malformed(f"expected a visibility of 0, 1 or 2, found {written!r}")
    spelling.visibilities.add(visibility)
    return visibility
