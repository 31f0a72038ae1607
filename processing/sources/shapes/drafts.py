"""Drafts of instances with named categories and points, and the table that they become.

A table needs the numbers of its categories and the order of its points, and a reader knows both
only after the last image. Categories are sorted by name. Points are sorted by name too, with
numbers in names in the order of their values; a point that an instance lacks gets visibility 0.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from processing.core.annotation_sets import AnnotationSet
from processing.core.annotations import (
    NOT_DECLARED,
    UNASSIGNED,
    AnnotationTable,
    Flag,
    Instance,
    TableRow,
    table_from_rows,
)
from processing.sources.shapes.outlines import Box
from processing.sources.text import malformed

VISIBLE: Final = 2.0
HIDDEN: Final = 1.0
NOT_LABELLED: Final = 0.0

Point = tuple[float, float, float]
"""x, y, visibility."""

UNNAMED_CATEGORY: Final = "object"
"""The category where an annotator gave no class."""


@dataclass(frozen=True, slots=True)
class Draft:
    """One annotated object.

    Args:
        category: name of its category.
        entry: see `Instance.entry`.
        box: None for an object of which only points are annotated.
        flags: see `Flag`.
        points: by name; or a list, where the tool numbers them only by their order.
    """

    category: str
    entry: int
    box: Box | None = None
    flags: Flag = Flag.NONE
    points: Mapping[str, Point] | Sequence[Point] = ()


@dataclass
class DraftTable:
    """Collects images and makes a table of them.

    Args:
        rows: the rows so far. Their instances have positions in `categories` as labels, and their
            own points only.
        categories: position of each category.
        point_names: the names of the points of each instance with points, in their order.
    """

    rows: list[TableRow] = field(default_factory=list)
    categories: dict[str, int] = field(default_factory=dict)
    point_names: list[tuple[str, ...]] = field(default_factory=list)
    _same_names: dict[tuple[str, ...], tuple[str, ...]] = field(default_factory=dict)

    def add(
        self,
        image: str,
        drafts: Iterable[Draft],
        *,
        size: tuple[int, int] = NOT_DECLARED,
        split: int = UNASSIGNED,
        set_id: int = 0,
        annotation_file: str = "",
    ) -> None:
        """Adds one image; arguments as in `TableRow`."""
        instances = [self._instance(draft) for draft in drafts]
        row = TableRow(
            image, instances, size, split, set_id=set_id, annotation_file=annotation_file
        )
        self.rows.append(row)

    def _instance(self, draft: Draft) -> Instance:
        label = self.categories.setdefault(draft.category, len(self.categories))
        points: NDArray[Any] | tuple[()] = ()
        if len(draft.points):
            named = isinstance(draft.points, Mapping)
            names = tuple(draft.points) if isinstance(draft.points, Mapping) else ()
            values = list(draft.points.values()) if named else list(draft.points)  # type: ignore[union-attr]  # a Mapping if named
            points = np.array(values, dtype=np.float64)
            self.point_names.append(self._same_names.setdefault(names, names))
        if draft.box is None:
            return Instance(
                label, flags=draft.flags | Flag.NO_BOX, points=points, entry=draft.entry
            )
        return Instance(label, draft.box, draft.flags, points, draft.entry)

    def table(self, sets: Sequence[AnnotationSet]) -> AnnotationTable:
        """Makes the table.

        Args:
            sets: the `annotation_sets`.

        Raises:
            AnnotationError: the sets of points do not fit together; reason ``malformed``.
        """
        names = self._all_point_names()
        rows = self.rows
        if names:
            position = {name: i for i, name in enumerate(names)}
            own_names = iter(self.point_names)
            rows = []
            for row in self.rows:
                instances = []
                for instance in row.instances:
                    if len(instance.points):
                        full = np.zeros((len(names), 3))
                        full[[position[name] for name in next(own_names)]] = instance.points
                        instance = dataclasses.replace(instance, points=full)
                    instances.append(instance)
                rows.append(dataclasses.replace(row, instances=instances))
        table = table_from_rows(
            rows,
            category_names=list(self.categories),
            keypoint_names=names,
            annotation_sets=[dataclasses.replace(one, keypoint_names=tuple(names)) for one in sets],
        )
        return table.with_categories(sorted(self.categories))

    def _all_point_names(self) -> list[str]:
        """Returns the names of all points in order; none if the points have only numbers."""
        distinct = set(self._same_names)
        if () not in distinct:
            return sorted({name for names in distinct for name in names}, key=natural_order)
        if len(distinct) > 1:
            named = next(names for names in distinct if names)
            raise malformed(
                f"some sets of points have names ({', '.join(named[:5])}) and others have none, so "
                "it is unknown which points are the same"
            )
        return []


def natural_order(name: str) -> tuple[tuple[int, int, str], ...]:
    """Returns a key that sorts the numbers in names by their value: ``p2`` before ``p10``."""
    key = []
    for part in re.findall(r"[0-9]+|[^0-9]+", name):
        # Numbers of different lengths may be equal; the text keeps their order defined.
        number = int(part) if part.isdecimal() else 0
        key.append((0 if part.isdecimal() else 1, number, part))
    return tuple(key)
