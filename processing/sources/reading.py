"""What a source format is and what reading one gives, and the rules that several formats share.

Each format's module has one constant ``FORMAT``; a reader never raises for what a file contains:
what it cannot use becomes a `Rejection`, what it settles by a rule is counted in `Reading.notes`.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TextIO, TypeVar

from processing.core.annotations import (
    SPLITS,
    UNASSIGNED,
    AnnotationTable,
    concatenate,
    table_from_rows,
)
from processing.core.error_notes import naming
from processing.core.errors import AnnotationError, Rejection
from processing.sources.listing import RawDirectory, folder_of

Key = TypeVar("Key")

EMPTY: Final = table_from_rows([], category_names=())


@dataclass(frozen=True)
class Reading:
    """What reading one or several annotation files gives.

    Args:
        table: one row an image; a path may occur several times until the rows are merged.
        rejections: what was left out, and why.
        notes: harmless rules applied, name to how often, e.g. ``duplicate_box``.
        incomplete: of each image of which an annotation was rejected its path, and that of the
            annotation file that is of it alone, empty where there is none.
        namesakes: as `image_search.Located` has them, until they are settled.
    """

    table: AnnotationTable = EMPTY
    rejections: list[Rejection] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    incomplete: frozenset[tuple[str, str]] = frozenset()
    namesakes: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True)
class SourceFormat:
    """One annotation format.

    Args:
        name: what configurations call it.
        looked_for: what `find` looks for, as part of a sentence.
        find: the format's annotation files, or folders, relative to the raw directory; [] if none.
        read: reads what `find` found; takes `options` as keywords.
        options: names of the keywords of `read`.
    """

    name: str
    looked_for: str
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
        incomplete=frozenset().union(*(reading.incomplete for reading in readings)),
        namesakes=frozenset().union(*(reading.namesakes for reading in readings)),
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


MOST_OF_ONE: Final = 64 << 20
"""Bytes of a file that describes one image or names the classes; larger ones are refused unread."""


def check_size(file: Path) -> None:
    """Makes sure that a file that describes one image is not larger than any such file.

    Raises:
        AnnotationError: it is; reason ``too_large``.
    """
    size = file.stat().st_size
    if size > MOST_OF_ONE:
        raise AnnotationError(
            f"{size:,} bytes: expected at most {MOST_OF_ONE:,} for one image", reason="too_large"
        )


def read_text(raw: RawDirectory, path: str) -> str:
    """The text of an annotation file of one image, plain line ends and no byte order mark.

    Raises:
        AnnotationError: it is neither UTF-8 nor marked UTF-16; reason ``malformed``. Or it is
            ``too_large``.
    """
    file = raw.path(path)
    check_size(file)
    encoding = _encoding(file)
    try:
        with naming(file):
            return file.read_text(encoding=encoding)
    except UnicodeError as error:
        where = f"byte {error.start} of " if isinstance(error, UnicodeDecodeError) else ""
        name = encoding.upper().removesuffix("-SIG")
        raise AnnotationError(
            f"{where}{path} is not {name}: was it saved in another encoding?", reason="malformed"
        ) from error


def read_lines(raw: RawDirectory, path: str) -> Iterator[str]:
    """The lines, ends included, of an annotation file in which each stands for itself.

    One that is no text costs no other: it stays as it is, for `check_text` to find. Byte order
    marks go, also those amid a file that was put together from several.
    """
    file = raw.path(path)
    encoding = _encoding(file)
    with naming(file):
        if encoding == "utf-16":
            text = file.read_text(encoding, errors="replace").replace("\ufffd", _UNREADABLE)
        else:
            text = file.read_text(encoding, errors="surrogateescape")
    return (line.removeprefix("\ufeff") for line in io.StringIO(text))


_UNREADABLE: Final = "\udcff"
"""What Python puts in place of a byte 255 that is no text."""


def check_text(line: str) -> None:
    """Makes sure that one of `read_lines` is text.

    Raises:
        AnnotationError: some of its bytes are not; reason ``malformed``.
    """
    try:
        line.encode()
    except UnicodeEncodeError as error:
        found = line.strip().encode(errors="surrogateescape")
        raise AnnotationError(
            f"{found[:80]!r} is not UTF-8: was it saved in another encoding?",
            reason="malformed",
        ) from error


@contextlib.contextmanager
def open_text(raw: RawDirectory, path: str) -> Iterator[TextIO]:
    """An annotation file, to look whether it is one: what cannot be decoded is replaced."""
    file = raw.path(path)
    with naming(file), file.open(encoding=_encoding(file), errors="replace", newline="") as text:
        yield text


def _encoding(file: Path) -> str:
    """UTF-16 where a byte order mark says so, as spreadsheets and PowerShell write it."""
    with file.open("rb") as content:
        marked = content.read(2) in UTF16_MARKS
    return "utf-16" if marked else "utf-8-sig"


UTF16_MARKS: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def number_of(word: str) -> float:
    """What a word says, as annotations write numbers: not as programs do, nor in other digits.

    Raises:
        ValueError: no number, ``1_000``, ``١٢``.
    """
    if "_" in word or not word.isascii():
        raise ValueError(f"no number: {word!r}")
    return float(word)


def numbers_of(words: Sequence[str]) -> list[float] | None:
    """The words as numbers; None unless all are."""
    try:
        return [number_of(word) for word in words]
    except ValueError:
        return None


def size_of(height: object, width: object) -> tuple[int, int] | None:
    """Declared height and width in pixels; None where either is no positive whole number.

    Args:
        height: a number, or its text.
        width: likewise.
    """
    try:
        numbers = [number_of(str(side)) for side in (height, width)]
    except ValueError:
        return None
    if not all(0 < number < _MAX_SIDE and number.is_integer() for number in numbers):
        return None
    return int(numbers[0]), int(numbers[1])


def check_name(name: str) -> None:
    """Makes sure that a name can be stored.

    Raises:
        ValueError: half a surrogate pair is in it, which JSON and YAML can write and UTF-8 cannot.
    """
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name!a} is no text: half a character is in it") from error


_MAX_SIDE: Final = 1 << 31
"""`AnnotationTable.declared_sizes` is int32."""

_SPLIT_WORDS: Final = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
_WORD: Final = "(train|validation|valid|val|test)(?:ing|set)?"
_WITHIN: Final = re.compile(f"(?<![a-z]){_WORD}(?![a-z])")
_WHOLE: Final = re.compile(f"{_WORD}[-_]?[0-9]*")


def split_of_name(name: str) -> int:
    """The split that a file's name has as a word (``instances_train2017``), or `UNASSIGNED`."""
    stem = posixpath.splitext(posixpath.basename(name))[0].lower()
    return _only(_WITHIN.findall(stem))


def split_of_folders(path: str) -> int:
    """The split that the nearest folder is called after (``train2017``), or `UNASSIGNED`."""
    for folder in reversed(folder_of(path).lower().split("/")):
        match = _WHOLE.fullmatch(folder)
        if match:
            return _only([match[1]])
    return UNASSIGNED


def split_of(path: str) -> int:
    """The split that the annotation file's name has as a word, else that of its folders."""
    by_name = split_of_name(path)
    return split_of_folders(path) if by_name == UNASSIGNED else by_name


def _only(words: Iterable[str]) -> int:
    splits = {_SPLIT_WORDS[word] for word in words}
    return SPLITS.index(splits.pop()) if len(splits) == 1 else UNASSIGNED
