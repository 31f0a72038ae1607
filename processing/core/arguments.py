"""Checks of arguments: an error names each argument of the wrong type or out of range.

numpy's scalars count as Python's own, because settings are often computed with numpy.
"""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final, TypeAlias, cast
from urllib.parse import urlsplit

import numpy as np

from processing.core.urls import URL, Location, is_url

StrPath: TypeAlias = str | os.PathLike[str]

MAX_INT64: Final = (1 << 63) - 1


def check_integer(name: str, value: object, *, least: int) -> int:
    """Returns an integer, also one of numpy's, as an int.

    Args:
        name: of the argument, for the error's message.
        value: to be checked.
        least: smallest value allowed; the largest is `MAX_INT64`.

    Raises:
        TypeError: `value` is not an integer.
        ValueError: `value` is out of range.
    """
    # True is an int in Python, but as a number of images or threads it is a mistake.
    if isinstance(value, bool | np.bool_) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    try:
        number = operator.index(value)
    except TypeError as error:  # an array has `__index__`, but only that of one integer works
        raise TypeError(f"{name} must be an integer, got {value!r}") from error
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    if number > MAX_INT64:
        raise ValueError(
            f"{name} must be at most {MAX_INT64:,}, got a number of {number.bit_length()} bits"
        )
    return number


def check_number(name: str, value: object, *, least: float, most: float = math.inf) -> float:
    """Returns a number, also one of numpy's, as a float.

    Args:
        name: of the argument, for the error's message.
        value: to be checked.
        least: smallest value allowed.
        most: largest value allowed.

    Raises:
        TypeError: `value` is not a number.
        ValueError: `value` is out of range, or NaN.
    """
    if isinstance(value, bool | np.bool_ | str) or not hasattr(value, "__float__"):
        raise TypeError(f"{name} must be a number, got {value!r}")
    try:
        number = float(value)
    except TypeError as error:  # an array has `__float__`, but only that of one number works
        raise TypeError(f"{name} must be a number, got {value!r}") from error
    except OverflowError:  # an integer beyond all floats
        number = math.inf
    if not least <= number <= most:  # False for NaN, whatever the range
        wanted = f"at least {least:g}" if most == math.inf else f"in [{least:g}, {most:g}]"
        raise ValueError(f"{name} must be {wanted}, got {number:g}")
    return number


def check_flag(name: str, value: object) -> bool:
    """Returns True or False, also numpy's, as a bool.

    Strings such as "no" are refused, because they would count as true.

    Args:
        name: of the argument, for the error's message.
        value: to be checked.

    Raises:
        TypeError: `value` is neither True nor False.
    """
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be true or false, got {value!r}")
    return bool(value)


def check_path(name: str, value: StrPath) -> Path:
    """Returns a path with a leading ``~`` or ``~user`` replaced by that home directory.

    Args:
        name: of the argument, for the error's message.
        value: to be checked.

    Raises:
        TypeError: `value` is not a path.
        ValueError: `value` is empty, as an unset variable is; or there is no such home directory.
    """
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} must be a path, got {value!r}")
    if is_url(text := os.fspath(value)):
        raise ValueError(f"{name}: expected a local path, found the URL {text!r}")
    if not text:
        raise ValueError(f"{name} is empty: was a variable not set? '.' is the working directory")
    try:
        return Path(value).expanduser()
    except RuntimeError as error:
        raise ValueError(
            f"{name}={os.fspath(value)!r}: no home directory is known for its first part"
        ) from error


def check_location(name: str, value: StrPath | URL) -> Location:
    """Returns a path as `check_path` does, or a URL; for ``file://`` its path.

    Args:
        name: of the argument, for the error's message.
        value: to be checked.

    Raises:
        TypeError: `value` is neither a path nor a URL.
        ValueError: `value` is empty, or a URL with a query; or there is no such home directory.
    """
    if not is_url(value):
        return check_path(name, cast(StrPath, value))
    scheme, _, rest = str(value).partition("://")
    if scheme.lower() == "file":
        # Imported here: its clients for HTTP and e-mail take a third of the time of numpy.
        from urllib.request import url2pathname

        return check_path(name, url2pathname(urlsplit(str(value)).path))
    url = URL(f"{scheme.lower()}://{rest.rstrip('/')}")
    if not rest.strip("/"):
        raise ValueError(f"{name}={str(value)!r}: names no bucket, host or directory")
    if url.is_on_web_server and set("?#") & set(url.text):
        raise ValueError(
            f"{name}={url.text!r}: URLs with a query are not read, because the other files of a "
            "set could not be found: give a URL without '?' and '#'"
        )
    return url


def check_different(name: str, paths: Iterable[StrPath | URL]) -> None:
    """Checks that no two paths lead to the same place, be it through links or ``..``.

    Args:
        name: of the argument, for the error's message.
        paths: files or directories, or their URLs; they need not exist.

    Raises:
        ValueError: two of them do; the message names both.
    """
    repeated = repeated_path(paths)
    if repeated is not None:
        raise ValueError(f"{name} names {repeated}; give each place once")


def repeated_path(paths: Iterable[StrPath | URL]) -> str | None:
    """Finds a place that two paths lead to, be it through links or ``..``.

    Args:
        paths: files or directories; they need not exist.

    Returns:
        Words for a message, such as ``'a' twice, spelt as 'b/../a'``; None if there is none.
    """
    seen: dict[object, str] = {}
    for path in paths:
        place = _place(path)
        if place in seen:
            first, again = seen[place], str(path)
            return f"{first!r} twice" + ("" if first == again else f", spelt as {again!r}")
        seen[place] = str(path)
    return None


def _place(path: StrPath | URL) -> object:
    if isinstance(path, URL):
        return path
    try:
        status = Path(path).stat()
    except OSError:  # absent: links on the way to it may exist
        return os.path.realpath(path)
    return status.st_dev, status.st_ino
