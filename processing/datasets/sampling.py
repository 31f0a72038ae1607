"""The steps that ranks make of the order of an epoch, and the batches of one rank.

A step takes the next samples of the order, and the ranks divide them. So one step sees the same
samples on any number of ranks, and all ranks make the same number of steps. Imports numpy only.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from processing.core.columns import offsets_of
from processing.datasets.orders import Order

_SAMPLES_AT_ONCE: Final = 16_384
"""Indices that are computed together: one by one, they would take 30 times as long."""


@dataclass(frozen=True)
class Steps:
    """The steps that read a part of an epoch's order, on all ranks together.

    Each step takes `batch_size` samples for each rank; the last one takes the samples that are
    left. If the last step would have fewer samples than there are ranks, the step before it leaves
    some to it, so that no rank is without a sample. That is impossible only if there are fewer
    samples than ranks, or if `batch_size` is 1. A rank without a sample then repeats one.

    Args:
        begin: position in the order at which the first step begins; not negative.
        end: position in the order after the last sample.
        batch_size: samples of each rank in a step; at least 1.
        world_size: number of ranks; at least 1.
        drop_last: whether to leave out the last step if it is smaller.

    Example:
        >>> steps = Steps(0, 9, batch_size=4, world_size=2)
        >>> [steps.span(step) for step in range(len(steps))]
        [(0, 7), (7, 9)]
    """

    begin: int
    end: int
    batch_size: int
    world_size: int = 1
    drop_last: bool = False

    @property
    def samples_per_step(self) -> int:
        """Samples that all ranks together read in a whole step."""
        return self.batch_size * self.world_size

    def __len__(self) -> int:
        return self._count

    @functools.cached_property
    def _count(self) -> int:
        left = max(self.end - self.begin, 0)
        if self.drop_last:
            return left // self.samples_per_step
        return -(-left // self.samples_per_step)

    def span(self, step: int) -> tuple[int, int]:
        """Returns the positions in the order where a step begins and where it ends.

        Args:
            step: in ``[0, len)``.
        """
        return self._boundary(step), self._boundary(step + 1)

    def _boundary(self, step: int) -> int:
        """Returns the position after `step` steps."""
        position = self.begin + step * self.samples_per_step
        if self.drop_last:
            return position
        is_before_last = 0 < step == len(self) - 1
        if is_before_last and self.batch_size > 1:
            return min(position, self.end - self.world_size)
        return min(position, self.end)


class RankBatches:
    """The batches of one rank in a part of an epoch, as indices of samples.

    Args:
        order: of the whole dataset in this epoch.
        steps: the steps of all ranks.
        rank: in ``[0, steps.world_size)``.
    """

    def __init__(self, order: Order, steps: Steps, rank: int) -> None:
        self._order = order
        self._steps = steps
        self._rank = rank
        self._steps_at_once = max(1, _SAMPLES_AT_ONCE // steps.batch_size)
        # Two: the batches to read, and those to announce, which come later.
        self._indices_of = functools.lru_cache(maxsize=2)(self._computed)

    def __len__(self) -> int:
        return len(self._steps)

    def indices(self, step: int) -> NDArray[np.int64]:
        """Returns the indices of a batch, int64 (B,); empty for a step after the last one."""
        if step >= len(self._steps):
            return np.empty(0, np.int64)
        block, position = divmod(step, self._steps_at_once)
        return self._indices_of(block)[position]

    def is_valid(self, step: int) -> bool:
        """Whether the samples of a step belong to this rank.

        A rank that has no sample in this step reads the first sample of the step in its place.
        """
        begin, end = self._steps.span(step)
        return begin + self._rank < end

    def _computed(self, block: int) -> list[NDArray[np.int64]]:
        """Computes the indices of all steps of a block."""
        first = block * self._steps_at_once
        last = min(first + self._steps_at_once, len(self._steps))
        positions = [self._positions(step) for step in range(first, last)]
        indices = self._order.at(np.concatenate(positions))
        # `np.split` would take ten times as long.
        boundaries = offsets_of(list(map(len, positions))).tolist()
        return [indices[begin:end] for begin, end in pairwise(boundaries)]

    def _positions(self, step: int) -> NDArray[np.int64]:
        begin, end = self._steps.span(step)
        world_size = self._steps.world_size
        if not self._order.has_pattern:
            own = np.arange(begin + self._rank, end, world_size)
            return own if len(own) else np.array([begin])
        # If every n-th sample is of one dataset, n ranks would each see one dataset only.
        each, more = divmod(end - begin, world_size)
        first = begin + self._rank * each + min(self._rank, more)
        count = each + (self._rank < more)
        return np.arange(first, first + count) if count else np.array([begin])
