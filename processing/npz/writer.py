"""NPZWriter: writes one NPZ file of the layout in `format.py`.

The bulk member is streamed, so that a killed run can continue it. The small members are written
once their shapes are known. Used by one thread at a time. Renaming the file is the caller's job.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import numpy as np
from isal.isal_zlib import crc32, crc32_combine
from numpy.typing import ArrayLike, DTypeLike, NDArray

from processing.core.error_notes import with_filename
from processing.npz.format import Member, end_of_archive, npy_header

_P = ParamSpec("_P")
_R = TypeVar("_R")


def _adds_filename(
    method: Callable[Concatenate[NPZWriter, _P], _R],
) -> Callable[Concatenate[NPZWriter, _P], _R]:
    """Adds the writer's path to an `OSError` of a method; errors of an open file carry no name."""

    @functools.wraps(method)
    def named(writer: NPZWriter, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        with with_filename(writer.path):
            return method(writer, *args, **kwargs)

    return named


@dataclass(slots=True)
class _Reserved:
    """A member of known shape that `NPZWriter.fill` writes.

    Args:
        member: its size is final; its CRC-32 covers the header and the rows filled so far.
        header: the NPY header.
        dtype: dtype of the array.
        shape: shape of the whole array.
        rows: number of rows filled so far.
    """

    member: Member
    header: bytes
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    rows: int = 0

    @property
    def rows_reserved(self) -> int:
        return self.shape[0] if self.shape else 1  # a 0-d array counts as one row

    @property
    def position(self) -> int:
        """The byte of the file where the next row belongs."""
        begin = self.member.offset + self.member.header_bytes + len(self.header)
        return begin + self.rows * _row_bytes(self.dtype, self.shape[1:])


class NPZWriter:
    """Writes the members of one NPZ file into `path`; `finish` makes it a valid archive.

    The first member, `images`, is streamed by `begin`, `append` and `end`. Members of known shape
    follow: `reserve` lays them out, and `fill` writes their rows, in any order of the members.

    Args:
        path: file to write. It is created, or continued if `begin` is given a number of rows that
            it already has.

    Raises:
        OSError: from every method, with the path as its `filename`.

    Example:
        >>> with NPZWriter(Path("x.npz.partial")) as writer:  # doctest: +SKIP
        ...     writer.begin("images", np.uint8, (8, 8, 3))
        ...     writer.append([np.zeros((8, 8, 3), np.uint8)])
        ...     writer.end(crc32(bytes(8 * 8 * 3)))
        ...     writer.reserve("labels", "<i4", (2,))
        ...     writer.fill("labels", [0])
        ...     writer.fill("labels", [1])
        ...     writer.finish()
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with with_filename(path):
            # "w+b" would empty a file that is to be continued.
            self._file: Any = path.open("r+b" if path.exists() else "w+b")
        self._members: list[Member] = []
        self._reserved: dict[str, _Reserved] = {}
        self._next = 0  # where the next member's local header begins
        # The streamed member:
        self._dtype: np.dtype[Any] = np.dtype(np.uint8)
        self._row_shape: tuple[int, ...] = ()
        self._rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @_adds_filename
    def begin(
        self, name: str, dtype: DTypeLike, row_shape: tuple[int, ...], *, rows: int = 0
    ) -> None:
        """Begins a streamed member, whose rows follow by `append`.

        Args:
            name: member name without ``.npy``.
            dtype: dtype of the rows.
            row_shape: shape of one row.
            rows: rows that an earlier writer left in the file; everything after them is cut off.

        Raises:
            ValueError: the file is shorter than `rows` rows.
        """
        self._dtype, self._row_shape, self._rows = np.dtype(dtype), row_shape, rows
        member, data_offset = _place(name, self._dtype, row_shape, self._next)
        end = data_offset + rows * self.row_bytes
        size = self._file.seek(0, os.SEEK_END)
        if size < end and rows:
            raise ValueError(
                f"{self.path}: {rows} rows of {name!r} should end at byte {end}, "
                f"the file has {size}"
            )
        self._file.truncate(end)
        self._file.seek(end)
        self._members.append(member)

    @_adds_filename
    def append(self, rows: Iterable[NDArray[Any]]) -> None:
        """Appends rows to the streamed member.

        Args:
            rows: arrays of the member's dtype and row shape.

        Raises:
            ValueError: a row of another dtype or shape.
        """
        for row in rows:
            if row.dtype != self._dtype or row.shape != self._row_shape:
                raise ValueError(
                    f"{self.path}: {self._members[-1].name} has rows "
                    f"{self._dtype} {self._row_shape}, "
                    f"got {row.dtype} {row.shape}"
                )
            self._file.write(np.ascontiguousarray(row).data)
            self._rows += 1

    @_adds_filename
    def end(self, data_crc32: int = 0) -> None:
        """Ends the streamed member.

        Args:
            data_crc32: CRC-32 of all its rows. The caller combines it from the rows' own, because
                rows of an earlier writer are not read again. It may also follow by `set_crc32`.
        """
        member = self._members[-1]
        header = npy_header(self._dtype, (self._rows, *self._row_shape))
        data_bytes = self._rows * self.row_bytes
        member.size = len(header) + data_bytes
        member.crc32 = crc32_combine(crc32(header), data_crc32, data_bytes)
        self._next = self._file.tell()
        self._file.seek(member.offset)
        self._file.write(member.local_header() + header)
        self._file.seek(self._next)

    @_adds_filename
    def set_crc32(self, data_crc32: int) -> None:
        """Sets the CRC-32 of all rows of the first member, which was streamed and has ended."""
        member = self._members[0]
        header = npy_header(self._dtype, (self._rows, *self._row_shape))
        member.crc32 = crc32_combine(crc32(header), data_crc32, self._rows * self.row_bytes)
        self._file.seek(member.offset)
        self._file.write(member.local_header() + header)

    def reserve(self, name: str, dtype: DTypeLike, shape: tuple[int, ...]) -> None:
        """Places a member of known shape after all earlier ones; writes nothing yet.

        Args:
            name: member name without ``.npy``.
            dtype: dtype of the array.
            shape: shape of the whole array; () for a scalar.
        """
        dtype = np.dtype(dtype)
        header = npy_header(dtype, shape)
        member = Member.aligned(name + ".npy", self._next, len(header))
        member.size = len(header) + _row_bytes(dtype, shape)
        member.crc32 = crc32(header)
        self._members.append(member)
        self._reserved[name] = _Reserved(member, header, dtype, shape)
        self._next = member.offset + member.header_bytes + member.size

    @_adds_filename
    def fill(self, name: str, chunk: ArrayLike) -> None:
        """Writes the next rows of a reserved member.

        Args:
            name: the name given to `reserve`.
            chunk: (k, ...) rows, or the value of a scalar; converted to the member's dtype.

        Raises:
            ValueError: rows of another shape, or more rows than were reserved. The file is
                unchanged.
        """
        reserved = self._reserved[name]
        block = np.ascontiguousarray(chunk, dtype=reserved.dtype)  # makes a scalar (1,)
        if block.shape[1:] != reserved.shape[1:]:
            raise ValueError(
                f"{self.path}: {name}.npy has shape {reserved.shape}, got rows of {block.shape[1:]}"
            )
        if reserved.rows + len(block) > reserved.rows_reserved:
            # They would overwrite the next member.
            raise ValueError(
                f"{self.path}: {name}.npy has room for {reserved.rows_reserved} rows, "
                f"got {reserved.rows + len(block)}"
            )
        self._file.seek(reserved.position)
        self._file.write(block)
        reserved.member.crc32 = crc32(block, reserved.member.crc32)
        reserved.rows += len(block)

    def column(
        self,
        name: str,
        dtype: DTypeLike,
        row_shape: tuple[int, ...],
        chunks: Iterable[NDArray[Any]],
    ) -> None:
        """Writes a whole member from chunks of shape (k, *row_shape)."""
        self.begin(name, dtype, row_shape)
        checksum = 0
        for chunk in chunks:
            block = np.ascontiguousarray(chunk, dtype=self._dtype)
            checksum = crc32(block, checksum)
            with with_filename(self.path):
                self._file.write(block)
            self._rows += len(block)
        self.end(checksum)

    def scalar(self, name: str, text: str) -> None:
        """Writes a 0-d unicode member."""
        array = np.array(text)
        self.reserve(name, array.dtype, ())
        self.fill(name, array)

    @_adds_filename
    def sync(self) -> None:
        """Makes all rows written so far durable."""
        self._file.flush()
        os.fsync(self._file.fileno())

    @_adds_filename
    def finish(self) -> None:
        """Writes all headers and the directory: the file is a valid, durable archive from here.

        Raises:
            ValueError: a reserved member has fewer rows than were reserved.
        """
        for name, reserved in self._reserved.items():
            if reserved.rows != reserved.rows_reserved:
                raise ValueError(
                    f"{self.path}: {name}.npy has room for {reserved.rows_reserved} rows, "
                    f"got {reserved.rows}"
                )
            # Only now: the local header holds the CRC-32 of all rows.
            self._file.seek(reserved.member.offset)
            self._file.write(reserved.member.local_header() + reserved.header)
        self._file.seek(self._next)
        self._file.write(end_of_archive(self._members, self._next))
        self._file.truncate()
        self.sync()

    @_adds_filename
    def close(self) -> None:
        """Closes the file as it is."""
        self._file.close()

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of the streamed member."""
        return _row_bytes(self._dtype, self._row_shape)


def first_member_end(name: str, dtype: DTypeLike, row_shape: tuple[int, ...], rows: int) -> int:
    """Bytes of a file that ends behind `rows` rows of its first member; see `NPZWriter.begin`."""
    _, data_offset = _place(name, np.dtype(dtype), row_shape, 0)
    return data_offset + rows * _row_bytes(np.dtype(dtype), row_shape)


def _place(
    name: str, dtype: np.dtype[Any], row_shape: tuple[int, ...], offset: int
) -> tuple[Member, int]:
    """A member whose local header begins at `offset`, and where its rows will begin."""
    # The header's length does not depend on the number of rows; see `npy_header`.
    header = npy_header(dtype, (0, *row_shape))
    member = Member.aligned(name + ".npy", offset, len(header))
    return member, member.offset + member.header_bytes + len(header)


def _row_bytes(dtype: np.dtype[Any], row_shape: tuple[int, ...]) -> int:
    return dtype.itemsize * int(np.prod(row_shape, dtype=np.int64))


def combine_crc32(row_crc32: Iterable[int], row_bytes: int) -> int:
    """CRC-32 of rows of `row_bytes` bytes each, one after the other, from that of each."""
    total = 0
    for checksum in row_crc32:
        total = crc32_combine(total, checksum, row_bytes)
    return total
