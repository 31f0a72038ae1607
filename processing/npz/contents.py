"""Contents: what one NPZ file holds, a row a sample, checked and ready to be gathered from.

Opening looks at headers and at the ends of offsets only; rows are checked when they are gathered.
Read-only, safe from several threads; torch is not imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from isal.isal_zlib import crc32
from numpy.typing import NDArray

from processing.core.columns import ColumnArray, RaggedArray, gather_rows, take_rows
from processing.core.errors import ChecksumError, NPZFormatError
from processing.npz.format import REBUILD
from processing.npz.mapped import MappedNPZ
from processing.npz.members import (
    read_annotations,
    read_image_paths,
    read_images,
    read_metadata,
    read_per_image,
    task_of,
    verify_small_members,
)
from processing.npz.readahead import Readahead

_GATHERED: Final[dict[str, type[np.generic]]] = {
    "bboxes": np.float32,
    "keypoints": np.float32,
    "labels": np.int64,
}
"""What models take, whatever the file stores."""


@dataclass(frozen=True, slots=True)
class Contents:
    """The rows of one file.

    Args:
        npz: the file.
        task: ``detector``, ``landmarker`` or ``teacher``.
        metadata: the file's metadata; empty if it has none.
        images: (N, H, W, C), a view of the file.
        annotations: by name ``bboxes``, ``keypoints``, ``labels``: (N, ...) or N ragged rows; those
            the file has.
        image_paths: unicode (N,).
        readahead: asks for images of rows; None if these are not one after the other in the file.
    """

    npz: MappedNPZ
    task: str
    metadata: Mapping[str, Any]
    images: NDArray[Any]
    annotations: Mapping[str, ColumnArray]
    image_paths: NDArray[np.str_]
    readahead: Readahead | None

    @classmethod
    def read(cls, npz: MappedNPZ, *, verify: bool = False, will_gather: bool = True) -> Contents:
        """Finds out what a file holds.

        Args:
            npz: the file.
            verify: compare all members but the images with their checksums, not only those of up
                to 4 MiB.
            will_gather: whether rows will be asked for; else no file is held open for readahead.

        Raises:
            ChecksumError: a member differs from what was written.
            NPZFormatError: members are missing, of a wrong kind, or do not agree in length.
        """
        verify_small_members(npz, also_large=verify)
        metadata, images, paths = read_metadata(npz), read_images(npz), read_image_paths(npz)
        annotations = read_annotations(npz, len(images))
        task = task_of(npz, metadata, annotations)
        columns = {"images": images, "image_paths": paths, **annotations}
        lengths = {name: len(column) for name, column in columns.items()}
        for name in ("image_crc32", "source_rects", "source_sizes"):
            array = read_per_image(npz, name)
            if array is not None:
                lengths[name] = len(array)
        if len(set(lengths.values())) > 1:
            raise NPZFormatError(f"{npz.path}: members differ in length: {lengths}")
        readahead = None
        if will_gather and images.flags.c_contiguous:
            readahead = Readahead(*npz.location("images"), images.strides[0])
        return cls(npz, task, metadata, images, annotations, paths, readahead)

    def __len__(self) -> int:
        return len(self.images)

    def gather(
        self, indices: NDArray[np.intp], *, images_out: NDArray[Any] | None = None
    ) -> dict[str, ColumnArray]:
        """Copies rows out of the file; the only place that does.

        Args:
            indices: (B,) in ``[0, N)``; not checked.
            images_out: C-contiguous (B, H, W, C), filled with the images; a new array if None.

        Returns:
            ``images``, the annotations (float32, labels int64; ragged ones as a `RaggedArray`) and
            ``image_paths``, all owned by the caller.

        Raises:
            NPZFormatError: the file shrank, or a row's offsets leave the values.
        """
        self.npz.check_size()
        if images_out is None:
            images_out = np.empty((len(indices), *self.images.shape[1:]), self.image_dtype)
        self.advise(indices)
        take_rows(self.images, indices, images_out)
        rows: dict[str, ColumnArray] = {"images": images_out}
        for name, column in self.annotations.items():
            rows[name] = self._gather_annotation(name, column, indices)
        rows["image_paths"] = self.image_paths[indices]
        return rows

    def advise(self, indices: NDArray[np.intp]) -> None:
        """Has the images of rows that are to be gathered soon read in the background."""
        if self.readahead is not None:
            self.readahead.advise(indices)

    @property
    def category_names(self) -> tuple[str, ...]:
        """What labels are positions in; empty if the file does not say."""
        return tuple(self.metadata.get("category_names", ()))

    @property
    def image_dtype(self) -> np.dtype[Any]:
        """Dtype of gathered images: that of the file in this machine's byte order."""
        return self.images.dtype.newbyteorder("=")

    def verify_rows(self, indices: NDArray[np.intp], images: NDArray[Any]) -> None:
        """Compares gathered images with the checksums of their rows.

        Raises:
            ChecksumError: a row differs; names it.
        """
        for index, image, expected in zip(
            indices.tolist(), images, self.npz["image_crc32"][indices].tolist(), strict=True
        ):
            found = crc32(image)
            if found != expected:
                raise self.damaged_row(index, found, expected)

    def damaged_row(self, index: int, found: int, expected: int) -> ChecksumError:
        """The error that names a row whose image has another checksum."""
        return ChecksumError(
            f"{self.npz.path}: member 'images', row {index} ({self.image_paths[index]}): CRC-32 is "
            f"{found:08x}, {expected:08x} was written: the file was damaged after it was written; "
            "restore it from a copy, or delete it and run the processor again"
        )

    def _gather_annotation(
        self, name: str, column: ColumnArray, indices: NDArray[np.intp]
    ) -> ColumnArray:
        dtype = _GATHERED[name]
        if not isinstance(column, RaggedArray):
            return column[indices].astype(dtype, copy=False)
        # As int64: unsigned offsets that fall would have a length beyond all memory.
        starts = column.offsets[indices].astype(np.int64, copy=False)
        ends = column.offsets[indices + 1].astype(np.int64, copy=False)
        lengths = ends - starts
        if len(indices) and (
            starts.min() < 0 or lengths.min() < 0 or ends.max() > len(column.values)
        ):
            raise self._damaged_offsets(name, indices, starts, ends, len(column.values))
        rows = gather_rows(column.values, starts, lengths)
        return RaggedArray(rows.values.astype(dtype, copy=False), rows.offsets, check=False)

    def _damaged_offsets(
        self,
        name: str,
        indices: NDArray[np.intp],
        starts: NDArray[np.int64],
        ends: NDArray[np.int64],
        values: int,
    ) -> NPZFormatError:
        bad = (starts < 0) | (ends < starts) | (ends > values)
        return NPZFormatError(
            f"{self.npz.path}: member '{name}_offsets', row {indices[bad][0]}: {starts[bad][0]} to "
            f"{ends[bad][0]} of {values} values: the file is damaged; {REBUILD}"
        )
