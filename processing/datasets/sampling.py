"""The order of samples, a function of seed and epoch only, and the steps that ranks make of it.

Keeps no state and uses no global random generator. An order is made for the whole dataset. A step
takes the next samples of that order, and the ranks divide them. So one step sees the same samples
on any number of ranks, and all ranks make the same number of steps. Imports numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


def epoch_order(n: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """Returns the indices 0 to n - 1 in the order of one epoch, int64 (n,).

    Args:
        n: number of samples in the dataset.
        seed: not negative.
        epoch: not negative, the first is 0.

    Raises:
        ValueError: `seed` or `epoch` is negative.
    """
    if seed < 0 or epoch < 0:
        raise ValueError(f"seed and epoch must not be negative, found {seed} and {epoch}")
    # numpy guarantees the raw bits of a PCG64 for all versions, but not those of `permutation`.
    bits = np.random.PCG64(np.random.SeedSequence((seed, epoch))).random_raw(n)
    return np.argsort(bits)


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
