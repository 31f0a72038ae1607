"""Reads the arguments of a class from its source, so that nothing has to be imported.

Importing torch and Lightning takes seconds, and a mistyped setting is found without either. Only
arguments that are known for certain are returned: a class whose constructor another class, a
decorator or a metaclass may change has to be imported, and a hint that names other classes is
`Any`.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, cast

from training.targets import Arguments

PACKAGES = ("datamodules", "lightning", "models", "processing", "training")
"""Packages whose classes are read; those of the user may do anything when they are imported."""
PLAIN = ("collections.abc", "datetime", "os", "pathlib", "typing")
"""Modules of Python whose names may occur in a hint."""
KEEPS_ARGUMENTS = ("_defaults_from_env_vars",)
"""Decorators of constructors that leave the arguments as they are; this one is the Trainer's."""
MOST_STEPS = 10
"""Imports or base classes that are followed from a name to the class."""


class _Definition(NamedTuple):
    module: _Module
    statement: ast.stmt


def declared_arguments(name: str, key: str) -> Arguments | None:
    """Return the arguments of a class, or None if it may have to be imported to know them.

    Args:
        name: dotted name.
        key: of the setting that holds the name; not used, as nothing is reported.
    """
    module_name, _, last = name.rpartition(".")
    module = _module(module_name) if name.startswith(tuple(f"{one}." for one in PACKAGES)) else None
    constructor = None if module is None else _constructor(module.definition(last))
    if constructor is None:
        return None
    module, arguments = constructor
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    hints = {one.arg: module.hint(one.annotation) for one in named if one.annotation is not None}
    return Arguments(dict(_parameters(arguments)), hints)


def _constructor(found: _Definition | None) -> tuple[_Module, ast.arguments] | None:
    """Return the arguments of the ``__init__`` of a class or of its only base, and its module."""
    for _ in range(MOST_STEPS):
        if found is None:
            return None
        module, node = found
        if not isinstance(node, ast.ClassDef) or node.keywords:
            return None
        methods = {one.name: one for one in node.body if isinstance(one, ast.FunctionDef)}
        if "__new__" in methods:
            return None
        if node.decorator_list:
            fields = None if "__init__" in methods else _fields(node)
            return None if fields is None else (module, fields)
        if "__init__" in methods:
            function = methods["__init__"]
            decorators = {ast.unparse(one) for one in function.decorator_list}
            return (module, function.args) if decorators <= set(KEEPS_ARGUMENTS) else None
        if len(node.bases) != 1 or not isinstance(node.bases[0], ast.Name):
            return None
        found = module.definition(node.bases[0].id)
    return None


def _fields(node: ast.ClassDef) -> ast.arguments | None:
    """Return the arguments of a plain dataclass: without bases and without special fields."""
    decorators = [ast.unparse(one) for one in node.decorator_list]
    if decorators not in (["dataclass"], ["dataclass(frozen=True)"]) or node.bases:
        return None
    names, defaults = [ast.arg("self")], []
    for one in node.body:
        if not isinstance(one, ast.AnnAssign):
            continue
        if isinstance(one.value, ast.Call) or "Var" in ast.unparse(one.annotation):
            return None
        names.append(ast.arg(ast.unparse(one.target), one.annotation))
        if one.value is not None:
            defaults.append(one.value)
    return ast.arguments([], names, None, [], [], None, defaults)


def _parameters(arguments: ast.arguments) -> Iterator[tuple[str, inspect.Parameter]]:
    """Yield the parameters after ``self``; a default is None, whatever the source says."""
    positional = [*arguments.posonlyargs, *arguments.args]
    required = len(positional) - len(arguments.defaults)
    for position, one in list(enumerate(positional))[1:]:
        default = inspect.Parameter.empty if position < required else None
        yield one.arg, _parameter(one, inspect.Parameter.POSITIONAL_OR_KEYWORD, default)
    if arguments.vararg:
        yield arguments.vararg.arg, _parameter(arguments.vararg, inspect.Parameter.VAR_POSITIONAL)
    for one, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        default = inspect.Parameter.empty if value is None else None
        yield one.arg, _parameter(one, inspect.Parameter.KEYWORD_ONLY, default)
    if arguments.kwarg:
        yield arguments.kwarg.arg, _parameter(arguments.kwarg, inspect.Parameter.VAR_KEYWORD)


def _parameter(
    argument: ast.arg, kind: Any, default: object = inspect.Parameter.empty
) -> inspect.Parameter:
    return inspect.Parameter(argument.arg, kind, default=default)


class _Module:
    """The names that the source of a module binds; a mapping for `eval`.

    Args:
        name: of the module.
        path: of its source.
    """

    def __init__(self, name: str, path: Path) -> None:
        self._package = name if path.stem == "__init__" else name.rpartition(".")[0]
        self._bound: dict[str, ast.stmt | None] = {}
        for bound, statement in _bindings(ast.parse(path.read_text("utf-8")).body):
            # Bound twice, such as by a fallback for an older version: not known for certain.
            self._bound[bound] = None if bound in self._bound else statement

    def definition(self, name: str) -> _Definition | None:
        """Return the statement that defines a name, in this module or in one it imports from."""
        module: _Module | None = self
        for _ in range(MOST_STEPS):
            statement = None if module is None else module._bound.get(name)
            if module is None or statement is None:
                return None
            if not isinstance(statement, ast.ImportFrom):
                return _Definition(module, statement)
            name = _imported_name(statement, name)
            module = _module(module._source_of(statement))
        return None

    def hint(self, annotation: ast.expr) -> Any:
        """Return an evaluated type hint; `Any` if it has names that are not known for certain."""
        try:
            return self._value(annotation)
        except (NameError, TypeError, AttributeError, RecursionError):
            return Any

    def _value(self, expression: ast.expr) -> Any:
        code = compile(ast.Expression(expression), "<annotation>", "eval")
        # `eval` needs no more of a mapping than this.
        return eval(
            code, {}, cast("Mapping[str, Any]", self)
        )  # a hint or an alias of one, of an installed module

    def __getitem__(self, name: str) -> Any:
        """Return the value of a name in a hint.

        Raises:
            KeyError: the module does not bind it; it may be one of Python's own.
            NameError: its value is not known for certain.
        """
        statement = self._bound[name]
        if isinstance(statement, ast.ImportFrom) and self._source_of(statement) in PLAIN:
            return getattr(
                importlib.import_module(self._source_of(statement)),
                _imported_name(statement, name),
            )
        if isinstance(statement, ast.Import) and name in PLAIN:
            return importlib.import_module(name)
        found = self.definition(name)
        if found is None or not isinstance(found.statement, ast.Assign | ast.AnnAssign):
            raise NameError(name)
        if found.statement.value is None:
            raise NameError(name)
        return found.module._value(found.statement.value)

    def _source_of(self, statement: ast.ImportFrom) -> str:
        """Return the full name of the module that names are imported from."""
        if not statement.level:
            return statement.module or ""
        parents = self._package.split(".")
        parents = parents[: len(parents) - statement.level + 1]
        return ".".join([*parents, *([statement.module] if statement.module else [])])


def _imported_name(statement: ast.ImportFrom, bound: str) -> str:
    return next(one.name for one in statement.names if (one.asname or one.name) == bound)


def _bindings(body: Sequence[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    """Yield the names that statements bind, those inside ``if`` and ``try`` as well."""
    for one in body:
        if isinstance(one, ast.ClassDef | ast.FunctionDef):
            yield one.name, one
        elif isinstance(one, ast.Import | ast.ImportFrom):
            for alias in one.names:
                yield alias.asname or alias.name, one
        elif isinstance(one, ast.Assign):
            for target in one.targets:
                yield ast.unparse(target), one
        elif isinstance(one, ast.AnnAssign):
            yield ast.unparse(one.target), one
        elif isinstance(one, ast.If):
            yield from _bindings([*one.body, *one.orelse])
        elif isinstance(one, ast.Try):
            handlers = [inner for handler in one.handlers for inner in handler.body]
            yield from _bindings([*one.body, *handlers, *one.orelse, *one.finalbody])


@cache
def _module(name: str) -> _Module | None:
    """Return the source of a module, found without importing the packages around it."""
    first, *parts = name.split(".")
    try:
        spec = importlib.util.find_spec(first)
    except (ImportError, ValueError):  # such as a module that was made by hand
        return None
    if spec is None or not spec.has_location or spec.origin is None:
        return None
    path = Path(spec.origin)
    for part in parts:
        package = path.parent / part / "__init__.py"
        path = package if package.is_file() else path.with_name(f"{part}.py")
    return _Module(name, path) if path.suffix == ".py" and path.is_file() else None
