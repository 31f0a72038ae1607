"""Trial: compares other readings of the boxes of one annotation set with those that were read.

Each reading is tested in two ways. Do its boxes lie inside their photographs, where those that were
read do not? And do they lie on objects: is there another colour inside than around them, and are
there edges along their sides?
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from processing.checking.placed import PlacedAnnotations
from processing.checking.readings import OTHER_SIZE, Boxes, Reading
from processing.checking.small_pictures import Integrals, SmallPictures

_BEYOND_PIXELS: Final = 3.0
_BEYOND_SHARE: Final = 0.02
"""How far a box may reach beyond its photograph: in pixels, and as a share of the side."""
_FEWEST_BEYOND: Final = 3
_SHARE_BEYOND: Final = 0.03
"""Boxes beyond their photographs, and their share, from which on other readings are tried."""
_LEFT: Final = 0.1
"""Share of these boxes that may still lie beyond in another reading."""
_LEAST_REACH: Final = 0.75
"""How far a reading's boxes reach to the right or down. A reading that makes all boxes small fits
any photograph."""

_MOST_BOXES: Final = 2000
_FEWEST_COMPARED: Final = 16
_FEWEST_PHOTOGRAPHS: Final = 8
"""Boxes and photographs whose content is compared."""
_MOVED: Final = 0.5
"""Intersection over union with the box as it was read. One that agrees more says nothing."""
_CLEARLY: Final = 4.0
"""Standard errors by which a reading has to be better. Of 8 real data sets and 18 rendered ones,
and of all their parts, no wrong reading was better than the right one by more than 1.5."""
_EACH: Final = 1.5
"""Standard errors of the colours and of the edges, each; they have to agree."""

_SMALL: Final = 0.25
"""Boxes of less than this share of the photograph should fit it better than other photographs."""
_UNRELATED: Final = 0.5
"""How much better, in standard deviations between photographs. Boxes of real data sets and of
rendered ones fit better by 1.2 to 4.6, boxes of other photographs by -0.4 to 0.2."""


class Evidence(NamedTuple):
    """How a reading compares with the one that was used.

    Args:
        left: boxes that still lie beyond their photographs.
        fits: whether these are so few that the reading explains the others.
        gain: how clearly its boxes lie on objects, in standard errors; 0 if not clearly better.
        better: how much better they do, however little that is.
    """

    left: int
    fits: bool
    gain: float = 0.0
    better: float = 0.0

    @property
    def is_found(self) -> bool:
        """Whether anything speaks for the reading."""
        return self.fits or self.gain > 0

    @property
    def rank(self) -> tuple[float, bool, float]:
        """Sorts readings: the content decides, then the places."""
        return self.gain, self.fits, self.better


class Compared(NamedTuple):
    """A reading, and how each of its boxes lies.

    Args:
        reading: the reading.
        beyond: bool (M,), boxes that reach beyond their photographs.
        rows: int64 (R,), the boxes whose content was compared.
        belongs: float64 (2, R), by how much their colours and edges are clearer than those of the
            same boxes in other photographs.
        better: float64 (2, R), the same, compared with the boxes as they were read.
    """

    reading: Reading
    beyond: NDArray[np.bool_]
    rows: NDArray[np.int64]
    belongs: NDArray[np.float64]
    better: NDArray[np.float64]


class Trial:
    """Compares readings of the boxes of one annotation set.

    Args:
        placed: the annotations.
        small: small pictures of some photographs.
        integrals: their sums.
        boxes: float64 (M, 4), the boxes as they were read, in pixels of upright photographs.
        chosen: int64 (M,), their instances.

    Attributes:
        owners: int64 (M,), their photographs.
        beyond: bool (M,), those that reach beyond their photographs.
    """

    def __init__(
        self,
        placed: PlacedAnnotations,
        small: SmallPictures,
        integrals: Integrals,
        boxes: Boxes,
        chosen: NDArray[np.int64],
    ) -> None:
        self._placed, self._small, self._integrals = placed, small, integrals
        self._boxes = boxes
        self.owners = placed.owners[chosen]
        self.beyond = self._beyond_photograph(boxes, self.owners)
        self._rows = _some(small.of(self.owners))
        self._used = boxes / self._sides(self.owners)
        own = small.positions[self.owners[self._rows]]
        self._scores_used = self._scores(own, self._used[self._rows])

    def compare(self, reading: Reading) -> Compared:
        """Looks at all boxes of a reading."""
        beyond = self._beyond_photograph(reading.boxes, reading.images)
        other = reading.boxes / self._sides(reading.images)
        moved = (_overlap(self._used, other) < _MOVED) | (self.owners != reading.images)
        sound = moved & ~beyond & self._small.of(reading.images)
        among = sound[self._rows]
        rows = self._rows[among]
        pictures = self._small.positions[reading.images[rows]]
        scores = self._scores(pictures, other[rows])
        # A reading may put all boxes on a horizon. Then they fit other photographs as well.
        belongs = scores - self._elsewhere(pictures, other[rows])
        return Compared(reading, beyond, rows, belongs, scores - self._scores_used[:, among])

    def evidence(self, compared: Compared, part: NDArray[np.bool_]) -> Evidence:
        """Returns what speaks for a reading in some boxes, bool (M,)."""
        reading = compared.reading
        before = int(self.beyond[part].sum())
        left = int(compared.beyond[part].sum())
        fits = (
            before >= max(_FEWEST_BEYOND, _SHARE_BEYOND * int(part.sum()))
            and left <= _LEFT * before
            and self._reaches_far(reading, part)
        )
        # A box of half the size fits any photograph. Then only the content tells.
        fits &= reading.kind != OTHER_SIZE
        among = part[compared.rows]
        owners = self.owners[compared.rows[among]]
        if compared.beyond[part].mean() > _SHARE_BEYOND or not _are_enough(owners):
            return Evidence(left, fits)
        belongs = _errors(compared.belongs[:, among], owners)
        better = _errors(compared.better[:, among], owners)
        each, both = min(*belongs, *better), min(sum(belongs), sum(better))
        is_clear = each >= _EACH and both >= _CLEARLY * 2**0.5
        # Smaller boxes fit any photograph, too, unless they end where its copies do.
        fits &= reading.ends_with_copies or (sum(better) > 0 and reading.kind != "looks_resized")
        return Evidence(left, fits, sum(belongs) if is_clear else 0.0, sum(better))

    def mixed(self, compared: Compared) -> Iterator[NDArray[np.bool_]]:
        """Yields boxes, bool (M,), of photographs that may fit a reading where others do not.

        Every second box of a photograph tells whether it does; the boxes between them are yielded,
        so that their evidence is no result of the choice.
        """
        rows, owners = compared.rows, self.owners[compared.rows]
        if not _are_enough(owners):
            return
        better = np.nan_to_num(compared.better)
        gains = (better / np.maximum(better.std(axis=1, keepdims=True), 1e-9)).sum(axis=0)
        is_even = (np.arange(len(rows)) - np.searchsorted(owners, owners)) % 2 == 0
        for choosing in (is_even, ~is_even):
            of_image = np.bincount(owners[choosing], gains[choosing], len(self._placed.sizes))
            members = np.zeros(len(self.owners), dtype=bool)
            members[rows[~choosing & (of_image[owners] > 0)]] = True
            if members.any():
                yield members

    def are_unrelated(self, part: NDArray[np.bool_]) -> bool:
        """Whether some boxes, bool (M,), fit other photographs, and other places, as well."""
        small = (self._used[:, 2:] - self._used[:, :2]).prod(axis=1) < _SMALL
        among = (part & small & ~self.beyond)[self._rows]
        rows = self._rows[among]
        own = self._small.positions[self.owners[rows]]
        scores, used = self._scores_used[:, among], self._used[rows]
        if not self._fit_as_well(scores - self._elsewhere(own, used), self.owners[rows]):
            return False
        # A camera that does not move sees the same objects at the same places all the time.
        turned = 1 - used[:, [2, 3, 0, 1]]
        moved = _overlap(used, turned) < _MOVED
        differences = (scores - self._scores(own, turned))[:, moved]
        return self._fit_as_well(differences, self.owners[rows][moved])

    def _fit_as_well(self, differences: NDArray[np.float64], owners: NDArray[np.int64]) -> bool:
        """Whether differences (2, R) are small, even if they are one standard error larger."""
        if not _are_enough(owners):
            return False
        errors = sum(_errors(differences, owners)) / 2**0.5
        return bool((errors + 1) / np.sqrt(len(np.unique(owners))) < _UNRELATED)

    def _sides(self, images: NDArray[np.int64]) -> NDArray[np.int64]:
        """int64 (M, 4): width, height, width, height of photographs."""
        return np.tile(np.maximum(self._placed.sizes[images][:, ::-1], 1), 2).astype(np.int64)

    def _beyond_photograph(self, boxes: Boxes, images: NDArray[np.int64]) -> NDArray[np.bool_]:
        extents = self._placed.sizes[images][:, ::-1]
        allowed = np.maximum(_BEYOND_PIXELS, _BEYOND_SHARE * extents)
        beyond = (boxes[:, :2] < -allowed) | (boxes[:, 2:] > extents + allowed)
        inverted = boxes[:, 2:] <= boxes[:, :2]
        marked: NDArray[np.bool_] = (beyond | inverted).any(axis=1)
        return marked & (extents > 0).all(axis=1)

    def _reaches_far(self, reading: Reading, part: NDArray[np.bool_]) -> bool:
        reach = (reading.boxes / self._sides(reading.images))[part, 2:]
        return bool(reach.max() >= _LEAST_REACH)

    def _scores(self, pictures: NDArray[np.int64], boxes: Boxes) -> NDArray[np.float64]:
        return np.stack(self._integrals.scores(pictures, boxes))

    def _elsewhere(self, pictures: NDArray[np.int64], boxes: Boxes) -> NDArray[np.float64]:
        """The mean scores of the same boxes in three other photographs."""
        seen = np.flatnonzero(self._small.seen)
        places = np.searchsorted(seen, pictures)
        count = len(seen)
        total = np.zeros((2, len(pictures)))
        for step in (count // 2, count // 3, 2 * count // 3 + 1):
            total += self._scores(seen[(places + step) % count], boxes)
        return total / 3


def _some(marked: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The positions of marked boxes, evenly chosen if there are too many."""
    rows = np.flatnonzero(marked)
    if len(rows) > _MOST_BOXES:
        rows = rows[np.linspace(0, len(rows) - 1, _MOST_BOXES).astype(np.int64)]
    return rows


def _are_enough(owners: NDArray[np.int64]) -> bool:
    return len(owners) >= _FEWEST_COMPARED and len(np.unique(owners)) >= _FEWEST_PHOTOGRAPHS


def _overlap(first: Boxes, second: Boxes) -> NDArray[np.float64]:
    """Intersection over union of each pair of boxes, float64 (M,)."""
    low = np.maximum(first[:, :2], second[:, :2])
    high = np.minimum(first[:, 2:], second[:, 2:])
    common = np.maximum(high - low, 0).prod(axis=1)
    areas = [np.maximum(one[:, 2:] - one[:, :2], 0).prod(axis=1) for one in (first, second)]
    return np.asarray(common / np.maximum(areas[0] + areas[1] - common, 1e-12))


def _errors(differences: NDArray[np.float64], owners: NDArray[np.int64]) -> tuple[float, float]:
    """The mean over photographs of each of two differences (2, M), in standard errors."""
    results = []
    for row in differences:
        known = np.isfinite(row)
        images, places = np.unique(owners[known], return_inverse=True)
        if len(images) < _FEWEST_PHOTOGRAPHS:
            return 0.0, 0.0
        means = np.bincount(places, row[known]) / np.bincount(places)
        error = means.std(ddof=1) / np.sqrt(len(means))
        results.append(float(means.mean() / max(error, 1e-9)))
    return results[0], results[1]
