"""Decides which points, drawn one by one, belong to which object.

- Points with the number of a group belong to the only box of that group. Without a box, the points
  of a group are one object.
- Boxes of one group and category are the parts of one object and become one box around them all
  (note ``grouped_shapes``), as in the tools' own exporters.
- Points without a group belong to the only box that they lie in (note ``points_in_box``). In an
  image without boxes, all points together are one object, if their names differ.
- A skeleton, or a list of points, is one object. It belongs to the only box of its group; without a
  group to the only box of its category that all its points lie in, if there is one.
- If several images repeat a name, and more than one in ten, the names are classes of small objects,
  not landmarks of one.
- All other points are rejected: it is unknown which object they belong to.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from processing.core.annotations import Flag
from processing.core.errors import AnnotationError, Note
from processing.sources.shapes.drafts import UNNAMED_CATEGORY, VISIBLE, Draft, Point
from processing.sources.shapes.outlines import Box, around
from processing.sources.text import malformed

Group = Hashable | None


@dataclass(frozen=True, slots=True)
class BoxShape:
    """The bounding box of one shape.

    Args:
        category: name of its class.
        entry: number of the shape.
        box: x1, y1, x2, y2.
        group: the group that the annotator gave it, or None.
        flags: see `Flag`.
    """

    category: str
    entry: int
    box: Box
    group: Group = None
    flags: Flag = Flag.NONE


@dataclass(frozen=True, slots=True)
class PointShape:
    """One named point.

    Args:
        name: the annotator's label.
        entry: number of the shape.
        x: in pixels.
        y: in pixels.
        group: the group that the annotator gave it, or None.
        visibility: 1 hidden, 2 visible.
    """

    name: str
    entry: int
    x: float
    y: float
    group: Group = None
    visibility: float = VISIBLE


@dataclass(frozen=True, slots=True)
class PointSet:
    """All points of one object, drawn as one shape.

    Args:
        category: name of its class.
        entry: number of the shape.
        points: see `Draft.points`.
        group: the group that the annotator gave it, or None.
        flags: see `Flag`.
    """

    category: str
    entry: int
    points: Mapping[str, Point] | Sequence[Point]
    group: Group = None
    flags: Flag = Flag.NONE

    def is_named(self) -> bool:
        """Whether the points have names, not only an order."""
        return isinstance(self.points, Mapping)

    def lies_in(self, box: Box) -> bool:
        """Whether all its labelled points lie in a box."""
        left, top, right, bottom = box
        points = self.points.values() if isinstance(self.points, Mapping) else self.points
        return all(left <= x <= right and top <= y <= bottom for x, y, seen in points if seen)


@dataclass
class ImageShapes:
    """The shapes of one image, in the order of the file.

    Args:
        boxes: shapes with an outline.
        points: points that were drawn one by one.
        sets: shapes that hold all points of one object.
        failures: number and error of each unusable shape.
    """

    boxes: list[BoxShape] = field(default_factory=list)
    points: list[PointShape] = field(default_factory=list)
    sets: list[PointSet] = field(default_factory=list)
    failures: list[tuple[int, AnnotationError]] = field(default_factory=list)

    def bare_names(self) -> list[str]:
        """Returns the names of points that must be grouped by their names only."""
        return [] if self.boxes else [point.name for point in self.points if point.group is None]


@dataclass
class Grouped:
    """The objects of one image.

    Args:
        drafts: the objects.
        failures: number and error of each shape that belongs to no object.
        united: how many shapes were joined to another of their group.
        by_place: how many points were assigned to the box that they lie in.
    """

    drafts: list[Draft] = field(default_factory=list)
    failures: list[tuple[int, AnnotationError]] = field(default_factory=list)
    united: int = 0
    by_place: int = 0

    def notes(self, image: str, path: str) -> list[Note]:
        """Returns the notes of an image that the annotation file `path` describes."""
        notes = []
        if self.united:
            message = f"{path}: {image}: {self.united} shapes are parts of objects of their group"
            notes.append(Note("grouped_shapes", image, message, self.united))
        if self.by_place:
            message = f"{path}: {image}: {self.by_place} points belong to the box they lie in"
            notes.append(Note("points_in_box", image, message, self.by_place))
        return notes


_MOST_REPEATS: Final = 10
"""One image in so many may repeat a name by mistake."""

_FEWEST_LANDMARKS: Final = 3
"""So many names, the same in most images, are rather landmarks than classes."""


def names_are_classes(images: Iterable[ImageShapes]) -> bool:
    """Whether the names of bare points are classes: too many images have a name twice."""
    bare = [names for image in images if (names := image.bare_names())]
    repeating = [names for names in bare if len(set(names)) < len(names)]
    if len(repeating) == 1:
        # One mistake is no reason to refuse images that all name the same landmarks.
        ((usual, times),) = Counter(frozenset(names) for names in bare).most_common(1)
        return len(usual) < _FEWEST_LANDMARKS or 2 * times <= len(bare)
    return len(repeating) * _MOST_REPEATS > len(bare)


def _usual_count(counts: Iterable[int]) -> int:
    """Returns the number of points that more than half of the lists have; 0 if there is none."""
    found = Counter(counts)
    (count, times), *_ = found.most_common(1)
    return count if 2 * times > sum(found.values()) else 0


def drop_odd_sets(images: Sequence[ImageShapes]) -> None:
    """Moves unnamed lists of points that are longer or shorter than most to `failures`.

    Args:
        images: the shapes of all images of a data set.
    """
    counts = [len(one.points) for image in images for one in image.sets if not one.is_named()]
    if not counts:
        return
    usual = _usual_count(counts)
    for image in images:
        kept = []
        for one in image.sets:
            if one.is_named() or len(one.points) == usual:
                kept.append(one)
                continue
            expected = f"{usual} points, as most objects have"
            if not usual:
                expected = "the same points for each object, in the same order"
            error = malformed(f"expected {expected}; found {len(one.points)}")
            image.failures.append((one.entry, error))
        image.sets = kept


def group(shapes: ImageShapes, *, classes: bool = False) -> Grouped:
    """Makes the objects of one image.

    Args:
        shapes: its shapes.
        classes: the result of `names_are_classes` for the whole data set.
    """
    result = Grouped(failures=list(shapes.failures))
    objects = _united(shapes.boxes, result)
    owners: defaultdict[int, list[PointShape]] = defaultdict(list)
    unboxed = _assign_by_group(shapes.points, objects, owners, result)
    bare = [point for point in shapes.points if point.group is None]
    if bare and not objects and not unboxed and not classes:
        unboxed.append(bare)
    else:
        _assign_by_place(bare, objects, owners, result)
    owned_sets, free_sets = _assign_sets(shapes.sets, objects, owners, result)
    for i, box in enumerate(objects):
        own: Mapping[str, Point] | Sequence[Point] = _by_name(owners[i], result)
        flags = box.flags
        if i in owned_sets:
            own, flags = owned_sets[i].points, flags | owned_sets[i].flags
        result.drafts.append(Draft(box.category, box.entry, box.box, flags, own))
    for free in free_sets:
        result.drafts.append(Draft(free.category, free.entry, None, free.flags, free.points))
    for points in unboxed:
        named = _by_name(points, result)
        if named:
            result.drafts.append(Draft(UNNAMED_CATEGORY, points[0].entry, points=named))
    result.failures.sort(key=lambda failure: failure[0])
    return result


def _assign_by_group(
    points: Sequence[PointShape],
    boxes: Sequence[BoxShape],
    owners: defaultdict[int, list[PointShape]],
    result: Grouped,
) -> list[list[PointShape]]:
    """Gives points to the box of their group; returns the groups without a box."""
    by_group: defaultdict[Group, list[PointShape]] = defaultdict(list)
    for point in points:
        if point.group is not None:
            by_group[point.group].append(point)
    unboxed = []
    for key, members in by_group.items():
        same_group = [i for i, box in enumerate(boxes) if box.group == key]
        if len(same_group) == 1:
            owners[same_group[0]] += members
        elif not same_group:
            unboxed.append(members)
        else:
            _fail(result, members, f"group {key!r} has {len(same_group)} boxes")
    return unboxed


def _united(boxes: Sequence[BoxShape], result: Grouped) -> list[BoxShape]:
    """Joins the boxes of one group and category."""
    joined: dict[Hashable, BoxShape] = {}
    for box in boxes:
        key = (box.category, box.group) if box.group is not None else (None, box.entry)
        first = joined.setdefault(key, box)
        if first is not box:
            left, top, right, bottom = first.box
            corners = [(left, top), (right, bottom), box.box[:2], box.box[2:]]
            joined[key] = replace(first, box=around(corners), flags=first.flags | box.flags)
            result.united += 1
    return list(joined.values())


def _assign_by_place(
    points: Sequence[PointShape],
    boxes: Sequence[BoxShape],
    owners: defaultdict[int, list[PointShape]],
    result: Grouped,
) -> None:
    """Gives each point to the only box that it lies in."""
    for point in points:
        if (point.x, point.y) == (-1, -1):
            continue  # nobody placed it, so it is no point of any box
        around_it = []
        for i, box in enumerate(boxes):
            left, top, right, bottom = box.box
            if left <= point.x <= right and top <= point.y <= bottom:
                around_it.append(i)
        if len(around_it) == 1:
            owners[around_it[0]].append(point)
            result.by_place += 1
        else:
            where = f"lies in {len(around_it)} boxes" if boxes else "is in an image without boxes"
            _fail(result, [point], f"it {where} and has no group")


def _assign_sets(
    sets: Sequence[PointSet],
    boxes: Sequence[BoxShape],
    owners: Mapping[int, list[PointShape]],
    result: Grouped,
) -> tuple[dict[int, PointSet], list[PointSet]]:
    """Gives sets of points to boxes.

    Returns:
        The set of each box that has one, and the sets without a box.
    """
    wanted: defaultdict[int, list[PointSet]] = defaultdict(list)
    free = []
    for one in sets:
        fitting = []
        for i, box in enumerate(boxes):
            if one.group is not None or box.group is not None:
                fits = one.group == box.group
            else:
                fits = box.category == one.category and one.lies_in(box.box)
            if fits and not owners.get(i):
                fitting.append(i)
        if len(fitting) == 1:
            wanted[fitting[0]].append(one)
        else:
            free.append(one)
    owned = {}
    for i, several in wanted.items():
        if len(several) == 1:
            owned[i] = several[0]
            result.by_place += several[0].group is None
        else:
            free += several
    return owned, free


def _by_name(points: Sequence[PointShape], result: Grouped) -> dict[str, Point]:
    """Returns the points of one object; none of them if two have the same name."""
    named = {point.name: (point.x, point.y, point.visibility) for point in points}
    if len(named) < len(points):
        _fail(result, points, "two points of one object have the same name")
        return {}
    return named


def _fail(result: Grouped, points: Sequence[PointShape], problem: str) -> None:
    for point in points:
        error = malformed(
            f"point {point.name!r}: {problem}, so it is unknown which object the point belongs to: "
            "give the points of one object the group of its box, and different names"
        )
        result.failures.append((point.entry, error))
