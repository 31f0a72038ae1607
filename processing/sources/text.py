"""Text files of annotations: their encoding, their lines, and the numbers and names in them."""

from __future__ import annotations

import codecs
import contextlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

from processing.core.annotations import NOT_DECLARED
from processing.core.error_notes import with_filename
from processing.core.errors import AnnotationError

if TYPE_CHECKING:
    from processing.sources.raw_directory import RawDirectory

MAX_SINGLE_FILE_BYTES: Final = 64 << 20
"""Largest file that describes one image or lists the classes; larger ones are refused unread.

An honest one has kilobytes. A damaged or hostile one must not fill the memory.
"""

UTF16_MARKS: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

_UNREADABLE: Final = "\udcff"
"""The character that Python's ``surrogateescape`` puts for an undecodable byte 255."""

_MAX_SIDE: Final = 1 << 31
"""The column `declared_sizes` is int32."""


def malformed(message: str) -> AnnotationError:
    """Returns the error of an annotation that does not have the form its format demands."""
    return AnnotationError(message, reason="malformed")


def check_size(file: Path) -> None:
    """Checks that a file that describes one image has a plausible size.

    Raises:
        AnnotationError: the file is larger; reason ``too_large``.
    """
    size = file.stat().st_size
    if size > MAX_SINGLE_FILE_BYTES:
        raise AnnotationError(
            f"{size:,} bytes: expected at most {MAX_SINGLE_FILE_BYTES:,} for one image",
            reason="too_large",
        )


def read_text(raw: RawDirectory, path: str) -> str:
    """Reads an annotation file of one image, with plain line ends and without byte order mark.

    Raises:
        AnnotationError: the file is neither UTF-8 nor marked as UTF-16 (reason ``malformed``), or
            ``too_large``.
    """
    file = raw.path(path)
    check_size(file)  # before the file is read
    encoding = _encoding(file)
    try:
        with with_filename(file):
            return file.read_text(encoding=encoding)
    except UnicodeError as error:
        where = f"byte {error.start} of " if isinstance(error, UnicodeDecodeError) else ""
        name = encoding.upper().removesuffix("-SIG")
        raise malformed(
            f"{where}{path} is not {name}: was it saved in another encoding?"
        ) from error


def read_lines(raw: RawDirectory, path: str) -> Iterator[str]:
    """Reads the lines of an annotation file of independent lines, with their line ends.

    An undecodable line does not spoil the others: it stays in the result, and `check_text` finds
    it. Byte order marks are removed from every line, since concatenated files have some inside.
    """
    file = raw.path(path)
    encoding = _encoding(file)
    with with_filename(file):
        if encoding == "utf-16":
            # UTF-16 has no surrogateescape, so its replacement character takes that role.
            text = file.read_text(encoding, errors="replace").replace("\ufffd", _UNREADABLE)
        else:
            text = file.read_text(encoding, errors="surrogateescape")
    return (line.removeprefix("\ufeff") for line in io.StringIO(text))


def check_text(line: str) -> None:
    """Checks that a line from `read_lines` could be decoded.

    Raises:
        AnnotationError: some of its bytes could not; reason ``malformed``.
    """
    try:
        line.encode()
    except UnicodeEncodeError as error:
        found = line.strip().encode(errors="surrogateescape")[:80]
        raise malformed(f"{found!r} is not UTF-8: was it saved in another encoding?") from error


@contextlib.contextmanager
def open_text(raw: RawDirectory, path: str) -> Iterator[TextIO]:
    """Opens a file to find out its format; undecodable bytes are replaced."""
    file = raw.path(path)
    with (
        with_filename(file),
        file.open(encoding=_encoding(file), errors="replace", newline="") as text,
    ):
        yield text


def _encoding(file: Path) -> str:
    """Returns UTF-16 for a file that starts with its byte order mark, else UTF-8.

    Spreadsheets and PowerShell write such files.
    """
    # utf-8-sig drops a byte order mark; a file without one is read like UTF-8.
    with file.open("rb") as content:
        marked = content.read(2) in UTF16_MARKS
    return "utf-16" if marked else "utf-8-sig"


def number_of(word: str) -> float:
    """Parses a number in the notation of annotation files.

    Raises:
        ValueError: `word` is no number. Python's ``1_000`` and other digits such as ``١٢`` count
            as none, because they are rather damage than a number.
    """
    if "_" in word or not word.isascii():
        raise ValueError(f"no number: {word!r}")
    return float(word)


def numbers_of(words: Sequence[str]) -> list[float] | None:
    """Parses all words as numbers; None if one of them is no number."""
    try:
        return [number_of(word) for word in words]
    except ValueError:
        return None


def size_of(height: object, width: object) -> tuple[int, int]:
    """Parses a declared height and width in pixels.

    Args:
        height: a number or its text.
        width: a number or its text.

    Returns:
        Both, or `NOT_DECLARED` if one of them is no positive integer.
    """
    sides = []
    for side in (height, width):
        try:
            number = number_of(str(side))  # str() raises too, for an integer of 5,000 digits
        except ValueError:
            return NOT_DECLARED
        if not 0 < number < _MAX_SIDE or not number.is_integer():
            return NOT_DECLARED
        sides.append(int(number))
    return sides[0], sides[1]


def check_name(name: str) -> None:
    """Checks that a name can be stored as UTF-8.

    Raises:
        ValueError: the name has half a surrogate pair. JSON and YAML can write one as an escape.
    """
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name!a} is no text: half a character is in it") from error
