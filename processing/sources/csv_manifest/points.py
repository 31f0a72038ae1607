"""Which columns of a CSV table hold landmarks: pairs of x and y, by their names.

Numbered pairs are ordered by their number (``part_0_x``, ``p1x``, ``x1``, ``x_1``, ``lm_x_1``),
named pairs by their column (``left_eye_x``, ``nose.x``). Columns that are called only by a number
(``0, 1, 2, …``) are x and y in turns.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from processing.sources.text import malformed

# Each pattern gives a name or number and an axis; v is a visibility.
_NUMBERED: Final = (
    re.compile(r"(?P<prefix>[a-z]*)(?P<number>\d{1,9})(?P<axis>[xyv])", re.ASCII),
    re.compile(r"(?P<prefix>[a-z]*?)(?P<axis>[xyv])(?P<number>\d{1,9})", re.ASCII),
)
_NAMED: Final = re.compile(r"(?P<name>.*\w)[\s_.:-](?P<axis>[xyv])", re.IGNORECASE)
_FEWEST_NUMBERED: Final = 3
"""``x1, y1, x2, y2`` is a box; only a third point shows that all of them are points."""
_FEWEST_NAMED: Final = 2
"""A single pair next to a box, such as ``gps_x, gps_y``, need not be a point of the image."""


@dataclass(frozen=True)
class Points:
    """The columns of landmarks.

    Args:
        columns: positions of x, y and visibility of each point; visibility may be None.
        names: of the points; empty if they are numbered.
        duplicates: names that two columns have.
    """

    columns: tuple[tuple[int, int, int | None], ...] = ()
    names: tuple[str, ...] = ()
    duplicates: tuple[str, ...] = ()

    @property
    def used(self) -> set[int]:
        """Positions of all columns of points."""
        return {position for point in self.columns for position in point if position is not None}


@dataclass
class _Axes:
    """The columns of one point by their axis."""

    position: dict[str, int] = field(default_factory=dict)


def numbered_only(names: Sequence[str]) -> Points | None:
    """Finds columns that are called 0, 1, 2, … or 1, 2, 3, …, after at most one other column.

    Returns:
        The points; None if the columns are called otherwise.

    Raises:
        AnnotationError: their count is odd; reason ``malformed``.
    """
    numbers = [int(name) if re.fullmatch(r"\d{1,9}", name) else None for name in names[1:]]
    if len(numbers) < 2 or numbers[0] not in (0, 1) or re.fullmatch(r"\d+", names[0]):
        return None
    if numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        return None
    if len(numbers) % 2:
        raise malformed(f"{len(numbers)} numbered columns: expected pairs of x and y")
    return Points(tuple((i, i + 1, None) for i in range(1, len(names), 2)))


def numbered(names: Sequence[str]) -> Points:
    """Finds points that are known by their number; there are none if x or y of one is missing.

    Args:
        names: the header, in lower case and without marks.
    """
    for pattern in _NUMBERED:
        by_prefix: dict[str, dict[int, _Axes]] = {}
        used: dict[str, list[str]] = {}
        for position, name in enumerate(names):
            match = pattern.fullmatch(name)
            if match:
                number, axis, prefix = int(match["number"]), match["axis"], match["prefix"]
                axes = by_prefix.setdefault(prefix, {}).setdefault(number, _Axes())
                axes.position[axis] = position
                # part_1_x and part_01_x are the same column.
                used.setdefault(prefix, []).append(f"{prefix}_{number}_{axis}".lstrip("_"))
        for prefix, points in by_prefix.items():
            fewest = 1 if pattern is _NUMBERED[0] and prefix else _FEWEST_NUMBERED
            ordered = [points[number] for number in sorted(points)]
            if len(ordered) >= fewest and all({"x", "y"} <= set(p.position) for p in ordered):
                return Points(_columns(ordered), (), _repeated(used[prefix]))
    return Points()


def named(names: Sequence[str], taken: set[int], *, with_box: bool) -> Points:
    """Finds points that are known by a name.

    Args:
        names: the header.
        taken: positions of columns with another meaning, also that of a box.
        with_box: whether the table has boxes too.
    """
    points: dict[str, _Axes] = {}
    used = []
    for position, name in enumerate(names):
        match = _NAMED.fullmatch(name)
        if match and position not in taken:
            points.setdefault(match["name"], _Axes()).position[match["axis"].lower()] = position
            used.append(name)
    complete = {name: axes for name, axes in points.items() if {"x", "y"} <= set(axes.position)}
    if with_box and len(complete) < _FEWEST_NAMED:
        return Points()
    return Points(_columns(list(complete.values())), tuple(complete), _repeated(used))


def _columns(points: Sequence[_Axes]) -> tuple[tuple[int, int, int | None], ...]:
    return tuple(
        (axes.position["x"], axes.position["y"], axes.position.get("v")) for axes in points
    )


def _repeated(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name, count in Counter(names).items() if count > 1)
