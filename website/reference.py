"""The configuration reference, made from the code when the site is built.

A page asks for a part by a comment, which GitHub does not show:

- ``<!-- arguments: processing.data_processor.DataProcessor -->``: a table of a class's arguments,
  from its signature and its docstring;
- ``<!-- commands -->``: the help of each verb of ``python -m processing``;
- ``<!-- conf -->``: the files of ``conf/`` with their comments.

So the reference cannot differ from the code. The sources are parsed, not imported, except for the
command lines.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final
from unittest import mock

import griffe

ROOT: Final = Path(__file__).parents[1]

_COMMENT: Final = re.compile(r"^<!-- (arguments|commands|conf)(?:: ([\w.]+))? -->$", re.MULTILINE)
_REQUIRED: Final = "required"


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
    names = [one.name for one in found.parameters if one.name != "self"]
    if sorted(names) != sorted(documented):
        odd = sorted(set(names) ^ set(documented))
        raise ValueError(f"{name}: signature and docstring differ in {', '.join(odd)}")
    lines = ["| argument | type | default | meaning |", "|---|---|---|---|"]
    for one in found.parameters:
        if one.name == "self":
            continue
        cells = (
            f"`{one.name}`",
            _code(str(one.annotation)),
            _REQUIRED if one.default is None else _code(str(one.default)),
            _sentence(documented[one.name]),
        )
        lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(lines)


@cache
def _package(name: str) -> Any:
    return griffe.load(name, search_paths=[ROOT])


def _object(name: str) -> Any:
    package, _, rest = name.partition(".")
    return _package(package)[rest]


def _documented(found: Any) -> dict[str, str]:
    """Return the descriptions of arguments in a docstring, by name."""
    for part in found.docstring.parse("google"):
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
