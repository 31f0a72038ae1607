"""What a source format is and what reading one gives, and the rules that several formats share.

Each format's module has one constant ``FORMAT``; a reader never raises for what a file contains:
what it cannot use becomes a `Rejection`, what it settles by a rule is counted in `Reading.notes`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from processing.core.annotations import (
    AnnotationTable,
    concatenate,
    table_from_rows,
)
from processing.core.errors import AnnotationError, Rejection
from processing.sources.raw_directory import RawDirectory

Key = TypeVar("Key")

EMPTY: Final = table_from_rows([], category_names=())


@dataclass(frozen=True)
class Reading:
    """What reading one or several annotation files gives.

    Args:
        table: one row an image; a path may occur several times until the rows are merged.
        rejections: what was left out, and why.
        notes: harmless rules applied, name to how often, e.g. ``duplicate_box``.
        images_missing_annotations: images that lost an annotation: (image path, path of its own
            annotation file, or "").
        candidates_by_name: as `image_search.Located` has them, until they are settled.
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
        name: what configurations call it.
        pattern_description: what `find` looks for, as part of a sentence.
        find: the format's annotation files, or folders, relative to the raw directory; [] if none.
        read: reads what `find` found; takes `options` as keywords.
        options: names of the keywords of `read`.
    """

    name: str
    pattern_description: str
    find: Callable[[RawDirectory], list[str]]
    read: Callable[..., Reading]
    options: tuple[str, ...] = ()


def combine(readings: Sequence[Reading]) -> Reading:
    """All readings as one, rows in their order."""
    if not readings:
        return Reading()
    return Reading(
        table=concatenate([reading.table for reading in readings]),
        rejections=[rejection for reading in readings for rejection in reading.rejections],
        notes=sum((reading.notes for reading in readings), Counter()),
        images_missing_annotations=frozenset().union(
            *(reading.images_missing_annotations for reading in readings)
        ),
        candidates_by_name=frozenset().union(*(reading.candidates_by_name for reading in readings)),
    )


def rejection(path: str, error: AnnotationError, *, line: int | None = None) -> Rejection:
    """The record of an annotation in the file `path`, or one line of it, that cannot be used."""
    where = path if line is None else f"{path}: line {line}"
    return Rejection(path, "annotation", error.reason, f"{where}: {error}")


def labels_of(names: Mapping[Key, str]) -> tuple[tuple[str, ...], dict[Key, int]]:
    """Category names without gaps and repetitions, and each id's position among them.

    Args:
        names: category id to name, in the order that the positions shall have.
    """
    unique = tuple(dict.fromkeys(names.values()))
    position = {name: i for i, name in enumerate(unique)}
    return unique, {key: position[name] for key, name in names.items()}
