"""Parses a data.yaml: its splits, its class names and its keypoint shape."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from processing.core.annotations import UNASSIGNED
from processing.sources.raw_directory import RawDirectory
from processing.sources.text import check_name, malformed, open_text, read_text
from processing.sources.yolo.yaml_text import parse_yaml

KeypointShape = tuple[int, int]
"""The number of points, at least 1, and of numbers for each: 2 for x, y or 3 with visibility."""

MAX_CLASSES: Final = 1 << 16
"""More classes than any data set has. A greater class id is damage, and would need a name each."""

SUFFIXES: Final = (".yaml", ".yml")
SPLIT_OF_KEY: Final = {
    **{"train": 0, "training": 0},
    **{"val": 1, "valid": 1, "validation": 1},
    **{"test": 2, "testing": 2},
}
"""Positions in `SPLITS`. CVAT writes its subsets as ``Train`` and ``Validation``."""
_SPLIT_KEY: Final = re.compile(
    rf"^['\"]?({'|'.join(SPLIT_OF_KEY)})['\"]?\s*:", re.MULTILINE | re.IGNORECASE
)
_NAMES_KEY: Final = re.compile(r"^['\"]?(names)['\"]?\s*:", re.MULTILINE)
_COUNT_KEY: Final = re.compile(r"^['\"]?(nc)['\"]?\s*:", re.MULTILINE)
_MAX_BYTES: Final = 1 << 20
"""Largest file that may be a data.yaml. An honest one names classes and has kilobytes."""


def keys_of_data_yaml(raw: RawDirectory, path: str) -> tuple[bool, bool]:
    """Looks for the keys of a data.yaml; the file need not be valid YAML.

    Returns:
        Whether it names splits and classes, as a whole data.yaml does; and whether it names
        classes only, as Label Studio and older tools write.
    """
    if raw.path(path).stat().st_size > _MAX_BYTES:
        return False, False
    with open_text(raw, path) as file:
        text = file.read()
    names = bool(_NAMES_KEY.search(text))
    whole = bool(_SPLIT_KEY.search(text)) and (names or bool(_COUNT_KEY.search(text)))
    return whole, names and not whole


def load_yaml(raw: RawDirectory, path: str) -> dict[str, Any]:
    """Reads the keys and values of a data.yaml; every value is text, a list or a mapping.

    Raises:
        AnnotationError: the file is not valid YAML, or no mapping; reason ``malformed``.
    """
    content = parse_yaml(read_text(raw, path))
    if not isinstance(content, dict):
        raise malformed(f"expected keys and values, found a {type(content).__name__}")
    return content


@dataclass(frozen=True)
class Entry:
    """One folder or list that a data.yaml names.

    Args:
        key: the key as written, such as ``train``.
        split: position in `SPLITS`, or `UNASSIGNED`.
        value: the value as written; a reader checks that it is text.
    """

    key: str
    split: int
    value: object


def entries_of(content: Mapping[str, Any]) -> list[Entry]:
    """Lists the folders and lists that a data.yaml names; empty values are left out.

    CVAT writes one list per subset, such as ``night: night.txt``. Its images have no split.
    """
    entries = []
    for key, value in content.items():
        split = SPLIT_OF_KEY.get(key.lower())
        if split is None:
            if value != f"{key}.txt":
                continue
            split = UNASSIGNED
        values = value if isinstance(value, list) else [value]
        entries += [Entry(key, split, item) for item in values if item]
    return entries


def empty_splits(content: Mapping[str, Any]) -> list[str]:
    """Lists the keys of splits that have no value."""
    return [key for key, value in content.items() if key.lower() in SPLIT_OF_KEY and not value]


def class_names(content: Mapping[str, Any]) -> dict[int, str]:
    """Returns the names of the classes by id; none if the data.yaml names none.

    Raises:
        AnnotationError: ``names`` is invalid; reason ``malformed``.
    """
    names = content.get("names")
    try:
        if isinstance(names, dict):
            by_id = {_class_id(key): name for key, name in names.items()}
        elif isinstance(names, list):
            by_id = dict(enumerate(names))
        else:
            return {}
        # A class without a name is left out, so that its boxes are rejected.
        return {i: _name(name) for i, name in sorted(by_id.items()) if name is not None}
    except (TypeError, ValueError) as error:
        raise malformed(f"names or nc: {error}") from error


def class_count(content: Mapping[str, Any]) -> int:
    """Returns ``nc``, at most `MAX_CLASSES`; 0 if the data.yaml has none.

    Raises:
        AnnotationError: ``nc`` is no number; reason ``malformed``.
    """
    count = content.get("nc")
    try:
        # Limited, since a damaged count of billions would fill the memory with names.
        return min(int(count or 0), MAX_CLASSES)
    except (TypeError, ValueError) as error:
        raise malformed(f"names or nc: {error}") from error


def names_file(content: Mapping[str, Any]) -> str:
    """Returns the path of the file that ``names`` refers to, as written; ``""`` if it has none."""
    names = content.get("names")
    return names if isinstance(names, str) else ""


def _class_id(key: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", key):
        raise ValueError(f"expected a class id from 0, found {key[:80]!r}")
    return int(key)


def _name(name: object) -> str:
    if not isinstance(name, str):
        raise TypeError(f"expected a name, found a {type(name).__name__}")
    check_name(name)
    return name


def keypoint_shape(content: Mapping[str, Any]) -> KeypointShape | None:
    """Returns the declared keypoint shape, if any.

    Raises:
        AnnotationError: ``kpt_shape`` is invalid; reason ``malformed``.
    """
    shape = content.get("kpt_shape")
    if shape is None:
        return None
    match shape:
        case [str(count), "2" | "3" as size] if re.fullmatch(r"0*[1-9][0-9]{0,5}", count):
            return int(count), int(size)
    # No points at all are an error too: every longer row would contradict such a shape.
    raise malformed(f"kpt_shape is {reprlib.repr(shape)}, expected [K, 2] or [K, 3] with K from 1")
