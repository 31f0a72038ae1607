"""Names and order of the categories of a CSV table, from other files next to it."""

from __future__ import annotations

import io
import re
from collections.abc import Collection
from typing import Final

from processing.core.errors import AnnotationError
from processing.sources.csv_manifest.cells import PADDING, split_cells
from processing.sources.paths import folder_of
from processing.sources.raw_directory import RawDirectory
from processing.sources.text import open_text, read_text

_INTEGER: Final = re.compile(r"\d{1,9}", re.ASCII)
_CODE: Final = re.compile(r"/[a-z]/\w+")
"""A machine-generated id of OpenImages, such as ``/m/011k07``."""


def class_order(raw: RawDirectory, path: str, used: Collection[str]) -> list[str]:
    """Returns the class names in the order of a ``name,id`` file that has them all, or sorted."""
    for neighbour in raw.with_suffix(".csv"):
        if folder_of(neighbour) == folder_of(path) and neighbour != path:
            try:
                rows = _pairs(raw, neighbour)
            except AnnotationError:
                # Not a list of classes; if it is a manifest, its own reading reports the error.
                continue
            if rows and all(len(cells) == 2 and _INTEGER.fullmatch(cells[1]) for cells in rows):
                ids = {name: int(number) for name, number in rows}
                if ids.keys() >= set(used):
                    return sorted(ids, key=ids.__getitem__)
    return sorted(used)


def display_names(raw: RawDirectory) -> dict[str, str]:
    """Returns the names of OpenImages' codes, from its ``class-descriptions`` files."""
    names: dict[str, str] = {}
    for path in raw.with_suffix(".csv"):
        with open_text(raw, path) as file:
            first, second = file.readline(), file.readline()
        # Newer files have the header "LabelName,DisplayName".
        if not any(_CODE.match(line) for line in (first, second)):
            continue
        for cells in _pairs(raw, path):
            if len(cells) == 2 and _CODE.fullmatch(cells[0]):
                names.setdefault(cells[0], cells[1])
    return names


def _pairs(raw: RawDirectory, path: str) -> list[list[str]]:
    """Reads a short table; each line as its cells."""
    lines = io.StringIO(read_text(raw, path))
    return [split_cells(line, ",") for line in lines if line.strip(PADDING)]
