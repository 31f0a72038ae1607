"""Splits the lines of a CSV table into cells."""

from __future__ import annotations

import csv
from typing import Final

from processing.sources.text import malformed

DELIMITERS: Final = (",", ";", "\t")
PADDING: Final = " ,;\t\r\n"
"""Characters of an empty line: spreadsheets pad their exports with lines of commas."""


def split_cells(line: str, delimiter: str) -> list[str]:
    """Splits a line into cells.

    Raises:
        AnnotationError: a quoted cell does not end, or is too large; reason ``malformed``.
    """
    try:
        reader = csv.reader([line], strict=True, delimiter=delimiter, skipinitialspace=True)
        return [cell.strip() for cell in next(reader)]
    except csv.Error as error:
        raise malformed(f"expected cells, found {error} in {line[:80]!r}") from error
