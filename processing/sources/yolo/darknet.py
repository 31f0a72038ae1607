"""Parses Darknet's ``*.data`` files: ``train = data/train.txt`` and the like, one per line.

YOLO_mark, CVAT (YOLO 1.1) and the many clones of Darknet write them.
"""

from __future__ import annotations

import re
from typing import Final

from processing.sources.raw_directory import RawDirectory
from processing.sources.text import open_text, read_text
from processing.sources.yolo.data_yaml import SPLIT_OF_KEY, Entry, entries_of

SUFFIX: Final = ".data"
_LINE: Final = re.compile(r"\s*(\w+)\s*=\s*(.*?)\s*")
_MAX_BYTES: Final = 1 << 16
"""Tables of numbers have the ending too, and megabytes."""


def looks_like_data_file(raw: RawDirectory, path: str) -> bool:
    """Whether a file has the keys of a Darknet data file."""
    if raw.path(path).stat().st_size > _MAX_BYTES:
        return False
    with open_text(raw, path) as file:
        values = _values(file.read())
    return "names" in values and any(values.get(key) for key in SPLIT_OF_KEY)


def load_data_file(raw: RawDirectory, path: str) -> tuple[list[Entry], str]:
    """Reads a Darknet data file.

    Returns:
        The lists that it names, and the path of its file of class names as written.

    Raises:
        AnnotationError: the file is not text; reason ``malformed``.
    """
    values = _values(read_text(raw, path))
    return entries_of(values), values.get("names", "")


def _values(text: str) -> dict[str, str]:
    values = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line.partition("#")[0])
        if match:
            values[match[1].lower()] = match[2]
    return values
