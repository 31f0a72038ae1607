"""Finds sets of boxes that look wrong as a whole: one size, one place, another unit.

Pure functions of annotations.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from processing.checking.findings import Finding
from processing.checking.placed import PlacedAnnotations
from processing.checking.readings import TWO_CORNERS

_FEWEST: Final = 5
"""Boxes that must agree in size before that is no chance."""
_ALMOST_ALL: Final = 0.8
"""Share of the boxes that have one size. In one real data set, a half has 37x37 pixels."""
_FEWEST_OF_CATEGORY: Final = 10
"""The same for one of several categories, of which all boxes but a tenth agree."""
_ALMOST_ALL_OF_CATEGORY: Final = 0.9
_FEWEST_SAME_PLACE: Final = 3
_SAME_PLACE: Final = 0.2
"""Photographs, and their share, that have exactly the same box; no annotator hits it by chance."""
_WHOLE: Final = 0.98
"""Share of both sides from which on a box shows the whole photograph."""
_NOT_LARGER: Final = 1.02
_FEWEST_WHOLE: Final = 3
_FEWEST_EXTRA: Final = 5
_EXTRA: Final = 0.25
"""Photographs with several boxes, and their share, of which one shows the whole photograph."""
_MANY: Final = 0.25
"""Photographs, and their share, of which the only box shows all of it: then nothing was drawn. In
photographs that were cropped around large objects, up to 0.18 have such a box."""
_LARGE: Final = 0.6
_LARGE_TO_WHOLE: Final = 0.25
_FEWEST_OTHERS: Final = 16
"""Where fewer have one, no other object may be large: objects that fill photographs come with some
that nearly do. So at most this many boxes for each whole one reach this share of both sides, and
there are enough other boxes to tell."""

_FEWEST_SPREAD: Final = 12
"""Boxes that must lie in one corner before that is no chance."""
_CORNER: Final = 0.55
"""Where all boxes end, as a share of both sides. They end beyond 0.75 in each real data set."""
_FEWEST_SIZES: Final = 16
_FAR: Final = 0.9
"""Boxes that all must fit as x, y, width, height, and how far one of them has to reach then. Of
right corners, x1 + x2 is beyond the photograph for every object in its right half."""
_ENDS: Final = 1.02
"""How far they may reach: annotators drag a box over the edge."""
_PERCENT: Final = 100.0
_FEWEST_PERCENT: Final = 8
_LEAST_SIDE: Final = 160
"""Pixels of the longer side of most photographs. In smaller ones, boxes may end within 100."""


def check_box_sets(placed: PlacedAnnotations) -> Iterator[Finding]:
    """Finds sets of boxes that look wrong as a whole."""
    usable = placed.boxed()
    yield from _one_size(placed, usable)
    yield from _one_place(placed, usable)
    yield from _whole_photographs(placed, usable)
    for set_id in range(len(placed.table.annotation_sets)):
        chosen = usable & (placed.table.instance_set_ids == set_id)
        yield from _other_scale(placed, chosen, placed.table.annotation_sets[set_id].path)
        yield from _sizes_for_corners(placed, chosen, set_id)


def _rounded(rows: NDArray[Any], decimals: int) -> NDArray[np.float64]:
    rounded = np.round(rows.astype(np.float64), decimals)
    return np.asarray(rounded, dtype=np.float64)


def _most_frequent(rows: NDArray[np.float64]) -> tuple[int, NDArray[np.bool_]]:
    """How often the most frequent row occurs, and where."""
    _, inverse, counts = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
    most = int(counts.argmax())
    return int(counts[most]), inverse.reshape(-1) == most


def _one_size(placed: PlacedAnnotations, usable: NDArray[np.bool_]) -> Iterator[Finding]:
    chosen = np.flatnonzero(usable)
    if len(chosen) >= _FEWEST:
        found = _size_of_most(placed, chosen, _ALMOST_ALL)
        if found is not None:
            yield _same_size(placed, chosen, *found, "")
            return
    labels = placed.table.labels[chosen]
    for label in np.unique(labels).tolist():
        of_category = chosen[labels == label]
        if len(of_category) < _FEWEST_OF_CATEGORY:
            continue
        found = _size_of_most(placed, of_category, _ALMOST_ALL_OF_CATEGORY)
        if found is not None:
            of = f" of {placed.category(int(of_category[0]))}"
            yield _same_size(placed, of_category, *found, of)


def _size_of_most(
    placed: PlacedAnnotations, chosen: NDArray[np.int64], share: float
) -> tuple[int, int] | None:
    """How many boxes have the most frequent size, and one of them; None if they are too few."""
    boxes = placed.boxes[chosen]
    sides = boxes[:, 2:] - boxes[:, :2]
    images = len(np.unique(placed.owners[chosen]))
    # A box of one size in pixels, or of one size in fractions of photographs of several sizes.
    for rows in (_rounded(sides, 1), _rounded(sides / placed.extents()[chosen], 4)):
        count, where = _most_frequent(rows)
        if count >= share * len(chosen) and images > 1:
            return count, int(chosen[where][0])
    return None


def _same_size(
    placed: PlacedAnnotations, chosen: NDArray[np.int64], count: int, example: int, of: str
) -> Finding:
    path, file, place = placed.where(example)
    x1, y1, x2, y2 = placed.boxes[example].tolist()
    message = (
        f"{count:,} of {len(chosen):,} boxes{of} have the same size, {x2 - x1:.4g} x {y2 - y1:.4g} "
        "pixels here"
    )
    remedy = "if they were made from points or by a script, draw boxes around the objects"
    return Finding("same_size", "warning", path, message, remedy, file, place, count=count)


def _one_place(placed: PlacedAnnotations, usable: NDArray[np.bool_]) -> Iterator[Finding]:
    extents = placed.extents()
    sides = placed.boxes[:, 2:] - placed.boxes[:, :2]
    with np.errstate(invalid="ignore"):
        whole = (sides >= _WHOLE * extents).all(axis=1)
    chosen = np.flatnonzero(usable & ~whole)
    images = len(np.unique(placed.owners[chosen]))
    if not images:
        return
    count, where = _most_frequent(_rounded(placed.boxes[chosen], 1))
    alike = len(np.unique(placed.owners[chosen[where]]))
    if alike >= _FEWEST_SAME_PLACE and alike >= _SAME_PLACE * images:
        path, file, place = placed.where(int(chosen[where][0]))
        box = ", ".join(f"{value:.6g}" for value in placed.boxes[chosen[where][0]].tolist())
        message = f"{alike:,} of {images:,} photographs have exactly the same box, ({box})"
        remedy = "draw the boxes again: were they copied from one photograph?"
        yield Finding("same_box", "warning", path, message, remedy, file, place, count=count)


def _whole_photographs(placed: PlacedAnnotations, usable: NDArray[np.bool_]) -> Iterator[Finding]:
    sides = placed.boxes[:, 2:] - placed.boxes[:, :2]
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = (sides / placed.extents()).min(axis=1)
        # A larger box belongs to another size of the photograph.
        whole = usable & (shares >= _WHOLE) & (sides <= _NOT_LARGER * placed.extents()).all(axis=1)
    boxes_of = np.bincount(placed.owners[usable], minlength=len(placed.sizes))
    alone = whole & (boxes_of[placed.owners] == 1)
    count, total = int(alone.sum()), int((boxes_of > 0).sum())
    others = usable & ~alone
    large = int((shares[others] >= _LARGE).sum())
    are_strange = others.sum() >= _FEWEST_OTHERS and large <= _LARGE_TO_WHOLE * count
    if count >= _FEWEST_WHOLE and (count >= _MANY * total or are_strange):
        path, file, place = placed.where(int(np.argmax(alone)))
        message = f"the only box of {count:,} of {total:,} photographs shows all of the photograph"
        remedy = "draw boxes around the objects: a detector learns nothing from these"
        yield Finding(
            "whole_photographs", "warning", path, message, remedy, file, place, count=count
        )
        return
    # Boxes around single objects, and one more around everything in the same photograph.
    several = boxes_of > 1
    extra = np.unique(placed.owners[whole & several[placed.owners]])
    if len(extra) >= _FEWEST_EXTRA and len(extra) >= _EXTRA * several.sum():
        first = int(np.flatnonzero(whole & (placed.owners == extra[0]))[0])
        path, file, place = placed.where(first)
        message = (
            f"{len(extra):,} of {int(several.sum()):,} photographs with several boxes have one "
            "around the whole photograph"
        )
        remedy = "remove it, unless the object fills the photograph"
        yield Finding(
            *("whole_photographs", "warning", path, message, remedy, file, place),
            count=len(extra),
        )


def _is_percent(boxes: NDArray[np.float32], extents: NDArray[np.float32]) -> bool:
    """Whether no coordinate is above 100, although photographs are far larger."""
    return bool(boxes.max() <= _PERCENT and np.median(extents.max(axis=1)) >= _LEAST_SIDE)


def _other_scale(
    placed: PlacedAnnotations, chosen: NDArray[np.bool_], set_path: str
) -> Iterator[Finding]:
    """Finds sets of which all boxes lie in the upper left corner of their photographs."""
    boxes, extents = placed.boxes[chosen], placed.extents()[chosen]
    count = len(boxes)
    if count >= _FEWEST_PERCENT and _is_percent(boxes, extents):
        kind, found = "looks_like_percent", f"no coordinate is above {boxes.max():.4g}"
        remedy = "multiply by the photograph's size and divide by 100: they look like percent"
    elif count >= _FEWEST_SPREAD and (boxes[:, 2:] / extents).max() < _CORNER:
        right, bottom = (boxes[:, 2:] / extents).max(axis=0).tolist()
        kind = "other_scale"
        found = f"no box ends beyond {right:.0%} of the width and {bottom:.0%} of the height"
        remedy = "look at a few: were the photographs enlarged after they were annotated?"
    else:
        return
    path, file, place = placed.where(int(np.argmax(chosen)))
    message = f"{set_path}: all {count:,} boxes lie in the upper left: {found}"
    yield Finding(kind, "warning", path, message, remedy, file, place, count=count)


def _sizes_for_corners(
    placed: PlacedAnnotations, chosen: NDArray[np.bool_], set_id: int
) -> Iterator[Finding]:
    """Finds widths and heights in the places of the second corner."""
    annotation_set = placed.table.annotation_sets[set_id]
    boxes, count = placed.boxes[chosen], int(chosen.sum())
    if annotation_set.format not in TWO_CORNERS or count < _FEWEST_SIZES:
        return
    ends = (boxes[:, :2] + boxes[:, 2:]) / placed.extents()[chosen]
    if _FAR <= ends.max() <= _ENDS:
        path, file, place = placed.where(int(np.argmax(chosen)))
        message = (
            f"{annotation_set.path}: all {count:,} boxes fit as x, y, width, height; of two "
            "corners, some would lie in the right or lower half"
        )
        remedy = "add x to the width and y to the height: the format wants two corners"
        yield Finding(
            "looks_like_sizes", "warning", path, message, remedy, file, place, count=count
        )
