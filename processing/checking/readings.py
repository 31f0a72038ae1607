"""Other readings of all boxes of an annotation set, such as x and y exchanged.

A reading turns the boxes as they were understood into the boxes that their author may have meant.
Whether it is right is decided in `systematic`. Pure functions of annotations.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from processing.checking.placed import PlacedAnnotations
from processing.core.annotations import NOT_DECLARED
from processing.core.coordinates import stored_to_upright
from processing.core.messages import counted

Boxes = NDArray[np.float64]

OTHER_SIZE: Final = "looks_like_other_size"
"""The kind of readings that change only the sizes of boxes."""

_SIDES: Final = (224, 256, 300, 320, 384, 416, 448, 512, 600, 608, 640, 768, 800, 1000, 1024, 1280)
"""Sides of the square copies that annotation tools, models and their training code make."""
_LEAST_REACH: Final = 0.85
"""Of a copy's side, which the boxes of many photographs reach almost."""
_FEWEST_AT_EDGE: Final = 4
_MOST_AT_EDGE: Final = 0.1
"""Boxes that end at the far edges of the copies, as objects do that their photographs cut off; and
share of the boxes whose photographs end there."""
_STEPS: Final = (-1, 1, -2, 2)
"""By how many places annotations and photographs may be shifted."""
_ROUNDING: Final = 1.5
_FACTORS: Final = (2.0, 1.5, 3.0, 4.0, 1 / 2, 2 / 3, 1 / 3, 1 / 4)
_SHIFT: Final = 0.4
_MOST_SHIFTS: Final = 3
"""Steps by which boxes may be shifted, as a share of the median box, and how many each way."""

_CORNER_AND_SIZE: Final = frozenset(
    {"coco", "csv_manifest", "via", "wider_face", "retinaface", "dlib_xml", "celeba"}
)
TWO_CORNERS: Final = frozenset({"csv_manifest", "pascal_voc", "keras_yolo3", "cvat_xml"})
_CENTRE_AND_SIZE: Final = frozenset({"yolo", "create_ml"})
"""The formats that write, or may write, boxes as these numbers."""


class Reading(NamedTuple):
    """Boxes as their author may have meant them.

    Args:
        kind: of the finding.
        text: the reading, as in "the boxes fit as …".
        remedy: what to do if it is right.
        boxes: float64 (M, 4) x1, y1, x2, y2 in pixels of `images`.
        images: int64 (M,), the photographs that the boxes lie in.
        ends_with_copies: whether boxes end exactly where the copies of this reading do, and hardly
            any photograph ends there.
    """

    kind: str
    text: str
    remedy: str
    boxes: Boxes
    images: NDArray[np.int64]
    ends_with_copies: bool = False


class _Boxes:
    """The boxes of some instances of one set, with the sizes that readings need."""

    def __init__(self, placed: PlacedAnnotations, boxes: Boxes, chosen: NDArray[np.int64]) -> None:
        self.placed = placed
        self.boxes = boxes
        self.owners = placed.owners[chosen]
        self.extents = placed.sizes[self.owners][:, ::-1].astype(np.float64)
        self.whole = np.tile(self.extents, 2)
        self.normalized = placed.table.normalized[self.owners]
        self.format = placed.format_of(int(chosen[0]))
        self.set_id = int(placed.table.instance_set_ids[chosen[0]])


def other_readings(
    placed: PlacedAnnotations, boxes: Boxes, chosen: NDArray[np.int64]
) -> Iterator[Reading]:
    """Yields all readings that are possible for the boxes of one annotation set.

    Args:
        placed: the annotations.
        boxes: float64 (M, 4), boxes in pixels of their upright photographs.
        chosen: int64 (M,), their instances.
    """
    given = _Boxes(placed, boxes, chosen)
    yield from _unrotated(given)
    yield from _other_numbers(given)
    yield from _neighbours(given)
    yield from _turned(given)
    if given.normalized.any():
        yield _with_borders(given)
    else:
        yield from _resized(given)


def shifted_readings(
    placed: PlacedAnnotations, boxes: Boxes, chosen: NDArray[np.int64]
) -> Iterator[Reading]:
    """Yields the boxes of one annotation set at other places; the arguments as above."""
    given = _Boxes(placed, boxes, chosen)
    across, down = (np.median(boxes[:, 2:] - boxes[:, :2], axis=0) * _SHIFT).tolist()
    steps = range(-_MOST_SHIFTS, _MOST_SHIFTS + 1)
    for dx, dy in itertools.product(steps, steps):
        if dx or dy:
            x, y = dx * across, dy * down
            text = (
                f"boxes that were shifted by about {round(-x)} pixels across and {round(-y)} down"
            )
            remedy = "were the photographs cropped after they were annotated, or borders added?"
            moved = boxes + np.array([x, y, x, y])
            yield Reading("looks_shifted", text, remedy, moved, given.owners)


def _unrotated(given: _Boxes) -> Iterator[Reading]:
    """The boxes were drawn on the pixels as stored, without the turn that EXIF asks for."""
    placed, table = given.placed, given.placed.table
    undeclared = (table.declared_sizes == NOT_DECLARED).all(axis=1)
    turned = (placed.orientations > 1) & undeclared
    concerned = turned[given.owners]
    if not concerned.any():
        return
    boxes = given.boxes.copy()
    images = np.unique(given.owners[concerned])
    starts, stops = (np.searchsorted(given.owners, images, side) for side in ("left", "right"))
    for image, start, stop in zip(images.tolist(), starts.tolist(), stops.tolist(), strict=True):
        own = slice(start, stop)
        height, width = placed.stored_sizes[image].tolist()
        stored = boxes[own]
        if table.normalized[image]:
            stored = stored / given.whole[own] * np.array([width, height, width, height])
        boxes[own] = stored_to_upright(stored, int(placed.orientations[image]), (height, width))
    yield Reading(
        "looks_unrotated",
        f"pixels of the photographs as stored: EXIF turns {len(images):,} of them, and their boxes "
        "were drawn without the turn",
        "turn the boxes with their photographs, or store the photographs upright and draw again",
        boxes,
        given.owners,
    )


def _other_numbers(given: _Boxes) -> Iterator[Reading]:
    """The four numbers have another meaning or order."""
    boxes, owners = given.boxes, given.owners
    exchanged = boxes[:, [1, 0, 3, 2]]
    fractions = (boxes / given.whole)[:, [1, 0, 3, 2]] * given.whole
    swapped = np.where(given.normalized[:, None], fractions, exchanged)
    remedy = "correct the order of the numbers or columns"
    yield Reading("looks_swapped", "y and x exchanged", remedy, swapped, owners)
    low, sides = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    middle = low + sides / 2
    for factor, text in (
        (2.0, "boxes of half the width and height"),
        (0.5, "boxes twice as large"),
    ):
        reach = sides / 2 * factor
        resized = np.concatenate([middle - reach, middle + reach], axis=1)
        resized = np.clip(resized, 0, given.whole)
        remedy = "look at a few: were distances from the centre written, or read, as sizes?"
        yield Reading(OTHER_SIZE, text, remedy, resized, owners)
    yield from _of_format(given, low, sides)


def _of_format(given: _Boxes, low: Boxes, sides: Boxes) -> Iterator[Reading]:
    """The numbers have the meaning that other formats give them."""
    boxes, owners = given.boxes, given.owners
    middle = low + sides / 2
    if given.format in _CENTRE_AND_SIZE:
        remedy = "write the centre and the size, as the format wants"
        unit = given.extents if given.format == "yolo" else 1.0
        sizes = (sides / unit)[:, ::-1] * unit / 2
        exchanged = np.concatenate([middle - sizes, middle + sizes], axis=1)
        yield Reading("looks_swapped", "x, y, height, width", remedy, exchanged, owners)
        corners = np.concatenate([middle, sides], axis=1)
        yield Reading("looks_like_corners", "x1, y1, x2, y2", remedy, corners, owners)
        top_left = np.concatenate([middle, middle + sides], axis=1)
        text = "x, y of the top left, width, height"
        yield Reading("looks_like_top_left", text, remedy, top_left, owners)
    if given.format in _CORNER_AND_SIZE:
        remedy = "write x, y, width, height"
        corners = np.concatenate([low, sides], axis=1)
        yield Reading("looks_like_corners", "x1, y1, x2, y2", remedy, corners, owners)
        exchanged = np.concatenate([low, low + sides[:, ::-1]], axis=1)
        yield Reading("looks_swapped", "x, y, height, width", remedy, exchanged, owners)
        around = np.concatenate([low - sides / 2, low + sides / 2], axis=1)
        remedy = "subtract half the size: x, y are those of the top left"
        yield Reading("looks_like_centre", "the centre, width, height", remedy, around, owners)
    if given.format in TWO_CORNERS:
        wide = np.concatenate([low, low + boxes[:, 2:]], axis=1)
        remedy = "add x to the width and y to the height: the format wants two corners"
        yield Reading("looks_like_sizes", "x, y, width, height", remedy, wide, owners)


def _neighbours(given: _Boxes) -> Iterator[Reading]:
    """The boxes belong to another photograph of the list."""
    members = np.flatnonzero(given.placed.table.set_ids == given.set_id)
    count = len(members)
    if count <= 2 * max(_STEPS):
        return
    place = np.searchsorted(members, given.owners)
    others = []
    for step in _STEPS:
        side = "before" if step < 0 else "after"
        others.append((place + step, f"{counted(abs(step), 'place')} {side} theirs"))
    others.append((count - 1 - place, "at the same place from the end"))
    for places, where in others:
        images = members[places % count]
        extents = given.placed.sizes[images][:, ::-1].astype(np.float64)
        scaled = given.boxes / given.whole * np.tile(extents, 2)
        boxes = np.where(given.normalized[:, None], scaled, given.boxes)
        yield Reading(
            "looks_like_neighbour",
            f"boxes of another photograph, which the list has {where}",
            "compare ids and names with the photographs: were they counted from 0 and from 1, "
            "renumbered, or sorted in two ways?",
            boxes,
            images,
        )


def _turned(given: _Boxes) -> Iterator[Reading]:
    """The axes run the other way."""
    x1, y1, x2, y2 = given.boxes.T
    width, height = given.extents.T
    below = np.stack([x1, height - y2, x2, height - y1], axis=1)
    remedy = "subtract y from the height of the photograph"
    yield Reading("looks_upside_down", "y counted from the bottom", remedy, below, given.owners)
    mirrored = np.stack([width - x2, y1, width - x1, y2], axis=1)
    remedy = "mirror the boxes too, or use the photographs that were annotated"
    text = "boxes of the mirrored photographs"
    yield Reading("looks_mirrored", text, remedy, mirrored, given.owners)
    x, y, across, down = np.where(given.normalized, given.boxes.T / given.whole.T, given.boxes.T)
    wide, high = np.where(given.normalized, 1.0, np.stack([width, height]))
    for angle, turned in (
        (180, (wide - across, high - down, wide - x, high - y)),
        (90, (wide - down, x, wide - y, across)),
        (270, (y, high - across, down, high - x)),
    ):
        boxes = np.stack(turned, axis=1) * np.where(given.normalized[:, None], given.whole, 1.0)
        text = f"boxes of photographs that were turned by {angle} degrees afterwards"
        remedy = "turn the boxes too, or use the photographs that were annotated"
        yield Reading("looks_turned", text, remedy, boxes, given.owners)


def _with_borders(given: _Boxes) -> Reading:
    """The fractions are those of a square copy with borders."""
    side = given.extents.max(axis=1, keepdims=True)
    boxes = given.boxes / given.whole * side - np.tile((side - given.extents) / 2, 2)
    return Reading(
        "looks_resized",
        "fractions of square copies with borders",
        "divide by the size of the photograph, without the borders",
        boxes,
        given.owners,
    )


def _end_at(boxes: Boxes, extents: Boxes, side: int) -> bool:
    """Whether boxes end at both far edges of copies, (side, side), and photographs hardly do."""
    ends = (abs(boxes[:, 2:] - side) <= _ROUNDING).sum(axis=0)
    photographs = (extents == side).any(axis=1).mean()
    return bool(ends.all() and ends.sum() >= _FEWEST_AT_EDGE and photographs <= _MOST_AT_EDGE)


def _resized(given: _Boxes) -> Iterator[Reading]:
    """The boxes were drawn on copies of another size."""
    boxes, extents, owners = given.boxes, given.extents, given.owners
    reach = float(boxes[:, 2:].max())
    kind, remedy = "looks_resized", "scale the boxes to the photographs, or use those copies"
    for side in _SIDES:
        if not _LEAST_REACH * side <= reach <= side + _ROUNDING or (extents == side).all():
            continue
        text = f"pixels of copies that were stretched to {side}x{side}"
        ends = _end_at(boxes, extents, side)
        yield Reading(kind, text, remedy, boxes / side * given.whole, owners, ends)
        scale = extents.max(axis=1, keepdims=True) / side
        borders = (side - extents / scale) / 2
        text = f"pixels of copies of {side}x{side} with borders"
        yield Reading(kind, text, remedy, (boxes - np.tile(borders, 2)) * scale, owners)
        text = f"pixels of copies with a longer side of {side}"
        yield Reading(kind, text, remedy, boxes * scale, owners)
    for factor in _FACTORS:
        text = f"pixels of copies that are {1 / factor:.3g} times as large"
        yield Reading(kind, text, remedy, boxes * factor, owners)
