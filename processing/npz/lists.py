"""The lists next to an NPZ file: which inputs it lacks, and which objects its images lack.

A processing run writes them, see `run/output_directory.py`. Here they are only counted: reading a
file imports nothing of a run.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable
from typing import Final

import msgspec

from processing.core.error_notes import with_filename
from processing.core.urls import URL, Location
from processing.remote.files import read_file

REJECTED_ENDING: Final = ".rejected.jsonl"
DROPPED_ENDING: Final = ".dropped.jsonl"

UNREADABLE: Final = "unreadable_line"
"""Counted in place of a reason for a line that is damaged."""


class _Line(msgspec.Struct):
    """The part of a line that is counted."""

    reason: str


def count_reasons(npz: Location, ending: str) -> Counter[str]:
    """Counts the lines of a list by reason.

    Args:
        npz: the file; it need not exist.
        ending: `REJECTED_ENDING` or `DROPPED_ENDING`.

    Returns:
        Lines by reason; empty if there is no list.

    Raises:
        OSError: the list cannot be read.
    """
    path = npz.with_suffix(ending)
    try:
        if isinstance(path, URL):
            return _count(io.BytesIO(read_file(path)))
        with with_filename(path), path.open("rb") as file:
            return _count(file)  # line by line: a list may have millions of them
    except FileNotFoundError:
        return Counter()


def _count(lines: Iterable[bytes]) -> Counter[str]:
    counts: Counter[str] = Counter()
    decoder = msgspec.json.Decoder(_Line)
    for line in lines:
        try:
            counts[decoder.decode(line).reason] += 1
        except msgspec.DecodeError:  # ValidationError is one too
            counts[UNREADABLE] += 1
    return counts
