"""Parts of an annotation set that may have a history of their own: splits, names, shapes, places.

Data sets are often joined, augmented or corrected by part. Pure functions of annotations.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from processing.checking.placed import PlacedAnnotations
from processing.core.annotations import SPLITS, UNASSIGNED

_DIGITS: Final = re.compile(r"\d+")
_MOST_PATTERNS: Final = 8
"""Kinds of names. If there are more, names say nothing about where photographs came from."""
_QUARTERS: Final = 4


class Part(NamedTuple):
    """Some boxes of a set.

    Args:
        text: the photographs of the part, as in "the boxes of …".
        members: bool (M,), the boxes.
    """

    text: str
    members: NDArray[np.bool_]


def parts_of(placed: PlacedAnnotations, owners: NDArray[np.int64]) -> Iterator[Part]:
    """Yields the parts of an annotation set that are neither empty nor all of it.

    Args:
        placed: the annotations.
        owners: int64 (M,), ascending, the photographs of the set's boxes.
    """
    for part in _all_parts(placed, owners):
        if part.members.any() and not part.members.all():
            yield part


def _all_parts(placed: PlacedAnnotations, owners: NDArray[np.int64]) -> Iterator[Part]:
    splits = placed.table.splits[owners]
    for number, name in enumerate(SPLITS):
        if number != UNASSIGNED:
            yield Part(f"the photographs of {name}", splits == number)
    yield from _by_name(placed, owners)
    height, width = placed.sizes[owners].T
    yield Part("the photographs that are wider than high", width > height)
    yield Part("the photographs that are higher than wide", height > width)
    images, places = np.unique(owners, return_inverse=True)
    paths = placed.table.image_paths[images].tolist()
    for quarter in range(_QUARTERS):
        start, stop = (len(images) * one // _QUARTERS for one in (quarter, quarter + 1))
        if start < stop:
            text = f"the photographs from {paths[start]} to {paths[stop - 1]} in the list"
            yield Part(text, (places >= start) & (places < stop))


def _by_name(placed: PlacedAnnotations, owners: NDArray[np.int64]) -> Iterator[Part]:
    images, places = np.unique(owners, return_inverse=True)
    names = [_DIGITS.sub("#", path) for path in placed.table.image_paths[images].tolist()]
    patterns, kinds = np.unique(names, return_inverse=True)
    if len(patterns) <= _MOST_PATTERNS:
        for kind, pattern in enumerate(patterns.tolist()):
            text = f"the photographs named {pattern} (# is a number)"
            yield Part(text, (kinds == kind)[places])
