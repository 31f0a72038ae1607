"""The images of one NPZ file: pixels that are copied, or JPEGs that are decoded.

Read-only and safe from several threads. Codecs are imported only when the first encoded image is
decoded or checked.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Final

import numpy as np
from isal.isal_zlib import crc32
from numpy.typing import NDArray

from processing.core.columns import RaggedArray, take_rows
from processing.core.errors import (
    REBUILD,
    ChecksumError,
    ImageError,
    NPZFormatError,
    damaged,
    wrong_checksum,
)
from processing.npz.format import JPEG_MEMBER, OFFSETS_MEMBER, RAW_MEMBER, REDUCTIONS_MEMBER
from processing.npz.mapped import MappedNPZ
from processing.npz.readahead import Readahead

_REDUCTIONS: Final = frozenset({0, 1, 2, 4, 8})
_UINT32: Final = 0xFFFFFFFF


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


class EncodedImages(StoredImages):
    """Images that are stored as JPEGs, or as the files of photographs.

    Args:
        npz: the file.
        paths: unicode (N,).
        rows: N ragged rows of uint8, views of the file; offsets are checked when they are used.
        size: height, width of gathered images.
        will_gather: whether to hold the file open for readahead.
    """

    member = JPEG_MEMBER

    def __init__(
        self,
        npz: MappedNPZ,
        paths: NDArray[np.str_],
        rows: RaggedArray,
        size: tuple[int, int],
        *,
        will_gather: bool,
    ) -> None:
        super().__init__(npz, paths, (*size, 3), np.dtype(np.uint8))
        self.rows = rows
        self._checksums = npz.get("image_crc32")
        self._reductions = npz.get(REDUCTIONS_MEMBER)
        if will_gather:
            self.readahead = Readahead(*npz.location(JPEG_MEMBER), 1)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def nbytes(self) -> int:
        """Bytes of all rows in the file."""
        return self.rows.values.nbytes

    @property
    def is_contiguous(self) -> bool:
        """Always true."""
        return True

    def row(self, index: int) -> NDArray[Any]:
        """Returns the bytes of the JPEG, uint8 (k,)."""
        starts, ends = self._spans(np.array([index]))
        row: NDArray[Any] = self.rows.values[starts[0] : ends[0]]
        return row

    def gather(self, indices: NDArray[np.intp], out: NDArray[Any], *, verify: bool) -> None:
        """Decodes images straight into `out`; see `StoredImages.gather`."""
        starts, ends = self._spans(indices)
        if self.readahead is not None:
            self.readahead.advise_spans(starts, ends)
        checksums = None if self._checksums is None else self._checksums[indices].tolist()
        spans = zip(indices.tolist(), starts.tolist(), ends.tolist(), strict=True)
        for position, (index, start, end) in enumerate(spans):
            row = self.rows.values[start:end]
            if checksums is not None:
                self._compare(index, row, checksums[position])
            self._decode(index, row, out[position])

    def advise(self, indices: NDArray[np.intp]) -> None:
        """Starts reading rows in the background."""
        if self.readahead is not None and len(indices):
            self.readahead.advise_spans(*self._spans(indices))

    def check_row(self, index: int) -> None:
        """Checks kind and size of a row; decodes no pixel.

        Raises:
            NPZFormatError: the row cannot be an image of this file; names the row.
        """
        from processing.imaging import stored_rows  # see the module

        row = self.row(index)
        reduction, source_size = self._rendering(index)
        try:
            if reduction:
                stored_rows.check_original(row, source_size)
            else:
                stored_rows.check_row(row, (self.shape[0], self.shape[1]))
        except ImageError as error:
            raise self._refused(index, error) from error

    def _refused(self, index: int, error: ImageError) -> NPZFormatError:
        return NPZFormatError(f"{self.where(index)}: {error}; {REBUILD}")

    def _compare(self, index: int, row: NDArray[np.uint8], expected: int) -> None:
        found = crc32(row)
        if found != expected & _UINT32:  # other programs may store it as a signed number
            raise self.checksum_error(index, found, expected & _UINT32)

    def _decode(self, index: int, row: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
        from processing.imaging import stored_rows  # see the module

        reduction, source_size = self._rendering(index)
        try:
            if reduction:
                stored_rows.render_original(row, source_size, reduction, out)
            else:
                stored_rows.decode_row(row, out)
        except ImageError as error:
            raise self._refused(index, error) from error

    def _rendering(self, index: int) -> tuple[int, tuple[int, int]]:
        """Returns how a photograph's own file is reduced, 0 for a stored image, and its size."""
        if self._reductions is None:
            return 0, (0, 0)
        reduction = int(self._reductions[index])
        if reduction not in _REDUCTIONS:
            raise damaged(
                f"{self.npz.path}: member {REDUCTIONS_MEMBER!r}, row {index}",
                f"{reduction}, expected one of {sorted(_REDUCTIONS)}",
            )
        height, width = self.npz["source_sizes"][index].tolist()
        return reduction, (height, width)

    def _spans(self, indices: NDArray[np.intp]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns where rows begin and end, after checking that they lie within the member."""
        self.npz.check_size()
        # As int64: of unsigned offsets, a negative length would become an enormous one.
        starts = self.rows.offsets[indices].astype(np.int64, copy=False)
        ends = self.rows.offsets[indices + 1].astype(np.int64, copy=False)
        bad = (starts < 0) | (ends < starts) | (ends > len(self.rows.values))
        if bad.any():
            raise damaged(
                f"{self.npz.path}: member {OFFSETS_MEMBER!r}, row {indices[bad][0]}",
                f"{starts[bad][0]} to {ends[bad][0]} of {len(self.rows.values)} bytes",
            )
        return starts, ends
