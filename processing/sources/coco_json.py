"""Decodes a COCO file entry by entry: what one bad entry costs is that entry.

The file is parsed once into its undecoded entries, which are decoded in chunks, so that peak memory
stays below twice the file's size however much of it is boxes.
"""

from __future__ import annotations

import itertools
import json
import mmap
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from processing.errors import AnnotationError

Id = int | str
Entry = TypeVar("Entry", bound=msgspec.Struct)


class Image(msgspec.Struct, gc=False):
    """One entry of ``images``."""

    id: Id
    file_name: str
    height: Any = None
    width: Any = None


class Annotation(msgspec.Struct, gc=False):
    """One entry of ``annotations``; ``segmentation`` and the rest are skipped."""

    image_id: Id
    category_id: Id
    bbox: list[float] | None = None
    keypoints: list[float] | None = None
    iscrowd: int | bool | None = 0


class Category(msgspec.Struct, gc=False):
    """One entry of ``categories``."""

    id: Id
    name: str
    keypoints: list[str] | None = None


class _OwnId(msgspec.Struct):
    id: Id


class _ImageId(msgspec.Struct):
    image_id: Id


class Failure(NamedTuple):
    """An entry that is malformed: where it stands, why, and its image's id if that is whole."""

    position: int
    error: Exception
    image_id: Id | None


class CocoFile(msgspec.Struct):
    """The three lists; entries are raw JSON, or plain objects where the file is not strict JSON."""

    images: list[Any]
    annotations: list[Any]
    categories: list[Any]


class _Strict(CocoFile):
    images: list[msgspec.Raw]
    annotations: list[msgspec.Raw]
    categories: list[msgspec.Raw]


_LISTS: Final = [
    re.compile(rb'"%s"\s*:\s*\[' % name) for name in (b"images", b"annotations", b"categories")
]
_CHUNK: Final = 1 << 16
"""Entries held as Python objects at a time; larger chunks are no faster."""

_UTF8_MARK: Final = b"\xef\xbb\xbf"
_MALFORMED: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_BAD_ENTRY: Final = (msgspec.MsgspecError, UnicodeDecodeError)


def looks_like_coco(path: Path) -> bool:
    """Whether the file has COCO's three lists, or has ``images`` and is not whole."""
    if path.stat().st_size == 0:
        return False
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        present = [bool(pattern.search(content)) for pattern in _LISTS]
        if all(present) or not present[0]:
            return all(present)
        try:
            msgspec.json.decode(content[:].removeprefix(_UTF8_MARK), type=_Nothing)
        except _MALFORMED:
            return True
    return False


class _Nothing(msgspec.Struct):
    """Decoding it checks that the JSON is whole and keeps none of it."""


def load(path: Path) -> CocoFile:
    """Reads the file.

    Raises:
        AnnotationError: it is no JSON, or lacks a list; reason ``malformed``.
    """
    content = path.read_bytes().removeprefix(_UTF8_MARK)
    try:
        return msgspec.json.decode(content, type=_Strict)
    except _MALFORMED as strict_error:
        try:
            # Python's json writes NaN and Infinity, which JSON does not have, and reads them back.
            return msgspec.convert(json.loads(content), CocoFile)
        except (ValueError, RecursionError):
            raise AnnotationError(
                f"{strict_error}; expected a COCO file with the lists images, annotations and "
                f"categories, found {len(content):,} bytes: was the copy interrupted?",
                reason="malformed",
            ) from strict_error


def chunks(
    entries: list[Any], kind: type[Entry]
) -> Iterator[tuple[list[int], list[Entry], list[Failure]]]:
    """Decodes the entries a chunk at a time, and takes them from the list.

    Yields:
        Positions in `entries` and the decoded entries at them; the malformed ones.
    """
    for start in range(0, len(entries), _CHUNK):
        chunk = entries[start : start + _CHUNK]
        # What was decoded is not needed again; undecoded entries are half of the peak.
        entries[start : start + _CHUNK] = itertools.repeat(None, len(chunk))
        try:
            joined = b"[" + b",".join(chunk) + b"]"
            decoded = msgspec.json.decode(joined, type=list[kind])  # type: ignore[valid-type]  # a run-time type
        except (TypeError, *_MALFORMED):
            yield _one_by_one(chunk, kind, start)
        else:
            yield list(range(start, start + len(chunk))), decoded, []


def _one_by_one(
    chunk: list[Any], kind: type[Entry], start: int
) -> tuple[list[int], list[Entry], list[Failure]]:
    positions: list[int] = []
    decoded: list[Entry] = []
    failures: list[Failure] = []
    for position, entry in enumerate(chunk, start):
        try:
            decoded.append(_decoded(entry, kind))
            positions.append(position)
        except _BAD_ENTRY as error:
            failures.append(Failure(position, error, _image_id(entry, kind)))
    return positions, decoded, failures


def _decoded(entry: Any, kind: type[Entry]) -> Entry:
    if isinstance(entry, msgspec.Raw):
        return msgspec.json.decode(entry, type=kind, strict=False)
    return msgspec.convert(entry, kind, strict=False)


def _image_id(entry: Any, kind: type[msgspec.Struct]) -> Id | None:
    """The id of the image that a malformed entry is, or belongs to."""
    try:
        if kind is Annotation:
            return same_id(_decoded(entry, _ImageId).image_id)
        return same_id(_decoded(entry, _OwnId).id)
    except _BAD_ENTRY:
        return None


def same_id(written: Id) -> Id:
    """The id as a key: ``"1"`` is 1, other strings are themselves."""
    # 18 digits: beyond any id, and far below the length that Python refuses to convert.
    if isinstance(written, str) and written.isdecimal() and written == str(int(written[:18])):
        return int(written)
    return written
