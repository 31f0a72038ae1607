"""SourceFormat, Request and Reading: the interface of every format, and helpers for all of them.

The module or folder of a format has one public constant, ``FORMAT``. A reader never raises because
of the contents of a file: it records every unusable part as a `Rejection`, and counts every case
that it settled by a rule in `Reading.notes`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import posixpath
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from processing.core.annotation_sets import AnnotationSet, SetReport
from processing.core.annotations import (
    SPLITS,
    UNASSIGNED,
    AnnotationTable,
    concatenate,
    table_from_rows,
)
from processing.core.errors import (
    AnnotationError,
    Note,
    Rejection,
    SourceError,
    SourceNotFoundError,
    count_notes,
)
from processing.sources.text import read_lines

if TYPE_CHECKING:
    from processing.sources.raw_directory import RawDirectory

# Tables are immutable, so all readings without rows can share one.
EMPTY: Final = table_from_rows([], category_names=())


@dataclass(frozen=True)
class Reading:
    """The result of reading one or several annotation files.

    Args:
        table: one row per image; until the rows are merged, a path may occur several times.
        rejections: the parts that were left out, and why.
        notes: the cases that a harmless rule settled, such as ``ambiguous_split``.
        images_missing_annotations: paths of the images that lost an annotation.
        hints: for paths of missing images, where such an image is, for people.
        sets: each annotation set as it was read, before images were merged.
        named_splits: positions in `SPLITS` of splits that a source names and left out every image
            of; the splits of the rows of `table` need not be given.
        mixed_landmarks: why the points cannot be in one file; ``""`` if they can.
    """

    table: AnnotationTable = EMPTY
    rejections: list[Rejection] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    images_missing_annotations: Set[str] = frozenset()
    hints: Mapping[str, str] = field(default_factory=dict)
    sets: tuple[SetReport, ...] = ()
    mixed_landmarks: str = ""
    named_splits: Set[int] = frozenset()

    @property
    def note_counts(self) -> Counter[str]:
        """How many images or objects the notes of each kind are about."""
        return count_notes(self.notes)


COMMON_OPTIONS: Final = ("images", "units")
"""Keys of an entry of `sources` that every format has; see `processing.sources.read_sources`."""


@dataclass(frozen=True)
class SourceFormat:
    """One annotation format.

    Args:
        name: the name in configurations.
        pattern_description: the files that `find` looks for, as part of a sentence.
        find: returns the format's annotation files or folders, relative to the raw directory.
        read: reads the files that `find` returned; takes `options` as keywords. Its table names the
            `annotation_sets` that the rows come from.
        options: names of the keywords of `read`.
    """

    name: str
    pattern_description: str
    find: Callable[[RawDirectory], list[str]]
    read: Callable[..., Reading]
    options: tuple[str, ...] = ()

    def read_sets(self, raw: RawDirectory, paths: list[str], **options: Any) -> Reading:
        """Reads files that `find` returned, and notes the format in their annotation sets.

        Raises:
            TypeError: `read` returns no `Reading`, or its table names no `annotation_sets`.
            ValueError: a number in the table is no position in the list that it points into.
        """
        reading = self.read(raw, paths, **options)
        if not isinstance(reading, Reading):
            raise TypeError(f"source {self.name}: read returns {reading!r}, expected a Reading")
        table = reading.table
        if len(table) and not table.annotation_sets:
            raise TypeError(f"source {self.name}: its table names no annotation_sets")
        _check_positions(table, f"source {self.name}")
        sets = tuple(dataclasses.replace(read, format=self.name) for read in table.annotation_sets)
        table = dataclasses.replace(table, annotation_sets=sets)
        return dataclasses.replace(reading, table=table)


def _check_positions(table: AnnotationTable, where: str) -> None:
    """Checks the numbers that point into lists: negative ones would silently count from the end."""
    for what, numbers, lowest, count in (
        ("label", table.labels, 0, len(table.category_names)),
        ("set_id", table.set_ids, 0, len(table.annotation_sets)),
        ("split", table.splits, UNASSIGNED, len(SPLITS)),
    ):
        if len(numbers) and not (lowest <= numbers.min() and numbers.max() < count):
            wrong = numbers[(numbers < lowest) | (numbers >= count)]
            raise ValueError(
                f"{where}: its table has the {what} {wrong[0]}, expected {lowest} to {count - 1}"
            )


@dataclass(frozen=True)
class Request:
    """A format to read, and where.

    Args:
        source: the format.
        path: read only this file, or the files below this folder; ``"."`` for everything.
        options: keywords for the format's `read`.
        images: the only folder to look for images in; None for the usual ones.
        units: ``pixels`` or ``fractions``, if the user says so.
    """

    source: SourceFormat
    path: str
    options: Mapping[str, Any]
    images: str | None = None
    units: str | None = None

    @classmethod
    def parse(
        cls, entry: str | Mapping[str, Any] | SourceFormat, formats: Sequence[SourceFormat]
    ) -> Request:
        """Checks one entry of `sources`.

        Args:
            entry: the name of a format, a format, or a mapping as `read_sources` documents it.
            formats: the formats to choose from.

        Raises:
            TypeError: `entry` is neither text, nor a format, nor a mapping.
            SourceError: it names no format, or has an unknown key or value.
        """
        if not isinstance(entry, str | Mapping | SourceFormat):
            raise TypeError(
                f"sources must be formats, names of formats, or mappings, got {entry!r}"
            )
        options = dict(entry) if isinstance(entry, Mapping) else {"format": entry}
        name, path = options.pop("format", None), options.pop("path", "")
        images, units = options.pop("images", None), options.pop("units", None)
        by_name = {source.name: source for source in formats}
        if isinstance(name, SourceFormat):
            by_name, name = {name.name: name}, name.name
        if name not in by_name:
            raise SourceError(f"source format {name!r}: expected one of {', '.join(by_name)}")
        source = by_name[name]
        unknown = sorted(map(str, set(options) - set(source.options)))
        if unknown:
            names = dict.fromkeys(("format", "path", *COMMON_OPTIONS, *source.options))
            allowed = ", ".join(names)
            raise SourceError(
                f"source {name}: unknown key {unknown[0]!r}, expected one of {allowed}"
            )
        base = options.get("coordinate_base", 1)
        if base not in (0, 1):
            raise SourceError(f"source {name}: coordinate_base is {base!r}, expected 0 or 1")
        if units not in (None, "pixels", "fractions"):
            raise SourceError(f"source {name}: units is {units!r}, expected pixels or fractions")
        folder = None if images is None else _inside(name, "images", images)
        return cls(source, _inside(name, "path", path), options, folder, units)

    def read(self, raw: RawDirectory) -> Reading:
        """Reads the requested files.

        Raises:
            SourceNotFoundError: there are none.
        """
        paths = [
            path
            for path in self.source.find(raw)
            if self.path in (".", path) or path.startswith(f"{self.path}/")
        ]
        if not paths:
            where = raw.place if self.path == "." else f"{raw.place}/{self.path}"
            raise SourceNotFoundError(
                f"{where}: nothing found of the format {self.source.name}; "
                f"looked for {self.source.pattern_description}{raw.describe_skipped()}"
            )
        if self.images is not None:
            raw = raw.with_images_in(self.images)
        options = dict(self.options)
        if self.units is not None and "units" in self.source.options:
            options["units"] = self.units
        reading = self.source.read_sets(raw, paths, **options)
        if self.units is None:
            return reading
        normalized = np.full(len(reading.table), self.units == "fractions")
        table = dataclasses.replace(reading.table, normalized=normalized)
        sets = tuple(dataclasses.replace(read, units=self.units) for read in table.annotation_sets)
        return dataclasses.replace(reading, table=dataclasses.replace(table, annotation_sets=sets))


def _inside(name: str, key: str, path: object) -> str:
    """Returns the path of an option in a normal form.

    Args:
        name: of the format.
        key: of the option.
        path: its value, relative to the raw directory.

    Raises:
        SourceError: the path leads out of the raw directory.
    """
    # normpath turns "" into "." and "x/" into "x", so that there are fewer cases.
    normal = posixpath.normpath(str(path).replace("\\", "/"))
    if normal.startswith(("/", "../")) or normal == "..":
        raise SourceError(
            f"source {name}: {key}={str(path)!r} leads out of the raw directory: expected a path "
            "relative to it"
        )
    return normal


def set_reports(
    table: AnnotationTable, merged_sets: Sequence[AnnotationSet] = ()
) -> tuple[SetReport, ...]:
    """Counts the images and instances of each annotation set.

    Args:
        table: before images are merged.
        merged_sets: its annotation sets with the details of merging, if they were merged.
    """
    n = len(table.annotation_sets)
    images = np.bincount(table.set_ids, minlength=n).tolist()
    instances = np.bincount(table.set_ids, weights=np.diff(table.offsets), minlength=n).tolist()
    return tuple(
        SetReport(read.path, read.format, images[i], int(instances[i]), read.details)
        for i, read in enumerate(merged_sets or table.annotation_sets)
    )


def combine(readings: Sequence[Reading]) -> Reading:
    """Joins several readings into one; rows and rejections keep their order."""
    rejections: list[Rejection] = []
    notes: list[Note] = []
    missing: set[str] = set()
    named_splits: set[int] = set()
    # Sets grow in place here: a union of frozensets per reading would copy all earlier ones.
    for reading in readings:
        rejections += reading.rejections
        notes += reading.notes
        missing |= reading.images_missing_annotations
        named_splits |= reading.named_splits
    # The empty table comes first, because numpy cannot join an empty list of arrays.
    table = concatenate([EMPTY, *(reading.table for reading in readings)])
    return Reading(table, rejections, notes, missing, named_splits=named_splits)


def per_file(read_file: Callable[[RawDirectory, str], Reading]) -> Callable[..., Reading]:
    """Turns a function that reads one file into the `read` of a `SourceFormat`.

    An `AnnotationError` of `read_file` rejects only that file. A table that names no annotation set
    is of the file.
    """

    def read(raw: RawDirectory, paths: list[str]) -> Reading:
        readings = []
        for path in paths:
            try:
                reading = read_file(raw, path)
                if not reading.table.annotation_sets:
                    sets = (AnnotationSet(path),)
                    table = dataclasses.replace(reading.table, annotation_sets=sets)
                    reading = dataclasses.replace(reading, table=table)
                _check_positions(reading.table, path)
                readings.append(reading)
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
        # `collecting` would be shorter, but it costs microseconds for each of millions of lines.
        try:
            use(number, line)
        except AnnotationError as error:
            rejections.append(rejection(path, error, f"line {number}"))
    return rejections
