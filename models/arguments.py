"""Checks of the models' arguments: an error names the argument, its value and what is allowed."""

from __future__ import annotations

import math


def check_count(name: str, value: object, *, least: int) -> None:
    """Check that an argument is an integer that is not too small.

    Raises:
        TypeError: it is no integer.
        ValueError: it is less than `least`.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")


def check_positive(name: str, value: object) -> None:
    """Check that an argument is a finite number above 0.

    Raises:
        TypeError: it is no number.
        ValueError: it is 0, negative, infinite or NaN.
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be above 0 and finite, got {value:g}")
