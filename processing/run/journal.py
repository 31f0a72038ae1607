"""Journal: what a processing run has made durable so far, so that a killed one can continue.

One append-only file. It begins with a header that says which run it belongs to; each record is
appended after the data that it speaks of is durable, and is framed by length and CRC-32, so that a
torn tail is recognised and ignored.
"""

from __future__ import annotations

import contextlib
import os
import struct
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
from isal.isal_zlib import crc32

from processing.core.errors import Rejection
from processing.core.files import NamedFile, sync_directory

JOURNAL_VERSION: Final = 3
_FRAME: Final = struct.Struct("<II")  # payload bytes, CRC-32 of the payload


class JournalHeader(msgspec.Struct, frozen=True):
    """Which run the journal belongs to.

    Args:
        key: hash of everything that decides the run's output.
        outputs: names of the files that it writes, and height and width of their images.
        version: of the journal's records; one of another version is not continued.
    """

    key: str
    outputs: dict[str, tuple[int, int]]
    version: int


class Block(msgspec.Struct):
    """What was appended to one output.

    Args:
        image_rows: how many rows each new image has in it.
        columns: the rows' columns as bytes; ragged ones with ``NAME_lengths``.
    """

    image_rows: list[int]
    columns: dict[str, bytes]

    @property
    def rows(self) -> int:
        """How many rows were appended."""
        return sum(self.image_rows)


class FlushRecord(msgspec.Struct, tag="flush"):
    """What one flush made durable.

    Args:
        images_done: images of the plan that are finished, from its start.
        blocks: per output, its new rows.
        counts: per output, instances read and stored and how often each repair was made.
        input_crc32: CRC-32 of the bytes of each new image, in order; 0 where it could not be read.
        image_keys: of each new image, what its rows were made of and how; see `EarlierRows`.
        rejections: inputs that were left out.
    """

    images_done: int
    blocks: dict[str, Block]
    counts: dict[str, dict[str, int]]
    input_crc32: list[int]
    image_keys: list[int]
    rejections: list[Rejection]


class FinishedRecord(msgspec.Struct, tag="finished"):
    """All files are written and durable; only their names are left to change.

    Args:
        content_ids: by output, the `MappedNPZ.content_id` of its file.
    """

    content_ids: dict[str, int]


@dataclass(slots=True)
class Progress:
    """What a run has made durable: everything that its journal says, added up."""

    images_done: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    input_crc32: array[int] = field(default_factory=lambda: array("I"))  # a list: 9 times as much
    image_keys: array[int] = field(default_factory=lambda: array("Q"))
    rejections: list[Rejection] = field(default_factory=list)

    def add(self, record: FlushRecord) -> None:
        """Adds one flush."""
        self.images_done = record.images_done
        self.rows.update({name: block.rows for name, block in record.blocks.items()})
        for name, counts in record.counts.items():
            self.counts.setdefault(name, Counter()).update(counts)
        self.input_crc32.extend(record.input_crc32)
        self.image_keys.extend(record.image_keys)
        self.rejections += record.rejections


class Journal:
    """The journal file of one run. Used by one thread at a time.

    Args:
        path: the file; created if absent, locked while it is open.
        header: the run. A journal of another run is emptied.

    Raises:
        InterferenceError: another process has it open.

    Attributes:
        finished: what was noted when the run's files were finished; None before.
    """

    def __init__(self, path: Path, header: JournalHeader) -> None:
        self.path = path
        self.finished: FinishedRecord | None = None
        continued = header_of(path) == header
        self._file = NamedFile(path, "r+b" if continued else "w+b")
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(self._file.close)
            self._file.lock()
            if continued:
                for _ in self.records():
                    pass  # leaves the file's position behind the last whole record
                self._file.truncate()
            else:
                self._write([msgspec.msgpack.encode(header)])
                sync_directory(path.parent)
            on_failure.pop_all()

    def records(self) -> Iterator[FlushRecord]:
        """All whole records, from the first."""
        self._file.seek(0)
        _read_frame(self._file)
        end = self._file.tell()
        for record in _records(self._file):
            if isinstance(record, FinishedRecord):
                self.finished = record
            else:
                yield record
            end = self._file.tell()
        self._file.seek(end)

    def append(self, records: Iterable[FlushRecord]) -> None:
        """Appends records and makes them durable."""
        self._write(msgspec.msgpack.encode(record) for record in records)

    def finish(self, content_ids: Mapping[str, int]) -> None:
        """Notes that all files are finished: from here the run only renames them."""
        self.finished = FinishedRecord(dict(content_ids))
        self._write([msgspec.msgpack.encode(self.finished)])

    def _write(self, payloads: Iterable[bytes]) -> None:
        self._file.seek(0, os.SEEK_END)
        for payload in payloads:
            self._file.write(_FRAME.pack(len(payload), crc32(payload)) + payload)
        self._file.sync()

    def close(self) -> None:
        """Closes the file; it stays, to continue from."""
        self._file.close()

    def remove(self) -> None:
        """Closes and deletes the file: the run is published."""
        self._file.close()
        self.path.unlink()


def refuse_used(path: Path) -> None:
    """Makes sure that no process has the journal open that is at `path`, if there is one.

    Raises:
        InterferenceError: one has.
    """
    if path.exists():
        with contextlib.closing(NamedFile(path, "rb")) as file:
            file.lock()


def header_of(path: Path) -> JournalHeader | None:
    """The header of the journal at `path`; None where none of this version can be read."""
    if not path.exists():
        return None
    with contextlib.closing(NamedFile(path, "rb")) as file:
        payload = _read_frame(file)
    header = None if payload is None else _decoded(payload, JournalHeader)
    return header if header is not None and header.version == JOURNAL_VERSION else None


def records_of(path: Path) -> Iterator[FlushRecord]:
    """What the journal at `path` says was flushed; nothing where it cannot be read."""
    return (record for record in _all_records(path) if isinstance(record, FlushRecord))


def is_finished(path: Path) -> bool:
    """Whether the journal at `path` says that all files of its run were finished."""
    return any(isinstance(record, FinishedRecord) for record in _all_records(path))


def _all_records(path: Path) -> Iterator[FlushRecord | FinishedRecord]:
    if header_of(path) is not None:
        with contextlib.closing(NamedFile(path, "rb")) as file:
            _read_frame(file)
            yield from _records(file)


def _records(file: NamedFile) -> Iterator[FlushRecord | FinishedRecord]:
    """The records from here on, up to the first that is torn or none of ours."""
    while payload := _read_frame(file):
        record = _decoded(payload, FlushRecord | FinishedRecord)
        if record is None:
            return
        yield record


def _decoded(payload: bytes, kind: Any) -> Any:
    """What a frame holds; None where it holds something else."""
    try:
        return msgspec.msgpack.decode(payload, type=kind)
    except msgspec.DecodeError:
        return None


def _read_frame(file: NamedFile) -> bytes | None:
    """The next payload; None at the end of the file or where it is torn."""
    frame = file.read(_FRAME.size)
    if len(frame) < _FRAME.size:
        return None
    length, checksum = _FRAME.unpack(frame)
    payload = file.read(min(length, _bytes_left(file)))
    return payload if len(payload) == length and crc32(payload) == checksum else None


def _bytes_left(file: NamedFile) -> int:
    """What a length that is not true must not take more memory than."""
    position = file.tell()
    end = file.seek(0, os.SEEK_END)
    file.seek(position)
    return end - position
