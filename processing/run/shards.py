"""Shards: the images of a split divided into parts, before any image is read.

The division is a pure function of annotations and options. The order of the work and the
number of jobs do not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from processing.core.annotations import SPLITS, AnnotationTable
from processing.imaging.tasks import Task
from processing.npz.sets import Shard


class ShardPlan(NamedTuple):
    """One part of a split, for all tasks: an image is decoded once for all of them.

    Args:
        split: name of the split.
        shard: number of the part, and of all parts.
        images: int64 (M,), positions in the table, ascending.
    """

    split: str
    shard: Shard
    images: NDArray[np.int64]

    @property
    def name(self) -> str:
        """``train-00003-of-00012``."""
        return f"{self.split}{self.shard.ending}"

    def file_name(self, task: str) -> str:
        """The name of its file of one task, without ending."""
        return f"{self.split}_{task}{self.shard.ending}"


def divide(
    table: AnnotationTable,
    splits: NDArray[np.int8],
    tasks: Sequence[Task],
    samples_per_shard: int,
) -> list[ShardPlan]:
    """Divides the images of each split, in the order in which they are stored.

    Args:
        table: the annotations, ordered by path.
        splits: int8 (N,), positions in `SPLITS`.
        tasks: an image that none of them uses is in no shard.
        samples_per_shard: images of each shard; the last one of a split may have fewer.

    Returns:
        The shards of train, val and test; test has none if the data has no such images, and an
        empty train or val has one without images, as loaders expect both.
    """
    wanted = np.logical_or.reduce([task.images(table) for task in tasks])
    shards = []
    for position, split in enumerate(SPLITS):
        images = np.flatnonzero(wanted & (splits == position))
        if len(images) or split != "test":
            count = max(1, -(-len(images) // samples_per_shard))
            for index in range(count):
                first = index * samples_per_shard
                own = images[first : first + samples_per_shard]
                shards.append(ShardPlan(split, Shard(index, count), own))
    return shards
