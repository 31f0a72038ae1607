"""The images of one NPZ file, and those that are stored as pixels.

Read-only and safe from several threads. Imports no codec.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Final, Protocol

import numpy as np
from isal.isal_zlib import crc32
from numpy.typing import NDArray

from processing.core.columns import take_rows
from processing.core.errors import NPZFormatError, wrong_checksum
from processing.npz.format import RAW_MEMBER
from processing.npz.mapped import MappedNPZ
from processing.npz.readahead import Readahead

_UINT32: Final = 0xFFFFFFFF


class RowRequests(Protocol):
    """Requests rows of the images of a file at a URL; see `remote.RemoteRows`."""

    def read(
        self,
        starts: NDArray[np.int64],
        ends: NDArray[np.int64],
        checksums: Sequence[int] | None,
    ) -> list[NDArray[np.uint8]]:
        """Returns rows.

        Args:
            starts: (B,) where rows begin in the array of all images, in bytes.
            ends: (B,) where they end.
            checksums: CRC-32 of each row, to find it in a cache; None if the file has none.
        """


class StoredImages(ABC):
    """The images of one file.

    Args:
        npz: the file.
        paths: unicode (N,), the images' paths, for messages.
        shape: (H, W, C), of one image.
        dtype: of gathered images.

        requests: requests rows from a URL; None: rows are in the map.

    Attributes:
        member: name of the member that holds the images.
        requests: the same. Rows that come from a URL are always compared with their checksums.
        readahead: requests rows of that member from the disk; None if nobody will gather, or if
            rows are not contiguous in the file.
    """

    member: str
    readahead: Readahead | None = None

    def __init__(
        self,
        npz: MappedNPZ,
        paths: NDArray[np.str_],
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        requests: RowRequests | None = None,
    ) -> None:
        self.npz, self.shape, self.dtype = npz, shape, dtype
        self.requests = requests
        self._paths = paths
        self._has_checksums = "image_crc32" in npz

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes of all rows in the file."""

    @property
    @abstractmethod
    def is_contiguous(self) -> bool:
        """Whether the bytes of each row lie together, in the order of their checksum."""

    @abstractmethod
    def row(self, index: int) -> NDArray[Any]:
        """Returns the row as it is stored, a view of the file."""

    @abstractmethod
    def gather(self, indices: NDArray[np.intp], out: NDArray[Any], *, verify: bool) -> None:
        """Copies or decodes images into memory of the caller.

        Args:
            indices: (B,) in ``[0, N)``; not checked.
            out: C-contiguous (B, H, W, C), overwritten.
            verify: whether to compare rows with their checksums. Encoded rows always are: that
                takes less than a hundredth of the time of decoding.

        Raises:
            ChecksumError: a row differs from its checksum; names the row.
            NPZFormatError: a row cannot be decoded, or lies outside the member; names the row.
        """

    @abstractmethod
    def advise(self, indices: NDArray[np.intp]) -> None:
        """Starts reading rows in the background; they will be gathered soon."""

    def checksums(self, rows: NDArray[np.intp] | slice) -> list[int] | None:
        """Returns the CRC-32 of rows; None if the file has none."""
        if not self._has_checksums:
            return None
        # Other programs may store them as signed numbers.
        checksums: list[int] = (self.npz["image_crc32"][rows].astype(np.int64) & _UINT32).tolist()
        return checksums

    def compare(self, index: int, row: NDArray[Any], expected: int) -> int:
        """Compares a row with its checksum, and returns it.

        Args:
            index: of the row, for the message.
            row: as it is stored, C-contiguous.
            expected: its checksum.

        Raises:
            ChecksumError: they differ.
        """
        found = crc32(row)
        if found != expected:
            raise wrong_checksum(self.where(index), found, expected)
        return found

    def where(self, index: int) -> str:
        """Returns file, member, row and path, for messages."""
        return f"{self.npz.path}: member {self.member!r}, row {index} ({self._paths[index]})"


class RawImages(StoredImages):
    """Images that are stored as pixels.

    Args:
        npz: the file.
        paths: unicode (N,).
        array: (N, H, W, C), a view of the file.
        will_gather: whether to hold the file open for readahead.
        requests: see `StoredImages`.

    Raises:
        NPZFormatError: the file is at a URL, and its array is in Fortran order.
    """

    member = RAW_MEMBER

    def __init__(
        self,
        npz: MappedNPZ,
        paths: NDArray[np.str_],
        array: NDArray[Any],
        *,
        will_gather: bool,
        requests: RowRequests | None = None,
    ) -> None:
        super().__init__(npz, paths, array.shape[1:], array.dtype.newbyteorder("="), requests)
        self.array = array
        if requests is not None and not self.is_contiguous:
            raise NPZFormatError(
                f"{npz.path}: member {RAW_MEMBER!r} is in Fortran order, so an image cannot be "
                "read by one request: copy the file to a local disk, or write it in C order"
            )
        if will_gather and requests is None and array.flags.c_contiguous:
            self.readahead = Readahead(*npz.file_of(RAW_MEMBER), array.strides[0])

    def __len__(self) -> int:
        return len(self.array)

    @property
    def nbytes(self) -> int:
        """Bytes of all rows in the file."""
        return self.array.nbytes

    @property
    def is_contiguous(self) -> bool:
        """False for an array in Fortran order."""
        return self.array.flags.c_contiguous

    def row(self, index: int) -> NDArray[Any]:
        """Returns the pixels, (H, W, C)."""
        if self.requests is not None:
            indices = np.array([index])
            return self._requested(self.requests, indices, self.checksums(indices))[0]
        row: NDArray[Any] = self.array[index]
        return row

    def gather(self, indices: NDArray[np.intp], out: NDArray[Any], *, verify: bool) -> None:
        """Copies images; see `StoredImages.gather`."""
        if self.requests is not None:
            self._gather_requested(self.requests, indices, out)
            return
        self.advise(indices)  # all rows at once, before the first page fault waits for one
        take_rows(self.array, indices, out)
        if not verify:
            return
        for index, image, expected in zip(
            indices.tolist(), out, self.checksums(indices) or (), strict=True
        ):
            self.compare(index, image, expected)

    def _gather_requested(
        self, requests: RowRequests, indices: NDArray[np.intp], out: NDArray[Any]
    ) -> None:
        checksums = self.checksums(indices)
        for position, row in enumerate(self._requested(requests, indices, checksums)):
            if checksums is not None:
                self.compare(int(indices[position]), row, checksums[position])
            out[position] = row

    def _requested(
        self, requests: RowRequests, indices: NDArray[np.intp], checksums: Sequence[int] | None
    ) -> list[NDArray[Any]]:
        starts = indices.astype(np.int64) * self.array.strides[0]
        rows = requests.read(starts, starts + self.array.strides[0], checksums)
        return [row.view(self.array.dtype).reshape(self.shape) for row in rows]

    def advise(self, indices: NDArray[np.intp]) -> None:
        """Starts reading rows in the background."""
        if self.readahead is not None:
            self.readahead.advise(indices)
