"""NPZWriter: writes the file of `npz_format`, member by member, rows as they come.

Used by one thread at a time. Knows bytes and columns, nothing of tasks; publishing is the caller's.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from isal.isal_zlib import crc32, crc32_combine
from numpy.typing import DTypeLike, NDArray

from processing.core.files import NamedFile
from processing.npz.format import Member, end_of_archive, npy_header


class NPZWriter:
    """Streams the members of one NPZ file into `path`, which `finish` makes a valid archive.

    Args:
        path: file to write; created, or continued where `begin` is told of rows that are there.

    Example:
        >>> with NPZWriter(Path("x.npz.partial")) as writer:  # doctest: +SKIP
        ...     writer.begin("images", np.uint8, (8, 8, 3))
        ...     writer.append([np.zeros((8, 8, 3), np.uint8)])
        ...     writer.end()
        ...     writer.finish()
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = NamedFile(path, "r+b" if path.exists() else "w+b")
        self._members: list[Member] = []
        self._dtype: np.dtype[Any] = np.dtype(np.uint8)
        self._row_shape: tuple[int, ...] = ()
        self._rows = 0
        self._next = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def begin(
        self, name: str, dtype: DTypeLike, row_shape: tuple[int, ...], *, rows: int = 0
    ) -> None:
        """Begins the member `name`, whose rows follow by `append`.

        Args:
            name: member name without ``.npy``.
            dtype: dtype of the rows.
            row_shape: shape of one row.
            rows: rows that an earlier writer left in the file; what lies behind them is cut off.

        Raises:
            ValueError: the file is shorter than `rows` rows.
        """
        self._dtype, self._row_shape, self._rows = np.dtype(dtype), row_shape, rows
        member, data_offset = _place(name, self._dtype, row_shape, self._next)
        end = data_offset + rows * self._row_bytes
        size = self._file.seek(0, os.SEEK_END)
        if size < end and rows:
            raise ValueError(
                f"{self.path}: {rows} rows of {name!r} should end at byte {end}, "
                f"the file has {size}"
            )
        self._file.truncate(end)
        self._file.seek(end)
        self._members.append(member)

    def append(self, rows: Iterable[NDArray[Any]]) -> None:
        """Appends arrays of the member's dtype to it, each of one row's shape."""
        for row in rows:
            if row.dtype != self._dtype or row.shape != self._row_shape:
                raise ValueError(
                    f"{self.path}: {self._members[-1].name} has rows "
                    f"{self._dtype} {self._row_shape}, "
                    f"got {row.dtype} {row.shape}"
                )
            self._file.write(np.ascontiguousarray(row).data)
            self._rows += 1

    def end(self, data_crc32: int) -> None:
        """Ends the member, whose data has the given CRC-32."""
        member = self._members[-1]
        header = npy_header(self._dtype, (self._rows, *self._row_shape))
        data_bytes = self._rows * self._row_bytes
        member.size = len(header) + data_bytes
        member.crc32 = crc32_combine(crc32(header), data_crc32, data_bytes)
        self._next = self._file.tell()
        self._file.seek(member.offset)
        self._file.write(member.local_header() + header)
        self._file.seek(self._next)

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
            checksum = crc32(block.data.cast("B") if block.size else b"", checksum)
            self._file.write(block.data if block.size else b"")
            self._rows += len(block)
        self.end(checksum)

    def scalar(self, name: str, text: str) -> None:
        """Writes a 0-d unicode member."""
        array = np.array(text)
        header = npy_header(array.dtype, ())
        member = Member.aligned(name + ".npy", self._next, len(header))
        content = header + array.tobytes()
        member.size, member.crc32 = len(content), crc32(content)
        self._members.append(member)
        self._file.seek(member.offset)
        self._file.write(member.local_header() + content)
        self._next = self._file.tell()

    def sync(self) -> None:
        """Makes all that was appended durable."""
        self._file.sync()

    def finish(self) -> None:
        """Writes the central directory, makes the file durable: a valid archive from here."""
        self._file.seek(self._next)
        self._file.write(end_of_archive(self._members, self._next))
        self._file.truncate()
        self.sync()

    def close(self) -> None:
        """Closes the file as it is."""
        self._file.close()

    @property
    def _row_bytes(self) -> int:
        return _row_bytes(self._dtype, self._row_shape)


def first_member_end(name: str, dtype: DTypeLike, row_shape: tuple[int, ...], rows: int) -> int:
    """Bytes of a file that ends behind `rows` rows of its first member; see `NPZWriter.begin`."""
    _, data_offset = _place(name, np.dtype(dtype), row_shape, 0)
    return data_offset + rows * _row_bytes(np.dtype(dtype), row_shape)


def _place(
    name: str, dtype: np.dtype[Any], row_shape: tuple[int, ...], offset: int
) -> tuple[Member, int]:
    """A member whose local header begins at `offset`, and where its rows will begin."""
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
