"""Reads small YAML files in which every value stays the text that was written.

YAML turns ``no`` into False, ``1_0`` into 10 and ``1:30`` into 90, which would change the names of
classes. Text cannot be changed. It also needs no constructors, which cost a minute for hostile
values, and aliases and tags are refused, because they let a short file expand without end or run
code.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import yaml

from processing.core.errors import AnnotationError

_MAX_DEPTH: Final = 50
_MAX_EVENTS: Final = 200_000
"""A class name is one event, or two with its number."""
_PLAIN_TAGS: Final = frozenset(
    f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "str", "null")
)
_EMPTY: Final = frozenset({"", "~", "null", "Null", "NULL"})
# The parser in C takes a second for the largest files, the one in Python takes a minute.
_LOADER: Final = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader


def parse_yaml(text: str) -> Any:
    """Parses one YAML document.

    Returns:
        Dicts with texts as keys, lists, and texts as they were written; None for an empty value.

    Raises:
        AnnotationError: the text is not valid YAML, or uses aliases or tags; reason ``malformed``.
    """
    try:
        return _document(_limited(yaml.parse(text, Loader=_LOADER)))
    except (yaml.YAMLError, RecursionError) as error:
        # PyYAML's messages have several lines; a rejection has one.
        found = " ".join(str(error).split())[:200] or type(error).__name__
        raise _unreadable(found + _remedy(text, error)) from error


def _remedy(text: str, error: Exception) -> str:
    """Says how to correct the two usual mistakes of a line, as part of a sentence."""
    mark = getattr(error, "problem_mark", None)
    number = mark.line if mark is not None else 0
    line = "".join(text.splitlines()[number : number + 1])
    if "\t" in line:
        return f"; line {number + 1} has a tab: indent with spaces"
    if "\\" in line and '"' in line:
        return f"; in line {number + 1} write / in place of each \\, or use single quotes"
    return ""


def _unreadable(found: str) -> AnnotationError:
    return AnnotationError(f"not a readable YAML: {found}", reason="malformed")


def _limited(events: Iterator[yaml.Event]) -> Iterator[yaml.Event]:
    """Passes the events of a file on, unless there are more than any honest file has."""
    for count, event in enumerate(events):
        if count > _MAX_EVENTS:
            raise _unreadable(f"more than {_MAX_EVENTS:,} keys and values before {_line(event)}")
        yield event


def _document(events: Iterator[yaml.Event]) -> Any:
    root = None
    documents = 0
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise _unreadable(f"a second document begins in {_line(event)}, expected one")
        elif isinstance(event, yaml.NodeEvent):
            root = _node(event, events, 0)
    return root


def _node(event: yaml.Event, events: Iterator[yaml.Event], depth: int) -> Any:
    """Builds the value that begins with `event`; takes its other events from `events`."""
    if isinstance(event, yaml.AliasEvent):
        raise _unreadable(f"aliases (*name) are not read, {_line(event)} has one")
    tag = getattr(event, "tag", None)
    if tag not in _PLAIN_TAGS and tag not in (None, "!"):
        raise _unreadable(f"there is no constructor for the tag {tag!r} in {_line(event)}")
    if depth > _MAX_DEPTH:
        raise _unreadable(f"{_line(event)} is nested deeper than {_MAX_DEPTH} levels")
    if isinstance(event, yaml.SequenceStartEvent):
        items = []
        for item in events:
            if isinstance(item, yaml.SequenceEndEvent):
                break
            items.append(_node(item, events, depth + 1))
        return items
    if isinstance(event, yaml.MappingStartEvent):
        return _mapping(events, depth)
    assert isinstance(event, yaml.ScalarEvent)  # no other event begins a value
    # A quoted "" or "null" is a text, an unquoted one is no value.
    return None if event.implicit[0] and event.value in _EMPTY else event.value


def _mapping(events: Iterator[yaml.Event], depth: int) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    for start in events:
        if isinstance(start, yaml.MappingEndEvent):
            break
        key = _node(start, events, depth + 1)
        if isinstance(key, list | dict):
            raise _unreadable(f"{_line(start)}: expected a text as key, found a list or mapping")
        key = "" if key is None else key
        value = _node(next(events), events, depth + 1)
        # Which of two different values counts would be a guess.
        if key in mapping and mapping[key] != value:
            raise _unreadable(f"the key {key[:80]!r} has a second value in {_line(start)}")
        mapping[key] = value
    return mapping


def _line(event: yaml.Event) -> str:
    mark = event.start_mark
    return f"line {mark.line + 1}" if mark is not None else "the file"
