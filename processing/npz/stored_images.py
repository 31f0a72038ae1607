"""The images of one NPZ file, and those that are stored as pixels.

Read-only and safe from several threads. Imports no codec.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from isal.isal_zlib import crc32
from numpy.typing import NDArray

from processing.core.columns import take_rows
from processing.core.errors import ChecksumError, wrong_checksum
from processing.npz.format import RAW_MEMBER
from processing.npz.mapped import MappedNPZ
from processing.npz.readahead import Readahead


class StoredImages(ABC):
    """The images of one file.

    Args:
        npz: the file.
        paths: unicode (N,), the images' paths, for messages.
        shape: (H, W, C), of one image.
        dtype: of gathered images.

    Attributes:
        member: name of the member that holds the images.
        readahead: requests rows of that member from the disk; None if nobody will gather, or if
            rows are not contiguous in the file.
    """

    member: str
    readahead: Readahead | None = None

    def __init__(
        self, npz: MappedNPZ, paths: NDArray[np.str_], shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> None:
        self.npz, self.shape, self.dtype = npz, shape, dtype
        self._paths = paths

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

    def where(self, index: int) -> str:
        """Returns file, member, row and path, for messages."""
        return f"{self.npz.path}: member {self.member!r}, row {index} ({self._paths[index]})"

    def checksum_error(self, index: int, found: int, expected: int) -> ChecksumError:
        """Returns the error for a row that differs from its checksum."""
        return wrong_checksum(self.where(index), found, expected)


class RawImages(StoredImages):
    """Images that are stored as pixels.

    Args:
        npz: the file.
        paths: unicode (N,).
        array: (N, H, W, C), a view of the file.
        will_gather: whether to hold the file open for readahead.
    """

    member = RAW_MEMBER

    def __init__(
        self, npz: MappedNPZ, paths: NDArray[np.str_], array: NDArray[Any], *, will_gather: bool
    ) -> None:
        super().__init__(npz, paths, array.shape[1:], array.dtype.newbyteorder("="))
        self.array = array
        if will_gather and array.flags.c_contiguous:
            self.readahead = Readahead(*npz.location(RAW_MEMBER), array.strides[0])

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
        row: NDArray[Any] = self.array[index]
        return row

    def gather(self, indices: NDArray[np.intp], out: NDArray[Any], *, verify: bool) -> None:
        """Copies images; see `StoredImages.gather`."""
        self.advise(indices)  # all rows at once, before the first page fault waits for one
        take_rows(self.array, indices, out)
        if not verify:
            return
        checksums = self.npz["image_crc32"][indices].tolist()
        for index, image, expected in zip(indices.tolist(), out, checksums, strict=True):
            found = crc32(image)
            if found != expected:
                raise self.checksum_error(index, found, expected)

    def advise(self, indices: NDArray[np.intp]) -> None:
        """Starts reading rows in the background."""
        if self.readahead is not None:
            self.readahead.advise(indices)
