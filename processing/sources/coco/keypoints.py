"""The keypoints of COCO annotations as columns. The rules are documented in `coco.reader`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from processing.core.columns import RaggedArray, offsets_of
from processing.core.errors import Note
from processing.sources.coco.entries import Annotation


def points_of(entries: Sequence[Annotation]) -> tuple[RaggedArray, NDArray[np.bool_]]:
    """Collects the points of n entries.

    Returns:
        The points, without those of entries that have no labelled point. And bool (n,), marking
        the entries with complete points, three numbers each.
    """
    n = len(entries)
    written = [entry.keypoints or () for entry in entries]
    sizes = np.fromiter(map(len, written), np.int64, n)
    complete = sizes % 3 == 0
    lengths = np.where(complete, sizes // 3, 0)
    numbers = chain.from_iterable(listed for listed in written if len(listed) % 3 == 0)
    values = np.fromiter(numbers, np.float64).reshape(-1, 3)
    # Tools write -1 -1 for a point that nobody placed, whatever its visibility. NaN means the same,
    # but may also be damage: the repairs list such points when they unlabel them.
    values[(values[:, :2] == -1).all(axis=1)] = 0
    owners = np.repeat(np.arange(n), lengths)
    # The weights count the points of each entry that have a visibility.
    has_label = (values[:, 2] > 0) & ~np.isnan(values[:, :2]).any(axis=1)
    labelled = np.bincount(owners, weights=has_label, minlength=n) > 0
    # Numbers beyond float32 become inf, and the repairs drop such points.
    with np.errstate(over="ignore", invalid="ignore"):
        kept = values[labelled[owners]].astype(np.float32)
    return RaggedArray(kept, offsets_of(np.where(labelled, lengths, 0))), complete


def count_unlabelled(entries: Sequence[Annotation], points: RaggedArray) -> int:
    """Counts the entries that give places of points, all with visibility 0.

    Args:
        entries: n entries.
        points: their points, as of `points_of`.
    """
    count = 0
    for i in np.flatnonzero(points.lengths == 0).tolist():
        written = entries[i].keypoints
        # 0, 0 and -1, -1 are no places.
        if written and any(value > 0 for value in (*written[::3], *written[1::3])):
            count += 1
    return count


def note_unlabelled(path: str, count: int) -> list[Note]:
    """Returns the note on such entries of a file, if there are any."""
    if not count:
        return []
    message = (
        f"{path}: the points of {count:,} objects have places, but all have visibility 0, so they "
        "count as not labelled: give those that were marked visibility 2, or hidden ones 1"
    )
    return [Note("unlabelled_keypoints", path, message, count=count)]
