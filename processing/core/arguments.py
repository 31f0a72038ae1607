"""Checks of arguments: the right type, within range, else an error that names the argument."""

from __future__ import annotations

import math
import operator
import os
from pathlib import Path
from typing import Final

MAX_INT64: Final = (1 << 63) - 1


def check_integer(name: str, value: object, *, least: int) -> int:
    """`value` as an int that is at least `least`, and at most `MAX_INT64`.

    Raises:
        TypeError: it is not an integer.
        ValueError: it is less, or more.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    number = operator.index(value)
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    if number > MAX_INT64:
        raise ValueError(
            f"{name} must be at most {MAX_INT64:,}, got a number of {number.bit_length()} bits"
        )
    return number


def check_number(name: str, value: object, *, least: float, most: float = math.inf) -> float:
    """`value` as a float within `least` and `most`.

    Raises:
        TypeError: it is not a number.
        ValueError: it is outside, or NaN.
    """
    if isinstance(value, bool | str) or not hasattr(value, "__float__"):
        raise TypeError(f"{name} must be a number, got {value!r}")
    number = float(value)
    if not least <= number <= most:
        wanted = f"at least {least:g}" if most == math.inf else f"in [{least:g}, {most:g}]"
        raise ValueError(f"{name} must be {wanted}, got {number:g}")
    return number


def check_flag(name: str, value: object) -> bool:
    """`value`, which is True or False: of a text such as "no", both would be made.

    Raises:
        TypeError: it is neither.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be true or false, got {value!r}")
    return value


def check_path(name: str, value: str | os.PathLike[str]) -> Path:
    """`value` as a path, a leading ``~`` or ``~user`` replaced by that home directory.

    Raises:
        TypeError: it is no path.
        ValueError: there is no such home directory, or it is empty, as an unset variable is.
    """
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} must be a path, got {value!r}")
    if not os.fspath(value):
        raise ValueError(f"{name} is empty: was a variable not set? '.' is the working directory")
    try:
        return Path(value).expanduser()
    except RuntimeError as error:
        raise ValueError(
            f"{name}={os.fspath(value)!r}: no home directory is known for its first part"
        ) from error
