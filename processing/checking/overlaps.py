"""Finds neighbours of a series that overlap, in different splits: tiles, frames of a moving camera.

Neighbours are found by the numbers in their names. Two pictures may agree by chance once they are
moved over each other; many pairs never agree by chance at the same distance.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from processing.checking.copies import NO_LEAK, Pictures
from processing.checking.findings import Finding
from processing.core.messages import counted
from processing.imaging.similar import THUMBNAIL_SIDE, correlation

_NUMBER: Final = re.compile(r"\d+")
_NEAREST: Final = 2
_FARTHEST: Final = 19
"""Pixels of thumbnails by which neighbours may be moved. Nearer ones are near copies, and farther
ones share too little to tell."""
_AGREE: Final = 0.9
"""Correlation of the parts that both pictures show."""
_FEWEST_PAIRS: Final = 6
_SHARE: Final = 0.05
"""Neighbours that agree at one distance, and their share of all neighbours. Of real and rendered
photographs, at most 0.015 agree at any distance; of tiles that overlap by half, 0.65."""
_MOST_TRIED: Final = 500
"""Neighbours that tell the distance."""
_LEAST_CONTRAST: Final = 8.0
"""Standard deviation of the brightness, 0 to 255, of that part."""
_AT_ONCE: Final = 1 << 12


class _Move(NamedTuple):
    """How a picture was moved: (rows, columns) of thumbnails; one of them is 0."""

    down: int
    across: int


def check_overlaps(pictures: Pictures) -> Iterator[Finding]:
    """Finds photographs that show a part of their neighbours in another split."""
    first, second = _neighbours(pictures)
    if len(first) < _FEWEST_PAIRS:
        return
    steps = [sign * step for step in range(_NEAREST, _FARTHEST) for sign in (1, -1)]
    moves = [move for step in steps for move in (_Move(0, step), _Move(step, 0))]
    some = np.linspace(0, len(first) - 1, min(len(first), _MOST_TRIED)).astype(np.int64)
    thumbnails = pictures.thumbnails
    tried = [_agree(thumbnails, first[some], second[some], move).sum() for move in moves]
    best = moves[int(np.argmax(tried))]
    found = _agree(thumbnails, first, second, best)
    if found.sum() < max(_FEWEST_PAIRS, _SHARE * len(first)):
        return
    splits = pictures.splits
    leaks = np.flatnonzero(found & (splits[first] != splits[second]))
    if not len(leaks):
        return
    images = np.unique(np.concatenate([first[leaks], second[leaks]])).tolist()
    share = 1 - max(map(abs, best)) / THUMBNAIL_SIDE
    yield Finding(
        "overlap_across_splits",
        "warning",
        pictures.paths[images[0]],
        f"{counted(len(leaks), 'pair')} of neighbouring photographs in different splits overlap "
        f"by about {share:.0%}, as tiles or frames do: a model would be tested on what it has "
        "learnt",
        f"{NO_LEAK}; all tiles of a photograph belong together",
        others=tuple(pictures.paths[image] for image in images[1:]),
        count=len(leaks),
    )


def _neighbours(pictures: Pictures) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of photographs with a split that follow each other in a series of names."""
    keys = []
    for image in np.flatnonzero(pictures.seen & (pictures.splits >= 0)).tolist():
        name = pictures.paths[image].rpartition("/")[2]
        numbers = tuple(int(number) for number in _NUMBER.findall(name))
        keys.append((_NUMBER.sub("#", name), numbers, image))
    keys.sort()
    pairs = [(a[2], b[2]) for a, b in pairwise(keys) if a[0] == b[0] and a[1] != b[1]]
    both = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def _agree(
    thumbnails: NDArray[np.uint8],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    move: _Move,
) -> NDArray[np.bool_]:
    """Marks bool (P,) the pairs whose second picture shows the first one, moved."""
    agree = np.zeros(len(first), dtype=bool)
    for start in range(0, len(first), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        one = _shared(thumbnails[first[part]], move)
        other = _shared(thumbnails[second[part]], _Move(-move.down, -move.across))
        is_clear = np.minimum(one.std(axis=(1, 2)), other.std(axis=(1, 2))) >= _LEAST_CONTRAST
        agree[part] = is_clear & (correlation(one, other) >= _AGREE)
    return agree


def _shared(thumbnails: NDArray[np.uint8], move: _Move) -> NDArray[np.uint8]:
    """The part of pictures (P, 24, 24) that one moved by so many rows and columns shares."""
    rows, columns = (
        slice(max(step, 0), THUMBNAIL_SIDE + min(step, 0)) for step in (move.down, move.across)
    )
    return thumbnails[:, rows, columns]
