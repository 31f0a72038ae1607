"""Decodes a COCO file entry by entry: what one bad entry costs is that entry.

The file is parsed once into its undecoded entries, which are decoded in chunks, so that peak memory
stays below twice the file's size however much of it is boxes.
"""

from __future__ import annotations

import json
import mmap
import re
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from processing.core.error_notes import with_filename
from processing.core.errors import AnnotationError
from processing.sources.text import UTF16_MARKS, check_name

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

    def __post_init__(self) -> None:
        for name in (self.name, *(self.keypoints or ())):
            check_name(name)


class _OwnId(msgspec.Struct):
    id: Id


class _ImageId(msgspec.Struct):
    image_id: Id


class Failure(NamedTuple):
    """An entry that is malformed: where it stands, why, and its image's id if that is whole."""

    position: int
    error: Exception
    image_id: Id | None


class _Loose(msgspec.Struct):
    images: list[Any]
    annotations: list[Any]
    categories: list[Any]


class _Strict(_Loose):
    images: list[msgspec.Raw]
    annotations: list[msgspec.Raw]
    categories: list[msgspec.Raw]


class Entries:
    """One of the three lists, to be decoded once, a chunk at a time.

    Args:
        written: raw JSON, or plain objects where the file is not strict JSON; emptied.
    """

    def __init__(self, written: list[Any]) -> None:
        self._count = len(written)
        # Tuples of raw JSON are nothing to the garbage collector, which would walk a list of
        # millions again and again while its entries become objects.
        self._chunks = deque(
            tuple(written[start : start + _CHUNK]) for start in range(0, len(written), _CHUNK)
        )
        written.clear()

    def __len__(self) -> int:
        """How many entries the file has, decoded or not."""
        return self._count

    def decoded(
        self, kind: type[Entry]
    ) -> Iterator[tuple[Sequence[int], list[Entry], list[Failure]]]:
        """Decodes the entries, and lets go of them: undecoded ones are half of the peak.

        Yields:
            Positions in the list and the decoded entries at them; the malformed ones.
        """
        start = 0
        while self._chunks:
            chunk = self._chunks.popleft()
            try:
                joined = b"[" + b",".join(chunk) + b"]"
                decoded = msgspec.json.decode(joined, type=list[kind])  # type: ignore[valid-type]  # a run-time type
            except (TypeError, *_MALFORMED):
                yield _one_by_one(chunk, kind, start)
            else:
                yield range(start, start + len(chunk)), decoded, []
            start += len(chunk)


class CocoFile(NamedTuple):
    """The three lists."""

    images: Entries
    annotations: Entries
    categories: Entries


_LISTS: Final = [
    re.compile(rb'"%s"\s*:\s*\[' % name) for name in (b"images", b"annotations", b"categories")
]
_CHUNK: Final = 512
"""Entries held as Python objects at a time: so few that their lists of numbers come and go below
the garbage collector's first threshold. Each of its full passes walks the names of all files, and
65,536 at a time cost a hundred passes, a third of the time to read a million images."""

_MOST_DIGITS: Final = 18
_UTF8_MARK: Final = b"\xef\xbb\xbf"
_MALFORMED: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_BAD_ENTRY: Final = (msgspec.MsgspecError, UnicodeDecodeError)


def looks_like_coco(path: Path) -> bool:
    """Whether the file has COCO's three lists, or has ``images`` and is not whole."""
    if path.stat().st_size == 0:
        return False
    with (
        with_filename(path),
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        if content[:2] in UTF16_MARKS:
            return any('"images"'.encode(name) in content[:] for name in ("utf-16-le", "utf-16-be"))
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
    with with_filename(path):
        content = path.read_bytes().removeprefix(_UTF8_MARK)
    file: _Loose
    try:
        file = msgspec.json.decode(content, type=_Strict)
    except _MALFORMED as strict_error:
        try:
            # Python's json writes NaN and Infinity, which JSON does not have, and reads them back.
            file = msgspec.convert(json.loads(_text(content), parse_int=_number), _Loose)
        except (ValueError, RecursionError):
            cut = not content.rstrip().endswith((b"}", b"]", b"}\0", b"]\0"))
            raise AnnotationError(
                f"{strict_error}; expected a COCO file with the lists images, annotations and "
                f"categories, found {len(content):,} bytes"
                f"{': was the copy interrupted?' if cut else ''}",
                reason="malformed",
            ) from strict_error
    return CocoFile(Entries(file.images), Entries(file.annotations), Entries(file.categories))


def _text(content: bytes) -> str:
    """UTF-8 or UTF-16; bytes that are neither stay, and cost the entries whose names have them."""
    if content[:2] in UTF16_MARKS:
        return content.decode("utf-16", errors="replace")
    return content.decode(json.detect_encoding(content), errors="surrogateescape")


def _number(written: str) -> int | float:
    """What is too long for an integer is infinite, and costs its entry alone."""
    return int(written) if len(written) <= _MOST_DIGITS else float(written)


def _one_by_one(
    chunk: Sequence[Any], kind: type[Entry], start: int
) -> tuple[Sequence[int], list[Entry], list[Failure]]:
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
