"""NPZWriter: writes one NPZ file of the layout in `format.py`.

The bulk member is streamed, so that a killed run can continue it. The small members are written
once their shapes are known. Used by one thread at a time. Renaming the file is the caller's job.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Self, TypeVar, cast

import numpy as np
from isal.isal_zlib import crc32, crc32_combine
from numpy.typing import ArrayLike, DTypeLike, NDArray

from processing.core.error_notes import with_filename
from processing.core.files import open_exclusively, open_own
from processing.npz.format import Member, end_of_archive, npy_header

_Method = TypeVar("_Method", bound=Callable[..., Any])


def _adds_filename(method: _Method) -> _Method:
    """Adds the writer's path to an `OSError` of a method; errors of an open file carry no name."""

    @functools.wraps(method)
    def named(writer: NPZWriter, /, *args: Any, **kwargs: Any) -> Any:
        with with_filename(writer.path):
            return method(writer, *args, **kwargs)

    return cast("_Method", named)


@dataclass(slots=True)
class _Placed:
    """A member with a place in the file.

    Args:
        member: its place; its CRC-32 covers the header and all rows so far.
        header: the NPY header.
        dtype: dtype of the array.
        shape: shape of the whole array.
        rows: number of rows written so far.
    """

    member: Member
    header: bytes
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    rows: int = 0

    @classmethod
    def at(cls, offset: int, name: str, dtype: DTypeLike, shape: tuple[int, ...]) -> Self:
        """Places a member with its local header at `offset`."""
        dtype = np.dtype(dtype)
        header = npy_header(dtype, shape)
        member = Member.aligned(name + ".npy", offset, len(header))
        return cls(member, header, dtype, shape)

    @property
    def rows_expected(self) -> int:
        return self.shape[0] if self.shape else 1  # a 0-d array counts as one row

    @property
    def row_bytes(self) -> int:
        return self.dtype.itemsize * prod(self.shape[1:])

    @property
    def position(self) -> int:
        """The byte of the file where the next row belongs."""
        begin = self.member.offset + self.member.header_bytes + len(self.header)
        return begin + self.rows * self.row_bytes


class NPZWriter:
    """Writes the members of one NPZ file into `path`; `finish` makes it a valid archive.

    The first member, `images`, is streamed by `begin`, `append` and `end`. Members of known shape
    follow: `reserve` gives each a place, and `fill` writes its rows. Several reserved members can
    be filled in turns.

    Args:
        path: file to write. It is created, or continued if `begin` is given a number of rows that
            it already has.

    Raises:
        OSError: from every method, with the path as its `filename`.

    Example:
        >>> writer = NPZWriter(Path("x.npz.partial"))  # doctest: +SKIP
        >>> writer.begin("images", np.uint8, (8, 8, 3))  # doctest: +SKIP
        >>> writer.append([np.zeros((8, 8, 3), np.uint8)])  # doctest: +SKIP
        >>> writer.end(crc32(bytes(8 * 8 * 3)))  # doctest: +SKIP
        >>> writer.reserve("labels", "<i4", (2,))  # doctest: +SKIP
        >>> writer.fill("labels", [0])  # doctest: +SKIP
        >>> writer.fill("labels", [1])  # doctest: +SKIP
        >>> writer.finish()  # doctest: +SKIP
        >>> writer.close()  # doctest: +SKIP
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # Never through a link of that name.
        self._file: Any = open_own(path) if path.exists() else open_exclusively(path)
        self._members: dict[str, _Placed] = {}  # in the order of the file
        self._next = 0  # where the next member's local header belongs
        self._lacks_crc32 = False  # whether the streamed member waits for `set_crc32`

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
        self._streamed = _Placed.at(self._next, name, dtype, (rows, *row_shape))
        self._streamed.rows = rows
        self._members[name] = self._streamed
        end = self._streamed.position
        size = self._file.seek(0, os.SEEK_END)
        if size < end and rows:
            raise ValueError(
                f"{self.path}: {rows} rows of {name!r} should end at byte {end}, "
                f"the file has {size}"
            )
        self._file.truncate(end)
        # `finish` writes the headers. Until then, this one only tells that the file is ours.
        self._file.seek(self._streamed.member.offset)
        self._file.write(self._streamed.member.local_header() + self._streamed.header)
        self._file.seek(end)

    @_adds_filename
    def append(self, rows: Iterable[NDArray[Any]]) -> None:
        """Appends rows to the streamed member.

        Args:
            rows: arrays of the member's dtype. Each is one row, or has one more axis in front and
                is several: of a member of bytes, whose rows have shape (), an array of n bytes is n
                rows. They may be changed after the call.

        Raises:
            ValueError: a row has another dtype or shape.
        """
        streamed, row_shape = self._streamed, self._streamed.shape[1:]
        for row in rows:
            if row.dtype != streamed.dtype or row_shape not in (row.shape, row.shape[1:]):
                raise ValueError(
                    f"{self.path}: {streamed.member.name} has rows {streamed.dtype} {row_shape}, "
                    f"got {row.dtype} {row.shape}"
                )
            self._file.write(np.ascontiguousarray(row).data)
            streamed.rows += 1 if row.shape == row_shape else len(row)

    def end(self, data_crc32: int | None = None) -> None:
        """Ends the streamed member.

        Args:
            data_crc32: CRC-32 of all its rows; None if `set_crc32` follows.
        """
        streamed = self._streamed
        streamed.shape = (streamed.rows, *streamed.shape[1:])
        # As long as the header that was assumed until now; see `npy_header`.
        streamed.header = npy_header(streamed.dtype, streamed.shape)
        self._end(streamed)
        self._lacks_crc32 = True
        if data_crc32 is not None:
            self.set_crc32(data_crc32)

    def set_crc32(self, data_crc32: int) -> None:
        """Sets the CRC-32 of all rows of the streamed member, after its end.

        The caller combines it from the rows' own: rows of an earlier writer are not read again.
        """
        streamed = self._streamed
        data_bytes = streamed.rows * streamed.row_bytes
        streamed.member.crc32 = crc32_combine(crc32(streamed.header), data_crc32, data_bytes)
        self._lacks_crc32 = False

    def reserve(self, name: str, dtype: DTypeLike, shape: tuple[int, ...]) -> None:
        """Places a member of known shape after all earlier ones; writes nothing yet.

        Args:
            name: member name without ``.npy``.
            dtype: dtype of the array.
            shape: shape of the whole array; () for a scalar.

        Raises:
            ValueError: the streamed member has not ended, so the place is not known.
        """
        if self._members and self._next == 0:
            raise ValueError(f"{self.path}: {name}.npy has no place before the first member ends")
        reserved = self._members[name] = _Placed.at(self._next, name, dtype, shape)
        reserved.member.crc32 = crc32(reserved.header)
        self._end(reserved)

    def _end(self, placed: _Placed) -> None:
        """Fixes the size of a member, and with it the place of the next one."""
        member = placed.member
        member.size = len(placed.header) + placed.rows_expected * placed.row_bytes
        self._next = member.offset + member.header_bytes + member.size

    @_adds_filename
    def fill(self, name: str, chunk: ArrayLike) -> None:
        """Writes the next rows of a reserved member.

        Args:
            name: the name given to `reserve`.
            chunk: (k, ...) rows, or the value of a scalar; converted to the member's dtype.

        Raises:
            ValueError: rows of another shape, or more rows than were reserved. Nothing is written.
        """
        reserved = self._members[name]
        block = np.ascontiguousarray(chunk, dtype=reserved.dtype)  # makes a scalar (1,)
        if block.shape[1:] != reserved.shape[1:]:
            raise ValueError(
                f"{self.path}: {name}.npy has shape {reserved.shape}, got rows of {block.shape[1:]}"
            )
        rows = reserved.rows + len(block)
        if rows > reserved.rows_expected:  # they would overwrite the next member
            raise self._wrong_rows(name, rows)
        self._file.seek(reserved.position)
        self._file.write(block)
        reserved.member.crc32 = crc32(block, reserved.member.crc32)
        reserved.rows = rows

    def write(self, name: str, array: NDArray[Any]) -> None:
        """Writes a whole array as one member, after all earlier ones."""
        self.reserve(name, array.dtype, array.shape)
        self.fill(name, array)

    def _wrong_rows(self, name: str, rows: int) -> ValueError:
        expected = self._members[name].rows_expected
        return ValueError(f"{self.path}: {name}.npy has room for {expected} rows, got {rows}")

    @_adds_filename
    def sync(self) -> None:
        """Makes all rows written so far durable."""
        self._file.flush()
        os.fsync(self._file.fileno())

    @_adds_filename
    def finish(self) -> None:
        """Writes all headers and the directory: the file is a valid, durable archive from here.

        Raises:
            ValueError: a reserved member has fewer rows than were reserved, or the streamed one has
                no CRC-32.
        """
        if self._lacks_crc32:
            raise ValueError(f"{self.path}: {self._streamed.member.name} has no CRC-32 yet")
        for name, placed in self._members.items():
            if placed.rows != placed.rows_expected:
                raise self._wrong_rows(name, placed.rows)
            # Only now: the local header holds the CRC-32 of all rows.
            self._file.seek(placed.member.offset)
            self._file.write(placed.member.local_header() + placed.header)
        self._file.seek(self._next)
        members = [placed.member for placed in self._members.values()]
        self._file.write(end_of_archive(members, self._next))
        self._file.truncate()  # a killed run may have left more
        self.sync()

    @_adds_filename
    def close(self) -> None:
        """Closes the file as it is."""
        self._file.close()

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of the streamed member."""
        return self._streamed.row_bytes


def first_member_end(name: str, dtype: DTypeLike, row_shape: tuple[int, ...], rows: int) -> int:
    """Returns the size of a file that ends after `rows` rows of its first member.

    `NPZWriter.begin` can continue such a file.
    """
    first = _Placed.at(0, name, dtype, (rows, *row_shape))
    first.rows = rows
    return first.position
