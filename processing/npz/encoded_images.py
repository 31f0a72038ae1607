"""Images that an NPZ file stores as JPEGs, or as the files of photographs.

Read-only and safe from several threads. Codecs are imported when the first image is decoded or
checked, so that files with pixels never load one.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from processing.core.columns import RaggedArray
from processing.core.errors import REBUILD, ImageError, NPZFormatError, damaged
from processing.npz.format import JPEG_MEMBER, OFFSETS_MEMBER, RAW_MEMBER, REDUCTIONS_MEMBER
from processing.npz.mapped import MappedNPZ
from processing.npz.members import ragged_member, required_member
from processing.npz.readahead import Readahead
from processing.npz.stored_images import RowRequests, StoredImages

_REDUCTIONS: Final = frozenset({0, 1, 2, 4, 8})
_MAX_SIDE: Final = 65_535  # pixels; the largest number in a JPEG's header
_ALWAYS_ALLOWED_BYTES: Final = 64 << 20  # of a decoded image, however small the member is
_MAX_EXPANSION: Final = 1024
"""Bytes of a decoded image per byte of the member. A block of 8x8 pixels takes at least 6 bits."""


class EncodedImages(StoredImages):
    """Images that are stored as JPEGs, or as the files of photographs.

    Args:
        npz: the file.
        paths: unicode (N,).
        rows: N ragged rows of uint8, views of the file; offsets are checked when they are used.
        size: height, width of gathered images.
        will_gather: whether to hold the file open for readahead.
        requests: see `StoredImages`.
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
        requests: RowRequests | None = None,
    ) -> None:
        super().__init__(npz, paths, (*size, 3), np.dtype(np.uint8), requests)
        self.rows = rows
        self._reductions = npz.get(REDUCTIONS_MEMBER)
        if will_gather and requests is None:
            self.readahead = Readahead(*npz.file_of(JPEG_MEMBER), 1)

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
        indices = np.array([index])
        starts, ends = self._spans(indices)
        if self.requests is not None:
            return self.requests.read(starts, ends, self.checksums(indices))[0]
        row: NDArray[Any] = self.rows.values[starts[0] : ends[0]]
        return row

    def gather(self, indices: NDArray[np.intp], out: NDArray[Any], *, verify: bool) -> None:
        """Decodes images straight into `out`; see `StoredImages.gather`."""
        checksums = self.checksums(indices)
        rows = self._views(*self._spans(indices), checksums)
        for position, (index, row) in enumerate(zip(indices.tolist(), rows, strict=True)):
            if checksums is not None:
                self.compare(index, row, checksums[position])
            self._decode(index, row, out[position])

    def _views(
        self,
        starts: NDArray[np.int64],
        ends: NDArray[np.int64],
        checksums: Sequence[int] | None,
    ) -> Iterable[NDArray[np.uint8]]:
        """Returns the bytes of rows: views of the file, or what was requested."""
        if self.requests is not None:
            return self.requests.read(starts, ends, checksums)
        if self.readahead is not None:
            self.readahead.advise_spans(starts, ends)
        spans = zip(starts.tolist(), ends.tolist(), strict=True)
        return (self.rows.values[start:end] for start, end in spans)

    def advise(self, indices: NDArray[np.intp]) -> None:
        """Starts reading rows in the background."""
        if self.readahead is None or not self.npz.is_whole:
            return
        # Wrong offsets are reported when their rows are gathered: an error belongs to its batch.
        bounds = self.rows.offsets[indices], self.rows.offsets[indices + 1]
        starts, ends = (each.astype(np.int64).clip(0, self.nbytes) for each in bounds)
        self.readahead.advise_spans(starts, ends)

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


def read_encoded(
    npz: MappedNPZ,
    paths: NDArray[np.str_],
    metadata: Mapping[str, Any],
    *,
    will_gather: bool,
    requests: RowRequests | None = None,
) -> EncodedImages:
    """Returns the images of a file that has them encoded.

    Args:
        npz: the file.
        paths: unicode (N,), their paths.
        metadata: of the file, which has the size of the images.
        will_gather: whether rows will be gathered. If False, no file is held open for readahead.
        requests: see `StoredImages`.

    Raises:
        NPZFormatError: a member is missing or of another kind, or the size is.
    """
    where = f"{npz.path}: member {JPEG_MEMBER!r}"
    if RAW_MEMBER in npz:
        raise NPZFormatError(
            f"{where}: there is a member {RAW_MEMBER!r} too; expected one of them; {REBUILD}"
        )
    values, offsets = npz[JPEG_MEMBER], required_member(npz, OFFSETS_MEMBER)
    if values.dtype != np.uint8:
        raise NPZFormatError(f"{where}: expected uint8 (bytes,), found {values.dtype}; {REBUILD}")
    rows = ragged_member(values, offsets, (), where)
    height, width = _size(npz, metadata)
    most = max(_ALWAYS_ALLOWED_BYTES, _MAX_EXPANSION * values.nbytes)
    if len(rows) and 3 * height * width > most:
        found = f"{values.nbytes:,} bytes, for images of height, width {(height, width)}"
        raise damaged(where, found)
    if REDUCTIONS_MEMBER in npz and "source_sizes" not in npz:
        raise NPZFormatError(
            f"{npz.path}: has {REDUCTIONS_MEMBER!r}, but no member 'source_sizes'; {REBUILD}"
        )
    size = height, width
    return EncodedImages(npz, paths, rows, size, will_gather=will_gather, requests=requests)


def _size(npz: MappedNPZ, metadata: Mapping[str, Any]) -> tuple[int, int]:
    size = metadata.get("image_size")
    if isinstance(size, list) and [type(side) for side in size] == [int, int]:
        height, width = size
        if 0 < min(height, width) <= max(height, width) <= _MAX_SIDE:
            return height, width
    raise NPZFormatError(
        f"{npz.path}: member 'metadata': image_size: expected height and width of the encoded "
        f"images, found {reprlib.repr(size)}; {REBUILD}"
    )
