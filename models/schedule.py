"""The learning rate of a run: one cycle, which an extended run continues without a jump upwards."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

WARM_UP = 0.3
"""Fraction of the run in which the learning rate rises."""
FIRST, LAST = 0.04, 4e-6
"""Factors of the learning rate at the first step and after the last."""
LEAST_AT_EXTENSION = 0.1
"""Smallest factor with which an extension starts: after a finished run it would learn nothing."""


@dataclass(frozen=True)
class Schedule:
    """The one-cycle policy (Smith and Topin 2018) with cosines, for a planned number of steps.

    The factor of the learning rate rises from 1/25 to 1 in the first 30 % of the run, but at most
    in `longest_rise` steps, then falls to nearly 0. A run without a planned end keeps the factor 1.

    Args:
        rise: steps in which the factor rises.
        start: step at which it begins to fall.
        height: factor at that step.
        end: step at which it has fallen to nearly 0; infinity if the run has no planned end.
    """

    rise: float
    start: float
    height: float
    end: float

    @classmethod
    def planned(cls, steps: float, longest_rise: float = 100) -> Schedule:
        """Return the schedule of a new run of `steps` optimizer steps.

        Args:
            steps: optimizer steps; infinity if the run has no planned end.
            longest_rise: most steps in which the factor rises.
        """
        rise = min(WARM_UP * steps, longest_rise)
        return cls(rise, rise, 1.0, steps)

    def factor(self, step: float) -> float:
        """Return the factor of the learning rate after `step` optimizer steps."""
        if step < self.rise:
            return FIRST + (1 - FIRST) * _ease(step / self.rise)
        if math.isinf(self.end):
            return self.height
        # Steps beyond the end: a run may take more steps than were estimated.
        left = (self.end - step) / max(self.end - self.start, 1e-9)
        return LAST + (self.height - LAST) * _ease(min(max(left, 0.0), 1.0))

    def continued(self, step: int, steps: float) -> Schedule:
        """Return the schedule of a run that continues after `step` steps and ends at `steps`.

        A run that keeps its planned end keeps its schedule. With another end, a rise is completed
        as planned. The factor then falls from its present value, or from a tenth if it is lower,
        to nearly 0 at the new end.
        """
        if steps == self.end:
            return self
        start = max(float(step), self.rise)
        return Schedule(self.rise, start, max(self.factor(start), LEAST_AT_EXTENSION), steps)

    def state_dict(self) -> dict[str, Any]:
        """Return the four numbers, for a checkpoint."""
        return asdict(self)


def _ease(share: float) -> float:
    """Return a value that goes from 0 to 1 along half a cosine as `share` does."""
    return (1 - math.cos(math.pi * share)) / 2
