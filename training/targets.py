"""Finds which arguments a ``_target_`` of the settings takes, or why there is no such target."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from training.hints import first_line, hints_of, nearest


class Problem(str):
    """A message in place of a value that cannot be had."""

    __slots__ = ()


class Reference(Problem):
    """A message about a value that refers to another."""

    __slots__ = ()


@dataclass(frozen=True)
class Arguments:
    """The arguments of a class or function.

    Args:
        parameters: each by its name; those that do not have the default ``empty`` may be left out.
        hints: type hints by name; a missing one allows every value.
    """

    parameters: Mapping[str, inspect.Parameter]
    hints: Mapping[str, Any]

    @property
    def takes_any(self) -> bool:
        """Whether unknown names are allowed: ``**kwargs``."""
        kinds = [one.kind for one in self.parameters.values()]
        return inspect.Parameter.VAR_KEYWORD in kinds

    @property
    def required(self) -> list[str]:
        """The names that must be given."""
        single = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        return [
            name
            for name, one in self.parameters.items()
            if one.default is one.empty and one.kind in single
        ]


def imported_arguments(name: str, key: str) -> Arguments | Problem | None:
    """Import a class or function and return its arguments.

    Args:
        name: dotted name.
        key: full key of the setting that holds it, for messages.

    Returns:
        The arguments, a message if there is no such target, or None for a function that is built
        into Python and checks its arguments itself.
    """
    try:
        target = _found(name)
    except Exception as error:  # importing a module of the user can raise anything
        module, _, last = name.rpartition(".")
        where = ""
        if isinstance(error, ModuleNotFoundError):
            where = " among the installed packages and in the current directory"
        return Problem(
            f"{key}={name}: cannot be imported: {first_line(error)}{where}{_sibling(module, last)}"
        )
    if not callable(target):
        return Problem(f"{key}={name}: is neither a class nor a function")
    return _arguments_of(target)


def _arguments_of(target: Callable[..., Any]) -> Arguments | None:
    try:
        return Arguments(inspect.signature(target).parameters, hints_of(target))
    except (TypeError, ValueError):
        return None


def _found(name: str) -> Any:
    """Return the object with a dotted name; Hydra's own function also logs its errors."""
    first, *parts = name.split(".")
    found, path = importlib.import_module(first), first
    for part in parts:
        path = f"{path}.{part}"
        if not hasattr(found, part) and inspect.ismodule(found):
            importlib.import_module(path)
        found = getattr(found, part)
    return found


def _sibling(module: str, name: str) -> str:
    """Return the most similar name in the same module, as a question."""
    try:
        names = dir(_found(module)) if module else []
    except Exception:  # the message about the target says what is wrong
        return ""
    return nearest(name, [f"{one}" for one in names if not one.startswith("_")])
