"""Finds JSON files by their keys, and decodes them part by part.

A file is parsed once into undecoded parts. Each part is decoded into a typed structure of its own,
so that a malformed shape costs only itself.
"""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Sequence
from typing import Any, Final, TypeVar

import msgspec

from processing.core.error_notes import with_filename
from processing.core.errors import AnnotationError
from processing.sources.raw_directory import RawDirectory
from processing.sources.text import UTF16_MARKS, check_name, malformed

Kind = TypeVar("Kind")

_HEAD_BYTES: Final = 16 << 10
"""Bytes that are searched for the first keys of a format. No annotation tool writes them later."""

_MAX_DIGITS: Final = 18
"""Digits of an integer that surely fits into int64. Python refuses to convert 5,000 digits."""

_UTF8_MARK: Final = b"\xef\xbb\xbf"
_MALFORMED: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def key(name: str, value: str = "") -> re.Pattern[bytes]:
    """Returns a pattern that finds a key of an object.

    Args:
        name: regular expression of the key.
        value: regular expression of the beginning of its value.
    """
    return re.compile(rf'"{name}"\s*:\s*{value}'.encode())


def files_with(
    raw: RawDirectory,
    begins: Sequence[re.Pattern[bytes]],
    contains: Sequence[re.Pattern[bytes]] = (),
) -> list[str]:
    """Finds JSON files by their content, sorted.

    The beginning of a file is searched first, so that files of other formats cost microseconds.

    Args:
        raw: the raw directory.
        begins: patterns that all occur in the first 16 KiB.
        contains: patterns; at least one occurs anywhere. Empty: nothing more is required.
    """
    return [path for path in raw.with_suffix(".json") if _fits(raw, path, begins, contains)]


def _fits(
    raw: RawDirectory,
    path: str,
    begins: Sequence[re.Pattern[bytes]],
    contains: Sequence[re.Pattern[bytes]],
) -> bool:
    with with_filename(raw.path(path)), raw.path(path).open("rb") as file:
        head = file.read(_HEAD_BYTES)
        if head[:2] in UTF16_MARKS:
            # Rare, and the patterns are bytes of UTF-8.
            text = (head + file.read()).decode("utf-16", errors="replace").encode()
            head = text[:_HEAD_BYTES]
            return _all_in(begins, head) and _any_in(contains, text)
        if not _all_in(begins, head):
            return False
        if not contains or len(head) < _HEAD_BYTES:
            return _any_in(contains, head)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _any_in(contains, content)


def _all_in(patterns: Sequence[re.Pattern[bytes]], content: bytes) -> bool:
    return all(pattern.search(content) for pattern in patterns)


def _any_in(patterns: Sequence[re.Pattern[bytes]], content: bytes | mmap.mmap) -> bool:
    return not patterns or any(pattern.search(content) for pattern in patterns)


def load(raw: RawDirectory, path: str) -> Any:
    """Reads a JSON file as an undecoded value for `decoded`, `members` or `elements`.

    Raises:
        AnnotationError: the file is no JSON; reason ``malformed``.
    """
    with with_filename(raw.path(path)):
        content = raw.path(path).read_bytes().removeprefix(_UTF8_MARK)
    try:
        return msgspec.json.decode(content, type=msgspec.Raw)
    except _MALFORMED as strict_error:
        try:
            # Python's json writes NaN and Infinity, which strict JSON does not have.
            return json.loads(_text(content), parse_int=_number)
        except (ValueError, RecursionError):
            cut = not content.rstrip().endswith((b"}", b"]", b"}\0", b"]\0"))
            raise malformed(
                f"no readable JSON: {strict_error}; found {len(content):,} bytes"
                f"{': was the copy interrupted?' if cut else ''}"
            ) from strict_error


def _text(content: bytes) -> str:
    """Decodes UTF-8 or UTF-16. Undecodable bytes stay, and `category` finds them."""
    if content[:2] in UTF16_MARKS:
        return content.decode("utf-16", errors="surrogatepass")
    return content.decode(json.detect_encoding(content), errors="surrogateescape")


def _number(written: str) -> int | float:
    """Parses an integer; one with too many digits becomes a float."""
    return int(written) if len(written) <= _MAX_DIGITS else float(written)


def decoded(value: Any, kind: type[Kind]) -> Kind:
    """Decodes a value from `load`, `members` or `elements`.

    Args:
        value: the undecoded value.
        kind: the type to decode into. Numbers may be written as text.

    Raises:
        AnnotationError: the value has another form; reason ``malformed``.
    """
    try:
        if isinstance(value, msgspec.Raw):
            return msgspec.json.decode(value, type=kind, strict=False)
        return msgspec.convert(value, kind, strict=False)
    except _MALFORMED as error:
        # Written with a small letter, because the message continues the place of the value.
        found = str(error)
        raise malformed(found[:1].lower() + found[1:]) from error


def members(value: Any) -> dict[str, Any]:
    """Decodes the keys of an object; its values stay undecoded.

    Raises:
        AnnotationError: `value` is no object; reason ``malformed``.
    """
    if isinstance(value, msgspec.Raw):
        return dict(decoded(value, dict[str, msgspec.Raw]))
    return decoded(value, dict[str, Any])


def elements(value: Any) -> list[Any]:
    """Splits a list, or the values of an object, into undecoded values.

    Some tools write lists as objects with the keys ``"0"``, ``"1"``.

    Raises:
        AnnotationError: `value` is neither; reason ``malformed``.
    """
    if isinstance(value, msgspec.Raw):
        if bytes(value).lstrip()[:1] == b"{":
            return list(members(value).values())
        return list(decoded(value, list[msgspec.Raw]))
    return list(value.values()) if isinstance(value, dict) else decoded(value, list[Any])


def category(written: object) -> str:
    """Returns the name of a category, which may be written as a number.

    Raises:
        AnnotationError: `written` is no name; reason ``malformed``.
    """
    is_text = isinstance(written, str | int | float) and not isinstance(written, bool)
    name = str(written).strip() if is_text else ""
    if not name:
        raise AnnotationError(f"expected the name of a class, found {written!r}", "malformed")
    try:
        check_name(name)
    except ValueError as error:
        raise malformed(str(error)) from error
    return name
