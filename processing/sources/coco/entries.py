"""Decodes a COCO file entry by entry, so that a bad entry costs only that entry.

The file is parsed once into undecoded entries, and these are decoded in chunks. Peak memory stays
near twice the size of the file, even if most of it is boxes.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec

from processing.core.error_notes import with_filename
from processing.sources.text import UTF16_MARKS, check_name, malformed

Id = int | str
Entry = TypeVar("Entry", bound=msgspec.Struct)


# gc=False: the entries hold no cycles, and the garbage collector need not follow millions of them.
class Image(msgspec.Struct, gc=False):
    """One entry of ``images``."""

    id: Id
    file_name: str
    height: Any = None
    width: Any = None


class Annotation(msgspec.Struct, gc=False):
    """One entry of ``annotations``; all other keys are skipped."""

    image_id: Id
    category_id: Id
    bbox: list[float] | None = None
    keypoints: list[float] | None = None
    iscrowd: int | bool | None = 0
    ignore: Any = None
    score: Any = None
    id: Any = None


class Segmentation(msgspec.Struct):
    """The outline of an annotation, decoded only where its ``bbox`` is missing."""

    segmentation: Any = None


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
    """A malformed entry: its position in the list, the error, and its image's id if readable."""

    position: int
    error: Exception
    image_id: Id | None


class Chunk(NamedTuple, Generic[Entry]):
    """Some consecutive entries of a list.

    Args:
        positions: the positions of the sound entries in the list.
        entries: the sound entries.
        written: the same entries undecoded.
        failures: the malformed entries.
    """

    positions: Sequence[int]
    entries: list[Entry]
    written: Sequence[Any]
    failures: list[Failure]


# A list of images of COCO's test sets has no key ``annotations``, and may have no categories.
class _Loose(msgspec.Struct):
    """A file that is not strict JSON, as Python objects."""

    images: list[Any]
    annotations: list[Any] = []
    categories: list[Any] = []


class _Strict(_Loose):
    """A file of strict JSON, with the text of each entry."""

    images: list[msgspec.Raw]
    annotations: list[msgspec.Raw] = []
    categories: list[msgspec.Raw] = []


class Entries:
    """One of the three lists of a file; it can be decoded once.

    Args:
        written: the entries as raw JSON, or as plain objects if the file is not strict JSON. The
            list is emptied.
    """

    def __init__(self, written: list[Any]) -> None:
        self._count = len(written)
        # The garbage collector stops tracking a tuple of raw JSON. A list of millions of entries
        # would be walked in each full pass, while the decoded objects trigger pass after pass.
        self._chunks = deque(
            tuple(written[start : start + _CHUNK]) for start in range(0, len(written), _CHUNK)
        )
        written.clear()

    def __len__(self) -> int:
        """The number of entries in the file, decoded or not."""
        return self._count

    def decoded(self, kind: type[Entry]) -> Iterator[Chunk[Entry]]:
        """Decodes the entries chunk by chunk and frees each chunk before the next.

        Without that, the undecoded entries would be half of the peak memory.
        """
        start = 0
        while self._chunks:
            chunk = self._chunks.popleft()
            try:
                joined = b"[" + b",".join(chunk) + b"]"
                decoded = msgspec.json.decode(joined, type=list[kind])  # type: ignore[valid-type]  # a run-time type
            except (TypeError, *MALFORMED):
                result = _one_by_one(chunk, kind, start)
            else:
                result = Chunk(range(start, start + len(chunk)), decoded, chunk, [])
                del decoded
            start += len(chunk)
            # Entries that live on while the next chunk is decoded would scatter the free memory,
            # and the peak would rise by a tenth. The caller lets go of its chunk too.
            del chunk
            yield result
            del result


class CocoFile(NamedTuple):
    """The three lists of a COCO file."""

    images: Entries
    annotations: Entries
    categories: Entries


_CHUNK: Final = 512
"""Entries held as Python objects at a time.

So few that their lists of numbers stay below the garbage collector's first threshold. With 65,536
entries at a time it made a hundred full passes over the names of all files, which took a third of
the time to read a million images.
"""

_MAX_DIGITS: Final = 18
"""Digits of an integer that surely fits into int64. Python refuses to convert 5,000 digits."""

UTF8_MARK: Final = b"\xef\xbb\xbf"
MALFORMED: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_BAD_ENTRY: Final = (msgspec.MsgspecError, UnicodeDecodeError)


def load(path: Path) -> CocoFile:
    """Reads a COCO file.

    Raises:
        AnnotationError: the file is no JSON, or lacks a list; reason ``malformed``.
    """
    with with_filename(path):
        content = path.read_bytes().removeprefix(UTF8_MARK)
    file: _Loose
    try:
        file = msgspec.json.decode(content, type=_Strict)
    except MALFORMED as strict_error:
        try:
            # Python's json writes NaN and Infinity, which strict JSON does not have.
            file = msgspec.convert(json.loads(_text(content), parse_int=_number), _Loose)
        except (ValueError, RecursionError):
            cut = not content.rstrip().endswith((b"}", b"]", b"}\0", b"]\0"))
            raise malformed(
                f"{strict_error}; expected a COCO file with the lists images, annotations and "
                f"categories, found {len(content):,} bytes"
                f"{': was the copy interrupted?' if cut else ''}"
            ) from strict_error
    return CocoFile(Entries(file.images), Entries(file.annotations), Entries(file.categories))


def _text(content: bytes) -> str:
    """Decodes UTF-8 or UTF-16. Undecodable bytes stay, and spoil only the entries with them."""
    if content[:2] in UTF16_MARKS:
        return content.decode("utf-16", errors="replace")
    return content.decode(json.detect_encoding(content), errors="surrogateescape")


def _number(written: str) -> int | float:
    """Parses an integer. One with too many digits becomes a float, and spoils only its entry."""
    return int(written) if len(written) <= _MAX_DIGITS else float(written)


def _one_by_one(chunk: Sequence[Any], kind: type[Entry], start: int) -> Chunk[Entry]:
    positions: list[int] = []
    decoded: list[Entry] = []
    written: list[Any] = []
    failures: list[Failure] = []
    for position, entry in enumerate(chunk, start):
        try:
            decoded.append(decode(entry, kind))
        except _BAD_ENTRY as error:
            failures.append(Failure(position, error, _image_id(entry, kind)))
        else:
            positions.append(position)
            written.append(entry)
    return Chunk(positions, decoded, written, failures)


def decode(entry: Any, kind: type[Entry]) -> Entry:
    """Decodes one entry as `Entries` holds it; numbers may be written as text.

    Raises:
        msgspec.MsgspecError: the entry does not fit `kind`.
        UnicodeDecodeError: it holds text that is not UTF-8.
    """
    if isinstance(entry, msgspec.Raw):
        return msgspec.json.decode(entry, type=kind, strict=False)
    return msgspec.convert(entry, kind, strict=False)


def _image_id(entry: Any, kind: type[msgspec.Struct]) -> Id | None:
    """Returns the image id of a malformed image or annotation; None if it is unreadable too."""
    try:
        if kind is Annotation:
            return same_id(decode(entry, _ImageId).image_id)
        return same_id(decode(entry, _OwnId).id)
    except _BAD_ENTRY:
        return None


def same_id(written: Id) -> Id:
    """Returns the id as a dictionary key: ``"1"`` becomes 1, other strings stay as they are."""
    # "01" and digits of other scripts stay text, since str(int(...)) does not give them back.
    if isinstance(written, str) and written.isdecimal():
        number = int(written[:_MAX_DIGITS])
        return number if written == str(number) else written
    return written
