"""Finds boxes that processing would store, and that look wrong.

Each rule looks at the boxes in pixels of their upright photographs. The thresholds were set so that
none of the clean data sets of docs/looking.md raises an alarm. Pure functions of annotations.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from processing.checking.findings import Finding
from processing.checking.placed import PlacedAnnotations
from processing.core.box_matching import box_fit
from processing.core.messages import counted

_BEYOND_PIXELS: Final = 3.0
_BEYOND_SHARE: Final = 0.02
_BEYOND_SHARE_OF_BOX: Final = 0.2
"""How far a box may reach beyond its photograph: in pixels, and as a share of the photograph's side
or of its own. The first and one of the others have to be exceeded. Annotators drag a box over the
edge by a few pixels."""

_ROUNDING: Final = 1.5
"""Pixels that another reading of a box may reach beyond the photograph."""

_QUARTER_TURN: Final = 5
"""EXIF orientations from this one on exchange width and height."""

_TINY: Final = 2.0
_THIN: Final = 1.5
"""Pixels of the longer and of the shorter side. In the real data sets, the smallest box has
2.2 x 3.0 pixels, and the narrowest is 1.85 wide."""
_SMALL: Final = 4.0
"""Pixels of the longer side below which a box is mentioned: nothing can be recognised in it."""
_LONGEST: Final = 30.0
"""Ratio of the sides. The longest objects of the real data sets have 8.9; a ski has about 20."""

_REPEATED: Final = 0.9
"""Intersection over union of two boxes of one category that are one object drawn twice."""
_ALMOST: Final = 0.75
_JITTER: Final = 2.5
"""The same for small boxes, whose corners differ by at most this many pixels."""
_CLEAR: Final = 8.0
"""Pixels of the shorter side below which rounding decides whether boxes agree."""
_MOST_COMPARED: Final = 300
"""Boxes of one photograph that are compared with each other; a crowd has more, and takes memory."""


def check_boxes(placed: PlacedAnnotations, explained: NDArray[np.bool_]) -> Iterator[Finding]:
    """Finds single boxes that look wrong.

    Args:
        placed: the annotations.
        explained: bool (I,), boxes of sets that have to be read in another way: each of them would
            get a remedy of its own.
    """
    usable = placed.boxed()
    yield from _beyond(placed, usable & ~explained)
    yield from _tiny(placed, usable)
    yield from _drawn_twice(placed, usable)


def _finding(
    placed: PlacedAnnotations, instance: int, kind: str, message: str, remedy: str
) -> Finding:
    path, file, place = placed.where(instance)
    box = ", ".join(f"{value:.6g}" for value in placed.boxes[instance].tolist())
    text = f"{placed.category(instance)} ({box}) {message}"
    return Finding(kind, "warning", path, text, remedy, file, place)


def _beyond(placed: PlacedAnnotations, usable: NDArray[np.bool_]) -> Iterator[Finding]:
    """Finds boxes that reach far beyond their photographs, and the reading that would fit."""
    boxes, extents = placed.boxes, placed.extents()
    over = np.maximum(-boxes[:, :2], boxes[:, 2:] - extents)
    with np.errstate(invalid="ignore", divide="ignore"):
        allowed = np.minimum(
            _BEYOND_SHARE * extents, _BEYOND_SHARE_OF_BOX * (boxes[:, 2:] - boxes[:, :2])
        )
        far = (over > _BEYOND_PIXELS) & (over > allowed)
    for i in np.flatnonzero(usable & far.any(axis=1)).tolist():
        height, width = placed.size_of(i)
        readings = _other_readings(placed, i)
        beyond = f"reaches {over[i].max():.0f} pixels beyond the photograph of {width}x{height}"
        outside = (boxes[i, 2:] <= 0).any() or (boxes[i, :2] >= extents[i]).any()
        if readings:
            (kind, remedy), *_ = readings
            yield _finding(placed, i, kind, beyond, remedy)
        elif not outside:  # processing drops what is outside, and says so
            remedy = "draw the box again: does it belong to another photograph or size?"
            yield _finding(placed, i, "beyond_photograph", beyond, remedy)


def _other_readings(placed: PlacedAnnotations, instance: int) -> list[tuple[str, str]]:
    """The kinds and remedies of other meanings of a box's numbers that lie in the photograph."""
    x1, y1, x2, y2 = placed.boxes[instance].tolist()
    width, height = x2 - x1, y2 - y1
    size = placed.size_of(instance)
    is_on_its_side = placed.orientations[placed.owners[instance]] >= _QUARTER_TURN
    if is_on_its_side and _is_inside((x1, y1, x2, y2), size[::-1]):
        remedy = "it fits the photograph as stored: turn it as EXIF turns the photograph"
        return [("looks_unrotated", remedy)]
    readings = []
    if placed.format_of(instance) == "yolo":
        x, y = (x1 + x2) / 2, (y1 + y2) / 2
        readings.append(("looks_like_corners", "x1, y1, x2, y2", (x, y, width, height)))
        top_left = (x, y, x + width, y + height)
        readings.append(("looks_like_top_left", "x, y of the top left, width, height", top_left))
    elif placed.format_of(instance) == "coco":
        readings.append(("looks_like_corners", "x1, y1, x2, y2", (x1, y1, width, height)))
    readings.append(("looks_swapped", "y and x exchanged", (y1, x1, y2, x2)))
    return [
        (kind, f"it fits as {text}: correct the order of its numbers")
        for kind, text, box in readings
        if _is_inside(box, size)
    ]


def _is_inside(box: tuple[float, float, float, float], size: tuple[int, int]) -> bool:
    x1, y1, x2, y2 = box
    height, width = size
    inside = min(x1, y1) >= -_ROUNDING and x2 <= width + _ROUNDING and y2 <= height + _ROUNDING
    return inside and x2 > x1 and y2 > y1


def _tiny(placed: PlacedAnnotations, usable: NDArray[np.bool_]) -> Iterator[Finding]:
    sides = placed.boxes[:, 2:] - placed.boxes[:, :2]
    shorter, longer = sides.min(axis=1), sides.max(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        is_tiny = usable & ((longer <= _TINY) | (shorter < _THIN))
        is_long = usable & ~is_tiny & (longer > _LONGEST * shorter)
        is_small = usable & ~is_tiny & (longer < _SMALL)
    for i in np.flatnonzero(is_tiny).tolist():
        width, height = sides[i].tolist()
        message = f"is {width:.3g} x {height:.3g} pixels"
        yield _finding(placed, i, "tiny_box", message, "draw the box again, or remove it")
    for i in np.flatnonzero(is_long).tolist():
        width, height = sides[i].tolist()
        message = f"is {width:.3g} x {height:.3g} pixels, {longer[i] / shorter[i]:.0f} to 1"
        remedy = "look at it: are its numbers in the right order?"
        yield _finding(placed, i, "long_box", message, remedy)
    if is_small.any():
        path, file, place = placed.where(int(np.argmax(is_small)))
        count = int(is_small.sum())
        boxes = counted(count, "box", "boxes")
        message = f"{boxes} with less than {_SMALL:g} pixels on the longer side"
        yield Finding("small_boxes", "info", path, message, "", file, place, count=count)


def _drawn_twice(placed: PlacedAnnotations, usable: NDArray[np.bool_]) -> Iterator[Finding]:
    """Finds boxes of one photograph that agree: one object drawn twice, or with two categories."""
    sides = placed.boxes[:, 2:] - placed.boxes[:, :2]
    with np.errstate(invalid="ignore"):
        chosen = np.flatnonzero(usable & (sides.min(axis=1) >= _CLEAR))
    starts = np.searchsorted(placed.owners[chosen], np.arange(len(placed.sizes) + 1))
    for image in np.flatnonzero(np.diff(starts) > 1).tolist():
        members = chosen[starts[image] : starts[image + 1]][:_MOST_COMPARED]
        boxes = placed.boxes[members].astype(np.float64)
        labels = placed.table.labels[members]
        fit = np.triu(box_fit(boxes, boxes), 1)
        if not (fit >= _ALMOST).any():
            continue
        same = labels[:, None] == labels
        distance = np.abs(boxes[:, None] - boxes).max(axis=2)
        equal = distance <= 0.5
        repeated = (fit >= _REPEATED) | ((fit >= _ALMOST) & (distance <= _JITTER))
        for a, b in np.argwhere(np.triu(repeated & same, 1)).tolist():
            _, _, place = placed.where(int(members[a]))
            message = f"is drawn twice, as {place or 'another object'} too"
            remedy = "remove one of the boxes"
            yield _finding(placed, int(members[b]), "box_drawn_twice", message, remedy)
        for a, b in np.argwhere(np.triu(equal & ~same, 1)).tolist():
            other = placed.category(int(members[a]))
            message = f"has a second category, {other}"
            remedy = "keep the right category, unless both are meant"
            yield _finding(placed, int(members[b]), "two_categories", message, remedy)
