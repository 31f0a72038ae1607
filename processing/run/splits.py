"""The split of each image.

An official split is respected; all other images are divided by a keyed hash of their group. The
division is a pure function of paths, official splits, seed and grouping: the order of the input,
the machine and the number of calls do not matter.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from processing.core.annotations import SPLITS, UNASSIGNED
from processing.core.arguments import check_number

_TRAIN, _VAL = SPLITS.index("train"), SPLITS.index("val")


def assign_splits(
    image_paths: NDArray[Any] | Sequence[str],
    official: NDArray[np.int8],
    *,
    train_split: float,
    seed: int = 0,
    group_by: str | None = None,
) -> NDArray[np.int8]:
    """Assigns a split to every image.

    Images of one group stay together, unless official splits of the data divide them. Groups
    without an official split are ordered by their hash. The first groups go to train, as many as
    bring its share of these images nearest to `train_split`. Adding images moves only images at the
    border. With two groups or more, neither side is empty unless `train_split` is 0 or 1.

    Args:
        image_paths: (N,) paths relative to the raw directory.
        official: int8 (N,) positions in `SPLITS`, or `UNASSIGNED`.
        train_split: share of the images without an official split that go to train, in [0, 1].
        seed: key of the hash.
        group_by: regular expression that is searched in each path. The text of its first group
            that is not empty, or of the whole match, names the image's group. An image without a
            match is a group of its own. None: every image is a group of its own.

    Returns:
        int8 (N,) positions in `SPLITS`.

    Raises:
        ValueError: `train_split` is outside [0, 1], or `group_by` is not a regular expression.
    """
    check_number("train_split", train_split, least=0, most=1)
    groups, members, sizes = np.unique(
        np.array(_groups(image_paths, group_by), dtype=np.dtypes.StringDType()),
        return_inverse=True,
        return_counts=True,
    )
    group_split = _official_of_groups(len(groups), members, official)
    free = np.flatnonzero(group_split == UNASSIGNED)
    group_split[free] = _divide(groups[free], sizes[free], train_split, seed)
    return np.where(official == UNASSIGNED, group_split[members], official).astype(np.int8)


def group_pattern(group_by: str) -> re.Pattern[str]:
    """Compiles `group_by`.

    Raises:
        TypeError: it is not a string.
        ValueError: it is not a regular expression.
    """
    if not isinstance(group_by, str):
        raise TypeError(f"group_by must be a regular expression, got {group_by!r}")
    try:
        return re.compile(group_by)
    except re.error as error:
        raise ValueError(f"group_by={group_by!r} is not a regular expression: {error}") from error


def group_of(path: str, pattern: re.Pattern[str]) -> str | None:
    """Returns the text that names the group of an image; None if it is a group of its own.

    A pattern that matches no character, such as one of digits that may be absent, finds nothing.
    """
    match = pattern.search(path)
    texts = () if match is None else match.groups() or (match.group(),)
    return next(filter(None, texts), None)


def _groups(image_paths: NDArray[Any] | Sequence[str], group_by: str | None) -> list[str]:
    if group_by is None:
        return [str(path) for path in image_paths]
    pattern = group_pattern(group_by)
    return [group_of(path, pattern) or path for path in map(str, image_paths)]


def _official_of_groups(
    n: int, members: NDArray[np.intp], official: NDArray[np.int8]
) -> NDArray[np.int8]:
    """int8 (n,): the official split of each group; the first of several, `UNASSIGNED` if none."""
    group_split = np.full(n, len(SPLITS), dtype=np.int8)
    named = official != UNASSIGNED
    np.minimum.at(group_split, members[named], official[named])
    group_split[group_split == len(SPLITS)] = UNASSIGNED
    return group_split


def _divide(
    groups: NDArray[Any], sizes: NDArray[np.intp], train_split: float, seed: int
) -> NDArray[np.int8]:
    """int8 (G,): train or val for each group."""
    key = str(seed).encode()
    hashes = np.empty(len(groups), dtype=np.uint64)
    for i, group in enumerate(groups.tolist()):
        digest = hashlib.blake2b(group.encode(), digest_size=8, key=key).digest()
        hashes[i] = int.from_bytes(digest, "big")
    # The position decides between equal hashes, so that the order is always the same.
    order = np.lexsort((np.arange(len(groups)), hashes))
    # in_train[g]: images in train if the first g groups go there.
    in_train = np.concatenate([[0], np.cumsum(sizes[order])])
    first_val = int(np.argmin(np.abs(in_train - train_split * in_train[-1])))
    if 0 < train_split < 1 and len(groups) > 1:
        first_val = min(max(first_val, 1), len(groups) - 1)
    split = np.full(len(groups), _VAL, dtype=np.int8)
    split[order[:first_val]] = _TRAIN
    return split
