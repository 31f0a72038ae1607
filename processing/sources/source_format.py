"""SourceFormat and Reading: the interface of every format, and helpers that several formats use.

The module or folder of a format has one public constant, ``FORMAT``. A reader never raises because
of the contents of a file: it records every unusable part as a `Rejection`, and counts every case
that it settled by a rule in `Reading.notes`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from processing.core.annotations import AnnotationTable, concatenate, table_from_rows
from processing.core.errors import AnnotationError, Rejection
from processing.sources.raw_directory import RawDirectory

Key = TypeVar("Key")

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
    images_missing_annotations: frozenset[tuple[str, str]] = frozenset()
    candidates_by_name: frozenset[tuple[str, str]] = frozenset()


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
    if not readings:
        return Reading()
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
    table = concatenate([reading.table for reading in readings])
    return Reading(table, rejections, notes, frozenset(missing), frozenset(candidates))


def rejection(path: str, error: AnnotationError, *, line: int | None = None) -> Rejection:
    """Records that an annotation file, or one line of it, cannot be used."""
    where = path if line is None else f"{path}: line {line}"
    return Rejection(path, "annotation", error.reason, f"{where}: {error}")


def labels_of(names: Mapping[Key, str]) -> tuple[tuple[str, ...], dict[Key, int]]:
    """Numbers categories without gaps; categories of the same name become one.

    Args:
        names: the name of each category id, in the order that the labels shall have.

    Returns:
        The distinct names, and for each id the position of its name among them.
    """
    unique = tuple(dict.fromkeys(names.values()))
    position = {name: i for i, name in enumerate(unique)}
    return unique, {key: position[name] for key, name in names.items()}
