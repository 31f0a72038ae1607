"""Text files of annotations: their encoding, their lines, and the numbers and names in them."""

from __future__ import annotations

import codecs
import contextlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, TextIO

from processing.core.annotations import NOT_DECLARED
from processing.core.error_notes import with_filename
from processing.core.errors import AnnotationError
from processing.sources.raw_directory import RawDirectory

MAX_SINGLE_FILE_BYTES: Final = 64 << 20
"""Bytes of a file that describes one image or names the classes; larger ones are refused unread."""


def check_size(file: Path) -> None:
    """Makes sure that a file that describes one image is not larger than any such file.

    Raises:
        AnnotationError: it is; reason ``too_large``.
    """
    size = file.stat().st_size
    if size > MAX_SINGLE_FILE_BYTES:
        raise AnnotationError(
            f"{size:,} bytes: expected at most {MAX_SINGLE_FILE_BYTES:,} for one image",
            reason="too_large",
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
        with with_filename(file):
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
    with with_filename(file):
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
    with (
        with_filename(file),
        file.open(encoding=_encoding(file), errors="replace", newline="") as text,
    ):
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


def size_of(height: object, width: object) -> tuple[int, int]:
    """Declared height and width in pixels; `NOT_DECLARED` unless both are positive integers.

    Args:
        height: a number, or its text.
        width: likewise.
    """
    try:
        numbers = [number_of(str(side)) for side in (height, width)]
    except ValueError:
        return NOT_DECLARED
    if not all(0 < number < _MAX_SIDE and number.is_integer() for number in numbers):
        return NOT_DECLARED
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
