"""Parses a data.yaml: its class names and its keypoint shape."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping
from typing import Any, Final

import yaml

from processing.sources.raw_directory import RawDirectory
from processing.sources.text import check_name, malformed, open_text, read_text

KeypointShape = tuple[int, int]
"""The number of points, at least 1, and of numbers for each: 2 for x, y or 3 with visibility."""

MAX_CLASSES: Final = 1 << 16
"""More classes than any data set has. A greater class id is damage, and would need a name each."""

SUFFIXES: Final = (".yaml", ".yml")
_KEYS: Final = (
    re.compile(r"^(train|val)\s*:", re.MULTILINE),
    re.compile(r"^(names|nc)\s*:", re.MULTILINE),
)
_MAX_BYTES: Final = 1 << 20
"""Largest file that may be a data.yaml. An honest one names classes and has kilobytes."""
_CONSTRUCTOR_ERRORS: Final = (ValueError, LookupError, AttributeError, TypeError, RecursionError)
"""Further errors that PyYAML raises for a value that does not fit its tag, such as ``!!int ""``."""


def looks_like_data_yaml(raw: RawDirectory, path: str) -> bool:
    """Whether a file has the keys of a data.yaml; it need not be valid YAML."""
    if raw.path(path).stat().st_size > _MAX_BYTES:
        return False
    with open_text(raw, path) as file:
        text = file.read()
    return all(pattern.search(text) for pattern in _KEYS)


class _Loader(yaml.SafeLoader):
    """A loader that refuses aliases.

    No data.yaml needs them, and nested aliases let a short file expand without end.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # not in its stubs
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not read", mark)
        return super().compose_node(parent, index)


def load_yaml(raw: RawDirectory, path: str) -> dict[str, Any]:
    """Reads the keys and values of a data.yaml.

    Raises:
        AnnotationError: the file is not valid YAML, or no mapping; reason ``malformed``.
    """
    text = read_text(raw, path)
    try:
        content = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, *_CONSTRUCTOR_ERRORS) as error:
        # PyYAML's messages have several lines; a rejection has one.
        found = " ".join(str(error).split())[:200] or type(error).__name__
        raise malformed(f"not a readable YAML: {found}") from error
    if not isinstance(content, dict):
        raise malformed(f"expected keys and values, found a {type(content).__name__}")
    return content


def class_names(content: Mapping[str, Any]) -> dict[int, str]:
    """Returns the names of the classes by id; none if the data.yaml has neither names nor nc.

    Raises:
        AnnotationError: ``names`` or ``nc`` is invalid; reason ``malformed``.
    """
    names = content.get("names")
    try:
        if isinstance(names, dict):
            by_id = {int(key): _name(name) for key, name in names.items()}
            return dict(sorted(by_id.items()))
        if isinstance(names, list):
            return {i: _name(name) for i, name in enumerate(names)}
        count = content.get("nc")
        # Limited, since a damaged count of billions would fill the memory with names.
        return {i: str(i) for i in range(min(int(0 if count is None else count), MAX_CLASSES))}
    except (TypeError, ValueError, OverflowError) as error:
        raise malformed(f"names or nc: {error}") from error


def _name(name: object) -> str:
    # str() would turn a nested list into a name. Numbers and dates are fine.
    if isinstance(name, list | dict):
        raise TypeError(f"expected a name, found a {type(name).__name__}")
    check_name(str(name))
    return str(name)


def keypoint_shape(content: Mapping[str, Any]) -> KeypointShape | None:
    """Returns the declared keypoint shape, if any.

    Raises:
        AnnotationError: ``kpt_shape`` is invalid; reason ``malformed``.
    """
    shape = content.get("kpt_shape")
    if shape is None:
        return None
    match shape:
        # No points at all are an error too: every longer row would contradict such a shape.
        case [int(count), 2 | 3 as size] if count > 0:
            return count, size
    raise malformed(f"kpt_shape is {reprlib.repr(shape)}, expected [K, 2] or [K, 3] with K from 1")
