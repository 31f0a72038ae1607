"""Checks that the keypoints of a COCO file fit their categories. The rules are in `coco.reader`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from processing.core.annotations import Flag
from processing.core.columns import RaggedArray
from processing.core.errors import Rejection
from processing.sources.coco.instances import CocoInstances


def check_keypoints(
    instances: CocoInstances,
    path: str,
    categories: Sequence[str],
    names: Mapping[int, tuple[str, ...]],
) -> tuple[CocoInstances, list[Rejection], set[int]]:
    """Rejects points that do not fit their category, or that would be mixed with others.

    Args:
        instances: all instances of a file.
        path: the file, for rejections.
        categories: the names of the categories.
        names: the names of the points by label, where the category has any.

    Returns:
        The remaining instances, the rejections, and the rows that lost an instance.
    """
    lengths = instances.points.lengths
    expected = _expected_counts(instances.labels, lengths, names)
    wrong = expected != lengths
    rejections = [
        _wrong_count(instances, path, i, int(expected[i]), categories)
        for i in np.flatnonzero(wrong).tolist()
    ]
    missing = set(instances.rows[wrong].tolist())
    if wrong.any():
        instances = instances.take(np.flatnonzero(~wrong))
    mixed = _different_names(instances.labels, instances.points.lengths, names)
    if mixed:
        listed = ", ".join(repr(categories[label]) for label in mixed[:5])
        message = (
            f"{path}: the categories {listed} name their keypoints differently; landmarks of "
            "different kinds are not mixed, so no points of this file are read. Give each kind a "
            "file in a raw directory of its own"
        )
        rejections.append(Rejection(path, "annotation", "mixed_keypoints", message))
        boxed = instances.flags & np.uint8(Flag.NO_BOX) == 0
        missing |= set(instances.rows[~boxed].tolist())
        instances = instances.take(np.flatnonzero(boxed))
        no_points = RaggedArray(
            np.zeros((0, 3), dtype=np.float32), np.zeros(len(instances.labels) + 1, dtype=np.int64)
        )
        instances = dataclasses.replace(instances, points=no_points)
    return instances, rejections, missing


def _wrong_count(
    instances: CocoInstances, path: str, i: int, expected: int, categories: Sequence[str]
) -> Rejection:
    category = categories[int(instances.labels[i])]
    wanted = f"{expected} keypoints, as the category {category!r} has"
    if expected < 0:
        wanted = (
            f"the same number of keypoints in the whole category {category!r}, which names none"
        )
    return Rejection(
        path,
        "annotation",
        "malformed",
        f"{path}: annotations[{int(instances.entries[i])}]: expected {wanted}, found "
        f"{int(instances.points.lengths[i])}",
    )


def _expected_counts(
    labels: NDArray[np.int32], lengths: NDArray[np.int64], names: Mapping[int, tuple[str, ...]]
) -> NDArray[np.int64]:
    """Returns int64 (I,): how many points each instance should have, 0 where it has none.

    A category has as many points as it names. Without names, most of its instances decide; -1 where
    no number is more frequent than all others.

    Args:
        labels: (I,) the category of each instance.
        lengths: (I,) how many points it has.
        names: the names of the points by category, where it has any.
    """
    with_points = lengths > 0
    by_label: dict[int, int] = {label: len(listed) for label, listed in names.items()}
    pairs, counts = np.unique(
        np.stack([labels[with_points], lengths[with_points]]), axis=1, return_counts=True
    )
    for label in sorted(set(pairs[0].tolist()) - set(by_label)):
        own = pairs[0] == label
        most = counts[own].max()
        favourites = pairs[1][own][counts[own] == most]
        by_label[label] = int(favourites[0]) if len(favourites) == 1 else -1
    expected = np.zeros(len(labels), dtype=np.int64)
    for label, count in by_label.items():
        expected[with_points & (labels == label)] = count
    return expected


def _different_names(
    labels: NDArray[np.int32], lengths: NDArray[np.int64], names: Mapping[int, tuple[str, ...]]
) -> list[int]:
    """Finds categories with points that have other names, or another order of them.

    Args:
        labels: as in `_expected_counts`.
        lengths: as in `_expected_counts`.
        names: as in `_expected_counts`.

    Returns:
        One category for each list of names, in the order of the categories; empty if all have the
        same names.
    """
    first: dict[tuple[str, ...], int] = {}
    for label in np.unique(labels[lengths > 0]).tolist():
        if label in names:
            first.setdefault(names[label], label)
    return list(first.values()) if len(first) > 1 else []
