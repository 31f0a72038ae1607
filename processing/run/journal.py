"""Journal: how far a processing run has come, durable, so that a killed run can be continued.

One append-only file. It begins with a header that identifies the run. Each record is appended after
the rows that it describes are durable, and is framed by its length and CRC-32, so that a record cut
short is recognised and ignored.
"""

from __future__ import annotations

import os
import struct
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import msgspec
import numpy as np
from isal.isal_zlib import crc32

from processing.core.error_notes import with_filename
from processing.core.errors import Rejection
from processing.core.files import (
    lock_file,
    open_exclusively,
    open_own,
    sync_directory,
    sync_file,
)
from processing.run.image_member import LENGTHS, ImageMember

JOURNAL_VERSION: Final = 6
_FRAME: Final = struct.Struct("<II")  # payload bytes, CRC-32 of the payload


class JournalHeader(msgspec.Struct, frozen=True):
    """The run that a journal belongs to.

    Args:
        key: hash of everything that decides the run's output, except the content of the images.
        outputs: by name of each file that the run writes, the member with its images.
        version: of the records; a journal of another version is not continued.
        inputs: hash of the images' files, which tells when their content has to be compared.
    """

    key: str
    outputs: dict[str, ImageMember]
    version: int = JOURNAL_VERSION
    inputs: str = ""


class Block(msgspec.Struct):
    """New rows of one output.

    Args:
        rows: how many.
        columns: the rows' values by column name, as bytes; a ragged column has its lengths next to
            it, as ``NAME_lengths``, and encoded images have only these.
    """

    rows: int
    columns: dict[str, bytes]

    @property
    def encoded_bytes(self) -> int:
        """Bytes of the encoded images; 0 for pixels."""
        return int(np.frombuffer(self.columns.get(LENGTHS, b""), "<i8").sum())


class FlushRecord(msgspec.Struct, tag="flush"):
    """One batch, made durable by a flush.

    Args:
        images_done: images of the plan that are finished, counted from its start.
        blocks: by output name, its new rows.
        counts: by output name, instances read and stored, and how often each repair was made.
        input_crc32: CRC-32 of the bytes of each new image, in order; 0 if it could not be read.
        image_keys: the key of each new image, see `EarlierRows`; 0 if it has no rows.
        rejections: by output name, images that were left out of it.
        dropped: by output name, the lines of its list of dropped instances.
    """

    images_done: int
    # No defaults: with them, a record of another version would be read as an empty one.
    blocks: dict[str, Block]
    counts: Mapping[str, Mapping[str, int]]
    input_crc32: list[int]
    image_keys: list[int]
    rejections: dict[str, list[Rejection]]
    dropped: dict[str, bytes]


class FinishedRecord(msgspec.Struct, tag="finished"):
    """All files are complete and durable; only their names are left to change.

    Args:
        content_ids: by output name, the `MappedNPZ.content_id` of its file.
    """

    content_ids: dict[str, int]


@dataclass(slots=True)
class Progress:
    """All records of a journal, added up.

    Args:
        images_done: images of the plan that are finished, counted from its start.
        rows: by output name, its rows.
        encoded_bytes: by output name, bytes of its encoded images; 0 for pixels.
        column_bytes: by output name and column name, bytes of its values.
        counts: as in `FlushRecord`.
        input_crc32: as in `FlushRecord`, for all images done.
        image_keys: as in `FlushRecord`, for all images done.
        rejections: as in `FlushRecord`.
        dropped_bytes: by output name, bytes of its list of dropped instances.
        content_ids: as in `FinishedRecord`; None until the files are finished.
    """

    images_done: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    encoded_bytes: Counter[str] = field(default_factory=Counter)
    column_bytes: dict[str, Counter[str]] = field(default_factory=dict)
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    # Arrays, because a list of a million numbers takes nine times the memory.
    input_crc32: array[int] = field(default_factory=lambda: array("I"))
    image_keys: array[int] = field(default_factory=lambda: array("Q"))
    rejections: dict[str, list[Rejection]] = field(default_factory=dict)
    dropped_bytes: Counter[str] = field(default_factory=Counter)
    content_ids: dict[str, int] | None = None

    def add(self, record: FlushRecord | FinishedRecord) -> None:
        """Adds one record."""
        if isinstance(record, FinishedRecord):
            self.content_ids = record.content_ids
            return
        self.images_done = record.images_done
        for name, block in record.blocks.items():
            self.rows[name] += block.rows
            self.encoded_bytes[name] += block.encoded_bytes
            sizes = {column: len(content) for column, content in block.columns.items()}
            self.column_bytes.setdefault(name, Counter()).update(sizes)
        for name, counts in record.counts.items():
            self.counts.setdefault(name, Counter()).update(counts)
        self.input_crc32.extend(record.input_crc32)
        self.image_keys.extend(record.image_keys)
        # Tasks reject a bad image for the same reason. One object for all of them saves memory.
        shared: dict[Rejection, Rejection] = {}
        for name, rejections in record.rejections.items():
            listed = self.rejections.setdefault(name, [])
            listed += [shared.setdefault(rejection, rejection) for rejection in rejections]
        for name, lines in record.dropped.items():
            self.dropped_bytes[name] += len(lines)

    def rejected_images(self) -> list[Rejection]:
        """One rejection of each image that is left out of any file; the first that is no rule."""
        by_path: dict[str, Rejection] = {}
        for rejections in self.rejections.values():
            for rejection in rejections:
                known = by_path.setdefault(rejection.path, rejection)
                if known.by_rules:
                    by_path[rejection.path] = rejection
        return list(by_path.values())


class Journal:
    """The journal file of one run. Used by one thread at a time.

    Args:
        path: the file; created if absent, locked while it is open.
        header: the run. A journal of another run is replaced.

    Attributes:
        header: the run.
        progress: everything that the journal says, added up. Appending updates it.

    Raises:
        InterferenceError: another process has the file open.
        OSError: the file cannot be written.
    """

    def __init__(self, path: Path, header: JournalHeader) -> None:
        self.path, self.header = path, header
        self.progress = Progress()
        is_continued = header_of(path) == header
        with with_filename(path), ExitStack() as on_failure:
            if not is_continued:
                path.unlink(missing_ok=True)
            self._file = open_own(path) if is_continued else open_exclusively(path)
            on_failure.callback(self._file.close)
            lock_file(self._file, path)
            if is_continued:
                for record in self.records():
                    self.progress.add(record)
                self._file.truncate(self._end)  # a record cut short would hide the next one
            else:
                self._write([msgspec.msgpack.encode(header)])
                sync_directory(path.parent)
            on_failure.pop_all()

    def records(self) -> Iterator[FlushRecord | FinishedRecord]:
        """Reads all whole records from the file, from the first one on."""
        with with_filename(self.path):
            self._file.seek(0)
            _read_frame(self._file)
            self._end = self._file.tell()
            for record in _records(self._file):
                self._end = self._file.tell()
                yield record

    def append(self, records: Iterable[FlushRecord]) -> None:
        """Appends records and makes them durable."""
        records = list(records)
        self._write(msgspec.msgpack.encode(record) for record in records)
        # After the write: progress must never be ahead of the disk.
        for record in records:
            self.progress.add(record)

    def finish(self, content_ids: Mapping[str, int]) -> None:
        """Notes that all files are finished: from here on the run only renames them."""
        record = FinishedRecord(dict(content_ids))
        self._write([msgspec.msgpack.encode(record)])
        self.progress.add(record)

    def _write(self, payloads: Iterable[bytes]) -> None:
        with with_filename(self.path):
            self._file.seek(0, os.SEEK_END)
            for payload in payloads:
                self._file.write(_FRAME.pack(len(payload), crc32(payload)) + payload)
            sync_file(self._file)

    def close(self) -> None:
        """Closes the file, which stays there to continue from."""
        with with_filename(self.path):
            self._file.close()

    def remove(self) -> None:
        """Closes and deletes the file, since the run is published."""
        self.close()
        self.path.unlink()


def refuse_used(path: Path) -> None:
    """Checks that no process has the journal at `path` open, if there is one.

    Raises:
        InterferenceError: a process has.
    """
    if path.exists():
        with with_filename(path), path.open("rb") as file:
            lock_file(file, path)


def header_of(path: Path) -> JournalHeader | None:
    """The header of the journal at `path`; None if there is none of this version."""
    if not path.exists():
        return None
    with with_filename(path), path.open("rb") as file:
        payload = _read_frame(file)
    header = None if payload is None else _decoded(payload, JournalHeader)
    return header if header is not None and header.version == JOURNAL_VERSION else None


def _records(file: IO[bytes]) -> Iterator[FlushRecord | FinishedRecord]:
    """Reads records up to the first one that is cut short or unknown."""
    while payload := _read_frame(file):  # no record has an empty payload
        record = _decoded(payload, FlushRecord | FinishedRecord)
        if record is None:
            return
        yield record


def _decoded(payload: bytes, kind: Any) -> Any:
    """The content of a frame; None if it is of another kind."""
    try:
        return msgspec.msgpack.decode(payload, type=kind)
    except msgspec.DecodeError:
        return None


def _read_frame(file: IO[bytes]) -> bytes | None:
    """The next payload; None at the end of the file, or if the frame is damaged."""
    frame = file.read(_FRAME.size)
    if len(frame) < _FRAME.size:
        return None
    length, checksum = _FRAME.unpack(frame)
    payload = file.read(min(length, _bytes_left(file)))
    return payload if len(payload) == length and crc32(payload) == checksum else None


def _bytes_left(file: IO[bytes]) -> int:
    """Bytes left in the file; caps the allocation for a corrupt length field."""
    position = file.tell()
    end = file.seek(0, os.SEEK_END)
    file.seek(position)
    return end - position
