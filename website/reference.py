"""The configuration reference, made from the code when the site is built.

A page asks for a part by a comment, which GitHub does not show:

- ``<!-- arguments: processing.data_processor.DataProcessor -->``: a table of a class's arguments,
  from its signature and its docstring;
- ``<!-- commands -->``: the help of each verb of ``npz-vision``;
- ``<!-- conf -->``: the files of ``conf/`` with their comments.

So the reference cannot differ from the code.
"""

from __future__ import annotations

import argparse
import inspect
import os
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from unittest import mock

import griffe

ROOT: Final = Path(__file__).parents[1]

_COMMENT: Final = re.compile(r"^<!-- (arguments|commands|conf)(?:: ([\w.]+))? -->$", re.MULTILINE)


def fill_in(markdown: str, page: str) -> str:
    """Return a page with the parts that its comments ask for.

    Args:
        markdown: the page.
        page: its name, for messages.
    """

    def part(comment: re.Match[str]) -> str:
        kind, name = comment[1], comment[2]
        if kind == "arguments":
            if name is None:
                raise ValueError(f"{page}: expected the name of a class in {comment[0]}")
            return arguments_table(name)
        return "\n".join(command_helps() if kind == "commands" else conf_files())

    return _COMMENT.sub(part, markdown)


def arguments_table(name: str) -> str:
    """Return a Markdown table of the arguments of a class or function.

    Args:
        name: with its module, such as ``processing.data_processor.DataProcessor``.

    Raises:
        ValueError: an argument is not documented, or a documented one does not exist.
    """
    found = _object(name)
    documented = _documented(found)
    parameters = {
        key: one for key, one in inspect.signature(found).parameters.items() if key != "self"
    }
    if sorted(parameters) != sorted(documented):
        odd = sorted(set(parameters) ^ set(documented))
        raise ValueError(f"{name}: signature and docstring differ in {', '.join(odd)}")
    lines = ["| argument | type | default | meaning |", "|---|---|---|---|"]
    for key, one in parameters.items():
        required = one.default is inspect.Parameter.empty
        cells = (
            f"`{key}`",
            _code(str(one.annotation)),  # a text: annotations are not evaluated
            "required" if required else _code(repr(one.default)),
            _sentence(documented[key]),
        )
        # Python-Markdown leaves a | inside of code alone, and would show a backslash before it.
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _object(name: str) -> Any:
    """Import a class, a function or a method by its name."""
    return pkgutil.resolve_name(name)


def _documented(found: Any) -> dict[str, str]:
    """Return the descriptions of arguments in a docstring, by name."""
    docstring = griffe.Docstring(inspect.getdoc(found) or "")
    for part in griffe.parse_google(docstring, warnings=False):
        if part.kind is griffe.DocstringSectionKind.parameters:
            return {one.name: one.description for one in part.value}
    return {}


def _code(text: str) -> str:
    """Return code for a cell of a table."""
    return f"`{' '.join(text.split())}`"


def _sentence(text: str) -> str:
    """Return a description in one line, with its code as Markdown writes it."""
    return " ".join(text.replace("``", "`").split())


def command_helps() -> Iterator[str]:
    """Yield a heading and the help of each verb."""
    from processing.__main__ import command_parser

    # argparse wraps lines at the width of the terminal, if there is one.
    with mock.patch.dict(os.environ, COLUMNS="80"):
        parser = command_parser()
        verbs = _verbs(parser)
        for verb, its_parser in verbs.items():
            yield f"### `{verb}`\n"
            yield f"```text\n{its_parser.format_help().strip()}\n```\n"


def _verbs(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    raise ValueError("the command has no verbs")


def conf_files() -> Iterator[str]:
    """Yield a heading and the content of each file of ``conf/``; main file first."""
    folder = ROOT / "conf"
    for path in sorted(folder.rglob("*.yaml"), key=lambda path: (path.parent != folder, path)):
        name = path.relative_to(ROOT).as_posix()
        yield f"### `{name}`\n"
        yield f"```yaml\n{path.read_text().strip()}\n```\n"
