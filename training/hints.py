"""Checks plain values against type hints, and describes the allowed values in words."""

from __future__ import annotations

import collections.abc
import inspect
import os
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

SCALARS: dict[object, str] = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a text",
    type(None): "null",
}
PATHS = (os.PathLike, Path)
CALLABLE: object = collections.abc.Callable
UNIONS = (Union, types.UnionType)


def hints_of(target: Callable[..., Any]) -> dict[str, Any]:
    """Return the type hint of each parameter; `Any` for those that cannot be evaluated.

    A hint may name a class that its module imports for type checkers only.
    """
    function = inspect.unwrap(target.__init__ if inspect.isclass(target) else target)
    names = {**vars(typing), **getattr(function, "__globals__", {})}
    hints = {}
    for name, hint in getattr(function, "__annotations__", {}).items():
        hints[name] = _evaluated(hint, names)
    return hints


def _evaluated(hint: Any, names: dict[str, Any]) -> Any:
    if not isinstance(hint, str):
        return hint
    try:
        # An annotation of an imported module, not a text of the user.
        return eval(hint, names)
    except (NameError, TypeError, AttributeError):
        return Any


def fits(value: object, hint: Any) -> bool:
    """Return whether a value of a YAML file suits a hint. Hints that are not understood allow all.

    Args:
        value: None, a bool, a number, a text, a list or a dict without ``_target_``.
        hint: an evaluated type hint.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if hint is None:
        hint = type(None)
    if origin in UNIONS:
        return any(fits(value, one) for one in arguments)
    if origin is Literal:
        return any(value == one and type(value) is type(one) for one in arguments)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in SCALARS:
        return isinstance(value, hint)
    return _suits_class(value, origin or hint, arguments)


def _suits_class(value: object, kind: Any, arguments: tuple[Any, ...]) -> bool:
    if not inspect.isclass(kind) or kind is object or getattr(kind, "_is_protocol", False):
        return True  # Any, a type variable, ...
    if kind is CALLABLE:
        return False  # needs a _target_
    if isinstance(value, str):
        return issubclass(kind, str | PATHS[0] | Path)
    if isinstance(value, Mapping):
        return issubclass(dict, kind) and _all_fit(value.values(), arguments[1:2])
    if isinstance(value, Sequence):
        if issubclass(kind, tuple):
            return len(arguments) != 2 or ... in arguments or len(value) == 2
        return issubclass(list, kind) and _all_fit(value, arguments[:1])
    return isinstance(value, kind)


def _all_fit(values: Iterable[Any], hints: tuple[Any, ...]) -> bool:
    return all(fits(value, hint) for value in values for hint in hints)


def allowed(hint: Any) -> str:
    """Describe the values that a hint allows, such as ``an integer or null``."""
    words = dict.fromkeys(_alternatives(hint))  # each once, in their order
    listed = list(words)
    if "a number" in words and "an integer" in words:
        listed.remove("an integer")
    if len(listed) == 1:
        return listed[0]
    return f"{', '.join(listed[:-1])} or {listed[-1]}"


def _alternatives(hint: Any) -> Iterable[str]:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is None:
        hint = type(None)
    if origin in UNIONS:
        for one in arguments:
            yield from _alternatives(one)
    elif origin is Literal:
        yield from map(str, arguments)
    elif hint in SCALARS:
        yield SCALARS[hint]
    else:
        yield _class_words(origin or hint)


def _class_words(kind: Any) -> str:
    if kind is CALLABLE:
        return "a callable ({_target_: module.Class, ...}, or a function with _partial_: true)"
    if not inspect.isclass(kind):
        return "any value"
    if issubclass(kind, PATHS):
        return "a path"
    if issubclass(dict, kind) and issubclass(kind, Mapping):
        return "a mapping"
    if issubclass(list, kind) or issubclass(kind, tuple):
        return "a list"
    return f"{{_target_: {kind.__module__}.{kind.__qualname__}, ...}}"


def choices(hint: Any) -> list[str]:
    """Return the texts that a hint allows by name."""
    if get_origin(hint) in UNIONS:
        return [name for one in get_args(hint) for name in choices(one)]
    return [one for one in get_args(hint) if isinstance(one, str)] if _is_literal(hint) else []


def _is_literal(hint: Any) -> bool:
    return get_origin(hint) is Literal


def nearest(name: str, valid: Iterable[object]) -> str:
    """Return ``; did you mean NAME?`` for the most similar valid name, or an empty text."""
    found = get_close_matches(name, [str(one) for one in valid], n=1, cutoff=0.6)
    return f"; did you mean {found[0]}?" if found else ""


def first_line(error: object) -> str:
    """Return the first line of an error's message; the other lines hold names and hints."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
