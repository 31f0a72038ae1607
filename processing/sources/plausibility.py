"""Finds annotations that cannot mean what their format says, before they become wrong boxes.

- Boxes in pixels that lie within one pixel look like fractions, and boxes in fractions that reach
  far beyond 1 look like pixels. They are rejected (``looks_like_fractions``,
  ``looks_like_pixels``); the option ``units`` of a source decides.
- If almost all boxes of an annotation set are bad for the same reason, the set is misread as a
  whole. Reading stops, and the error says what that usually means.
"""

from __future__ import annotations

import dataclasses
from typing import Final

import numpy as np
from numpy.typing import NDArray

from processing.core.annotations import AnnotationTable, Flag
from processing.core.errors import Rejection, SourceError
from processing.sources.source_format import Reading

_LOWEST, _HIGHEST = -0.5, 1.5
"""Where the edges of a box in fractions can lie, if its centre and size are in [0, 1]."""

_ALMOST_ALL: Final = 0.9
_FEWEST: Final = 10
"""Boxes that a set must have before their share says anything about the whole set."""
_MANY: Final = 0.25
_FEWEST_INVERTED: Final = 3
"""The same for inverted boxes, if all boxes of the set make sense as x, y, width, height."""

_MEANINGS: Final = {
    "not finite": "values are missing in the file, or its columns are read in the wrong order",
    "inverted": (
        "the columns are x, y, width, height and are read as x1, y1, x2, y2, or x and y are swapped"
    ),
    "without extent": "the numbers are points, or fractions that were rounded to whole numbers",
    "outside of their images": (
        "the images were resized after annotating, or the boxes belong to other images"
    ),
}
"""The usual cause, by fault, if almost all boxes of a set have the same fault."""


def reject_wrong_units(reading: Reading) -> Reading:
    """Rejects boxes and points whose values fit another unit than the one they are read in.

    Args:
        reading: of all sources, before images are merged.
    """
    table = reading.table
    if not _may_have_wrong_units(table):
        return reading
    in_fractions = np.repeat(table.normalized, np.diff(table.offsets))
    set_ids = np.repeat(table.set_ids, np.diff(table.offsets))
    low, high = _extents(table)
    known = ~np.isnan(high)
    decided = np.array([bool(one.units) for one in table.annotation_sets] or [False])[set_ids]
    within_a_pixel = known & ~in_fractions & ~decided & (high <= 1) & _has_extent(table)
    # Whole numbers may be a real box of one pixel, unless the whole set is like that.
    whole_sets = _sets_with_only(within_a_pixel, known & ~in_fractions, set_ids, table)
    fractions = within_a_pixel & (_has_fraction(table) | whole_sets[set_ids])
    # An infinite coordinate is no pixel: the repairs drop it as not finite.
    finite = np.isfinite(low) & np.isfinite(high)
    pixels = finite & in_fractions & ((high > _HIGHEST) | (low < _LOWEST))
    if not (fractions.any() or pixels.any()):
        return reading
    rejections = [
        *_unit_rejections(table, fractions, set_ids, "fractions"),
        *_unit_rejections(table, pixels, set_ids, "pixels"),
    ]
    owners = np.repeat(np.arange(len(table)), np.diff(table.offsets))
    lost = np.unique(owners[fractions | pixels])
    missing = set(table.image_paths[lost].tolist())
    return dataclasses.replace(
        reading,
        table=table.keep_instances(~(fractions | pixels)),
        rejections=[*reading.rejections, *rejections],
        images_missing_annotations=reading.images_missing_annotations | missing,
    )


def _may_have_wrong_units(table: AnnotationTable) -> bool:
    """Rules out in one pass that a table of boxes in pixels, as most are, has wrong units."""
    if table.normalized.any() or (table.flags & Flag.NO_BOX).any():
        return True
    return bool((table.boxes[:, 2:] <= 1).all(axis=1).any())


def check_not_misread(table: AnnotationTable) -> None:
    """Checks that not almost all boxes of an annotation set are bad for the same reason.

    Raises:
        SourceError: they are.
    """
    boxed = table.flags & Flag.NO_BOX == 0
    faults = _faults(table)
    if max(np.count_nonzero(fault & boxed) for fault in faults.values()) < _FEWEST_INVERTED:
        return
    fit_as_sizes = _fit_as_sizes(table)
    set_ids = np.repeat(table.set_ids, np.diff(table.offsets))
    for set_id, one in enumerate(table.annotation_sets):
        chosen = boxed & (set_ids == set_id)
        total = int(np.count_nonzero(chosen))
        for name, fault in faults.items():
            bad = np.flatnonzero(fault & chosen)
            are_sizes = name == "inverted" and fit_as_sizes[chosen].all()
            share, fewest = (_MANY, _FEWEST_INVERTED) if are_sizes else (_ALMOST_ALL, _FEWEST)
            if total >= fewest and len(bad) >= share * total:
                i = int(bad[0])
                raise SourceError(
                    f"{one.path}: {len(bad)} of {total} boxes are {name}, such as "
                    f"{_place(table, i)} with {_values(table, i)} as x1, y1, x2, y2. This usually "
                    f"means that {_MEANINGS[name]}: correct the file, or leave it out with "
                    "`sources`"
                )


def _extents(table: AnnotationTable) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns float64 (I,), twice: the lowest and highest coordinate; NaN if there is none.

    Of an instance with a box these are its edges, of another one its labelled points.
    """
    with np.errstate(invalid="ignore"):
        low = table.boxes.min(axis=1).astype(np.float64)
        high = table.boxes.max(axis=1).astype(np.float64)
    # For VOC, 1 was subtracted from the low edges: only the far edges are as written.
    for i in np.flatnonzero((table.flags & Flag.NO_BOX != 0) & (table.points.lengths > 0)).tolist():
        points = table.points[i]
        labelled = points[points[:, 2] > 0, :2]
        if len(labelled):
            low[i], high[i] = labelled.min(), labelled.max()
    return low, high


def _has_extent(table: AnnotationTable) -> NDArray[np.bool_]:
    """Marks the instances that may mean something: boxes with an extent, and bare points."""
    with np.errstate(invalid="ignore"):
        extended = (table.boxes[:, 2:] > table.boxes[:, :2]).all(axis=1)
    marked: NDArray[np.bool_] = extended | (table.flags & Flag.NO_BOX != 0)
    return marked


def _has_fraction(table: AnnotationTable) -> NDArray[np.bool_]:
    """Marks the instances with a coordinate that is no whole number."""
    marked: NDArray[np.bool_] = (table.boxes != np.floor(table.boxes)).any(axis=1)
    marked &= table.flags & Flag.NO_BOX == 0
    for i in np.flatnonzero((table.flags & Flag.NO_BOX != 0) & (table.points.lengths > 0)).tolist():
        points = table.points[i][:, :2]
        marked[i] = bool((points != np.floor(points)).any())
    return marked


def _sets_with_only(
    marked: NDArray[np.bool_],
    among: NDArray[np.bool_],
    set_ids: NDArray[np.int32],
    table: AnnotationTable,
) -> NDArray[np.bool_]:
    """Returns bool (S,): the sets whose instances in `among` are all marked."""
    n = max(len(table.annotation_sets), 1)
    total = np.bincount(set_ids[among], minlength=n)
    found = np.bincount(set_ids[marked], minlength=n)
    whole: NDArray[np.bool_] = (total > 0) & (found == total)
    return whole


def _unit_rejections(
    table: AnnotationTable, wrong: NDArray[np.bool_], set_ids: NDArray[np.int32], unit: str
) -> list[Rejection]:
    """Records wrong units: once for a set if all of it is wrong, otherwise for each instance."""
    reason = f"looks_like_{unit}"
    expected = "pixels" if unit == "fractions" else "fractions"
    everything = np.ones(len(wrong), dtype=bool)
    whole = _sets_with_only(wrong, everything, set_ids, table)
    rejections = []
    for set_id in np.flatnonzero(whole).tolist():
        one = table.annotation_sets[set_id]
        i = int(np.flatnonzero(wrong & (set_ids == set_id))[0])
        message = (
            f"{one.path}: all {np.count_nonzero(set_ids == set_id)} objects look like {unit}, such "
            f"as {_place(table, i)} with {_values(table, i)}; expected {expected}: if they are "
            f"{unit}, name the source with its unit, sources=[{{'format': '{one.format}', "
            f"'units': '{unit}'}}]"
        )
        rejections.append(Rejection(one.path, "annotation", reason, message))
    for i in np.flatnonzero(wrong & ~whole[set_ids]).tolist():
        file, place = file_and_place(table, i)
        message = (
            f"{file}: {place}: {_values(table, i)} looks like {unit}; expected {expected}, as most "
            "of the other objects have"
        )
        rejections.append(Rejection(file, "annotation", reason, message))
    return rejections


def _faults(table: AnnotationTable) -> dict[str, NDArray[np.bool_]]:
    """Marks bool (I,) the boxes of each fault that can be seen without the image."""
    low, high, edges = table.boxes[:, :2], table.boxes[:, 2:], _edges(table)
    with np.errstate(invalid="ignore"):
        inverted = (high < low).any(axis=1)
        # An image may be stored turned by 90 degrees, so its declared sides may be swapped.
        outside = ((high <= 0) | (low >= edges)).any(axis=1) & ~inverted
        if outside.any():
            outside &= ((high <= 0) | (low >= edges[:, ::-1])).any(axis=1)
    return {
        "not finite": ~np.isfinite(table.boxes).all(axis=1),
        "inverted": inverted,
        "without extent": (high == low).any(axis=1) & ~inverted,
        "outside of their images": outside,
    }


def _fit_as_sizes(table: AnnotationTable) -> NDArray[np.bool_]:
    """Marks the boxes that lie in their images if the last two numbers are width and height."""
    first, second, edges = table.boxes[:, :2], table.boxes[:, 2:], _edges(table)
    with np.errstate(invalid="ignore", over="ignore"):
        fits = (second > 0) & (first + second <= 1.01 * edges)
    marked: NDArray[np.bool_] = np.all(fits & np.isfinite(edges), axis=1)
    return marked


def _edges(table: AnnotationTable) -> NDArray[np.float32]:
    """Returns float32 (I, 2): width and height of the image of each instance; inf if unknown."""
    # float32, as the boxes: sides of images are far below 2**24, where it is exact.
    sizes = np.where(table.normalized[:, None], 1, table.declared_sizes[:, ::-1]).astype(np.float32)
    # An image of unknown size is as large as its boxes need.
    sizes[sizes <= 0] = np.inf
    edges: NDArray[np.float32] = np.repeat(sizes, np.diff(table.offsets), axis=0)
    return edges


def _image_of(table: AnnotationTable, instance: int) -> int:
    return int(np.searchsorted(table.offsets, instance, side="right")) - 1


def file_and_place(table: AnnotationTable, instance: int) -> tuple[str, str]:
    """Returns the annotation file of an instance and its place in it."""
    row = _image_of(table, instance)
    one = table.annotation_sets[table.set_ids[row]]
    own_file, place = str(table.annotation_files[row]), one.place.format(table.entries[instance])
    if own_file and place:
        return own_file, place
    # In a file of many images, several of them may have an object of the same number.
    return own_file or one.path, ": ".join(filter(None, [str(table.image_paths[row]), place]))


def _place(table: AnnotationTable, instance: int) -> str:
    return " of ".join(reversed(file_and_place(table, instance)))


def _values(table: AnnotationTable, instance: int) -> str:
    """Returns the box of an instance, or its first point, as text."""
    values = table.boxes[instance]
    if table.flags[instance] & Flag.NO_BOX:
        values = table.points[instance][0, :2]
    return "(" + ", ".join(f"{value:g}" for value in values.tolist()) + ")"
