"""SourceFormat and Reading: the interface of every format, and helpers that several formats use.

The module or folder of a format has one public constant, ``FORMAT``. A reader never raises because
of the contents of a file: it records every unusable part as a `Rejection`, and counts every case
that it settled by a rule in `Reading.notes`.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from typing import Final

from processing.core.annotations import AnnotationTable, concatenate, table_from_rows
from processing.core.errors import AnnotationError, Rejection
from processing.sources.raw_directory import RawDirectory
from processing.sources.text import read_lines

# Tables are immutable, so all readings without rows can share one.
EMPTY: Final = table_from_rows([], category_names=())


@dataclass(frozen=True)
class Reading:
    """The result of reading one or several annotation files.

    Args:
        table: one row per image; until the rows are merged, a path may occur several times.
        rejections: the parts that were left out, and why.
        notes: how often each harmless rule was applied, by name, such as ``duplicate_box``.
        images_missing_annotations: images that lost an annotation: (image path, path of its own
            annotation file, or "").
        candidates_by_name: see `image_search.Located`; empty once they are resolved.
    """

    table: AnnotationTable = EMPTY
    rejections: list[Rejection] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    images_missing_annotations: Set[tuple[str, str]] = frozenset()
    candidates_by_name: Set[tuple[str, str]] = frozenset()


@dataclass(frozen=True)
class SourceFormat:
    """One annotation format.

    Args:
        name: the name in configurations.
        pattern_description: the files that `find` looks for, as part of a sentence.
        find: returns the format's annotation files or folders, relative to the raw directory.
        read: reads the files that `find` returned; takes `options` as keywords.
        options: names of the keywords of `read`.
    """

    name: str
    pattern_description: str
    find: Callable[[RawDirectory], list[str]]
    read: Callable[..., Reading]
    options: tuple[str, ...] = ()


def combine(readings: Sequence[Reading]) -> Reading:
    """Joins several readings into one; rows and rejections keep their order."""
    rejections: list[Rejection] = []
    notes: Counter[str] = Counter()
    missing: set[tuple[str, str]] = set()
    candidates: set[tuple[str, str]] = set()
    # Sets grow in place here: a union of frozensets per reading would copy all earlier ones.
    for reading in readings:
        rejections += reading.rejections
        notes += reading.notes
        missing |= reading.images_missing_annotations
        candidates |= reading.candidates_by_name
    # The empty table comes first, because numpy cannot join an empty list of arrays.
    table = concatenate([EMPTY, *(reading.table for reading in readings)])
    return Reading(table, rejections, notes, missing, candidates)


def per_file(read_file: Callable[[RawDirectory, str], Reading]) -> Callable[..., Reading]:
    """Turns a function that reads one file into the `read` of a `SourceFormat`.

    An `AnnotationError` of `read_file` rejects only that file.
    """

    def read(raw: RawDirectory, paths: list[str]) -> Reading:
        readings = []
        for path in paths:
            try:
                readings.append(read_file(raw, path))
            except AnnotationError as error:
                readings.append(Reading(rejections=[rejection(path, error)]))
        return combine(readings)

    return read


def rejection(path: str, error: AnnotationError, part: str = "") -> Rejection:
    """Records that an annotation file, or the named part of it, cannot be used."""
    where = f"{path}: {part}" if part else path
    return Rejection(path, "annotation", error.reason, f"{where}: {error}")


@contextlib.contextmanager
def collecting(rejections: list[Rejection], path: str, part: str = "") -> Iterator[None]:
    """Turns an `AnnotationError` into a rejection of a file, or of the named part of it.

    Args:
        rejections: receives the rejection.
        path: the annotation file.
        part: the part of the file that the error concerns, such as ``"object 3"``.
    """
    try:
        yield
    except AnnotationError as error:
        rejections.append(rejection(path, error, part))


def each_line(raw: RawDirectory, path: str, use: Callable[[int, str], None]) -> list[Rejection]:
    """Passes every line of a file, with its number from 1, to `use`.

    Args:
        raw: the raw directory.
        path: the file.
        use: takes one line; an `AnnotationError` rejects only that line.

    Returns:
        The rejected lines.

    Raises:
        AnnotationError: the file cannot be read.
    """
    rejections = []
    for number, line in enumerate(read_lines(raw, path), 1):
        # `collecting` would be shorter, but it costs a microsecond for each of millions of lines.
        try:
            use(number, line)
        except AnnotationError as error:
            rejections.append(rejection(path, error, f"line {number}"))
    return rejections
