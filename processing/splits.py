"""Which split an image belongs to: the official one, else by a keyed hash of its group.

A pure function of paths, official splits, seed and grouping: the order of the input, the machine
and the number of calls do not matter. Imports no decoder.
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
    """Gives every image a split.

    Images of one group are never divided, unless the data's own official splits divide them. Groups
    without an official split are ordered by their hash, and the first go to train until its share
    of those images is as near to `train_split` as whole groups allow (exact where a group is one
    image). Adding images moves only those at the border. With two groups or more, neither side is
    empty unless `train_split` is 0 or 1.

    Args:
        image_paths: (N,) paths relative to the raw directory.
        official: int8 (N,) positions in `SPLITS`, or `UNASSIGNED`.
        train_split: share of the images without an official split that go to train, in [0, 1].
        seed: key of the hash.
        group_by: regular expression; what the first of its groups that finds something (or else the
            whole match) finds in a path names the image's group. An image that it does not match is
            a group of its own. None: every image is.

    Returns:
        int8 (N,) positions in `SPLITS`.

    Raises:
        ValueError: `train_split` outside [0, 1], or `group_by` is no regular expression.
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
    """`group_by` compiled.

    Raises:
        TypeError: it is no text.
        ValueError: it is no regular expression.
    """
    if not isinstance(group_by, str):
        raise TypeError(f"group_by must be a regular expression, got {group_by!r}")
    try:
        return re.compile(group_by)
    except re.error as error:
        raise ValueError(f"group_by={group_by!r} is no regular expression: {error}") from error


def _groups(image_paths: NDArray[Any] | Sequence[str], group_by: str | None) -> list[str]:
    if group_by is None:
        return [str(path) for path in image_paths]
    pattern = group_pattern(group_by)
    groups = []
    for path in map(str, image_paths):
        match = pattern.search(path)
        texts = () if match is None else match.groups() or (match.group(),)
        groups.append(next(filter(None, texts), path))
    return groups


def _official_of_groups(
    n: int, members: NDArray[np.intp], official: NDArray[np.int8]
) -> NDArray[np.int8]:
    """int8 (n,): the official split that a group's other images follow; the first if several."""
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
    hashes = [
        int.from_bytes(hashlib.blake2b(group.encode(), digest_size=8, key=key).digest(), "big")
        for group in groups.tolist()
    ]
    order = np.lexsort((np.arange(len(groups)), np.array(hashes, dtype=np.uint64)))
    in_train = np.concatenate(
        [[0], np.cumsum(sizes[order])]
    )  # images in train if the first g go there
    first_val = int(np.argmin(np.abs(in_train - train_split * in_train[-1])))
    if 0 < train_split < 1 and len(groups) > 1:
        first_val = min(max(first_val, 1), len(groups) - 1)
    split = np.full(len(groups), _VAL, dtype=np.int8)
    split[order[:first_val]] = _TRAIN
    return split
