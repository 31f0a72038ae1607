"""Contents: the checked rows of one NPZ file, ready to be gathered.

Opening reads headers and the ends of offsets only; the offsets of a row are checked when it is
gathered. Read-only and safe from several threads. Does not import torch.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from isal.isal_zlib import crc32
from numpy.typing import NDArray

from processing.core.arguments import StrPath, check_path
from processing.core.columns import ColumnArray, RaggedArray, gather_rows, take_rows
from processing.core.errors import ChecksumError, NPZFormatError, damaged, wrong_checksum
from processing.npz import members
from processing.npz.mapped import MappedNPZ
from processing.npz.readahead import Readahead

_LIMITS: Final = {
    errno.EMFILE: "too many open files: each data file takes 2 descriptors; raise the limit before "
    "the program starts (`ulimit -n`, in a container `--ulimit nofile=`), or read fewer, larger "
    "files",
    errno.ENOMEM: "cannot be mapped: the whole file has to fit into the address space, but not "
    "into memory; raise the limit of the address space (`ulimit -v`), or split the data among "
    "smaller files",
}
"""What to do if a limit of the process or the system does not allow another open file."""


@dataclass(frozen=True, slots=True)
class Contents:
    """The rows of one file.

    Args:
        npz: the file.
        task: ``detector``, ``landmarker`` or ``teacher``.
        metadata: the file's metadata; empty if it has none.
        images: (N, H, W, C), a view of the file.
        annotations: ``bboxes``, ``keypoints`` and ``labels`` by name, as far as the file has them:
            (N, ...) or N ragged rows.
        image_paths: unicode (N,).
        readahead: requests images of rows from the disk; None if rows are not contiguous in the
            file.
    """

    npz: MappedNPZ
    task: str
    metadata: Mapping[str, Any]
    images: NDArray[Any]
    annotations: Mapping[str, ColumnArray]
    image_paths: NDArray[np.str_]
    readahead: Readahead | None

    @classmethod
    def open(
        cls, path: StrPath, *, cache_dir: StrPath | None = None, verify: bool = False
    ) -> Contents:
        """Maps a file and reads its directory and headers.

        Args:
            path: the NPZ file.
            cache_dir: directory for members that have to be unpacked; None: next to the file.
            verify: whether to compare all members but the images with their checksums.

        Raises:
            OSError: the file cannot be opened or mapped; names the limit to raise, if there is one.
            NPZFormatError: the file is damaged or is not a dataset.
        """
        try:
            cache = None if cache_dir is None else check_path("cache_dir", cache_dir)
            return cls.read(MappedNPZ(check_path("path", path), cache_dir=cache), verify=verify)
        except OSError as error:
            if error.errno not in _LIMITS:
                raise
            # The system's own text does not name the limit that has to be raised.
            raise OSError(error.errno, _LIMITS[error.errno], os.fspath(path)) from error

    @classmethod
    def read(cls, npz: MappedNPZ, *, verify: bool = False, will_gather: bool = True) -> Contents:
        """Reads the headers of all members and checks that they fit together.

        Args:
            npz: the file.
            verify: compare members of more than 4 MiB with their checksums too; images are never
                compared here.
            will_gather: whether rows will be gathered. If False, no file is held open for
                readahead.

        Raises:
            ChecksumError: a member differs from its checksum.
            NPZFormatError: a member is missing, of a wrong kind, or of another length than the
                others.
        """
        members.verify_small_members(npz, also_large=verify)
        metadata, images = members.read_metadata(npz), members.read_images(npz)
        paths = members.read_image_paths(npz)
        annotations = members.read_annotations(npz, len(images))
        task = members.task_of(npz, metadata, annotations)
        columns = {"images": images, "image_paths": paths, **annotations}
        columns |= members.read_per_image(npz)
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) > 1:
            raise NPZFormatError(f"{npz.path}: members differ in length: {lengths}")
        readahead = None
        if will_gather and images.flags.c_contiguous:
            readahead = Readahead(*npz.location("images"), images.strides[0])
        return cls(npz, task, metadata, images, annotations, paths, readahead)

    def __len__(self) -> int:
        return len(self.images)

    def gather(
        self,
        indices: NDArray[np.intp],
        *,
        images_out: NDArray[Any] | None = None,
        verify: bool = False,
    ) -> dict[str, ColumnArray]:
        """Copies rows out of the file. Samples and batches all come from here.

        Args:
            indices: (B,) in ``[0, N)``; not checked.
            images_out: C-contiguous (B, H, W, C), overwritten with the images; a new array if None.
            verify: whether to compare the images with the checksums of their rows.

        Returns:
            ``images``, the annotations (float32, labels int64; ragged ones as a `RaggedArray`) and
            ``image_paths``, all owned by the caller.

        Raises:
            ChecksumError: an image differs from its checksum; names the row.
            NPZFormatError: the file shrank, or the offsets of a row are outside the values.
        """
        if images_out is None:
            images_out = np.empty((len(indices), *self.images.shape[1:]), self.image_dtype)
        self.gather_images(indices, images_out, verify=verify)
        return {"images": images_out, **self.gather_annotations(indices)}

    def gather_images(
        self, indices: NDArray[np.intp], images_out: NDArray[Any], *, verify: bool = False
    ) -> None:
        """Copies images out of the file; see `gather`.

        Args:
            indices: (B,) in ``[0, N)``; not checked.
            images_out: C-contiguous (B, H, W, C), overwritten.
            verify: whether to compare the images with the checksums of their rows.
        """
        self.npz.check_size()
        self.advise(indices)  # all rows at once, before the first page fault waits for one
        take_rows(self.images, indices, images_out)
        if verify:
            self._verify_rows(indices, images_out)

    def gather_annotations(self, indices: NDArray[np.intp]) -> dict[str, ColumnArray]:
        """Copies annotations and ``image_paths`` out of the file; see `gather`.

        Args:
            indices: (B,) in ``[0, N)``; not checked.
        """
        self.npz.check_size()
        rows: dict[str, ColumnArray] = {}
        for name, column in self.annotations.items():
            rows[name] = self._gather_annotation(name, column, indices)
        rows["image_paths"] = self.image_paths[indices]
        return rows

    def advise(self, indices: NDArray[np.intp]) -> None:
        """Starts reading the images of rows in the background; they will be gathered soon."""
        if self.readahead is not None:
            self.readahead.advise(indices)

    @property
    def category_names(self) -> tuple[str, ...]:
        """Category names, in the order of the labels; empty if the file has none."""
        return tuple(self.metadata.get("category_names", ()))

    @property
    def keypoint_names(self) -> tuple[str, ...] | None:
        """Names of the points, empty if they have none; None for files of other writers."""
        names = self.metadata.get("keypoint_names")
        return None if names is None else tuple(names)

    @property
    def image_dtype(self) -> np.dtype[Any]:
        """Dtype of gathered images: the file's, in this machine's byte order."""
        return self.images.dtype.newbyteorder("=")

    def _verify_rows(self, indices: NDArray[np.intp], images: NDArray[Any]) -> None:
        """Compares gathered images, (B, H, W, C), with the checksums of their rows."""
        checksums = self.npz["image_crc32"][indices].tolist()
        for index, image, expected in zip(indices.tolist(), images, checksums, strict=True):
            found = crc32(image)
            if found != expected:
                raise self.damaged_row(index, found, expected)

    def damaged_row(self, index: int, found: int, expected: int) -> ChecksumError:
        """Returns the error for an image that differs from its checksum."""
        where = f"{self.npz.path}: member 'images', row {index} ({self.image_paths[index]})"
        return wrong_checksum(where, found, expected)

    def _gather_annotation(
        self, name: str, column: ColumnArray, indices: NDArray[np.intp]
    ) -> ColumnArray:
        dtype = members.ANNOTATIONS[name].dtype
        if not isinstance(column, RaggedArray):
            return column[indices].astype(dtype, copy=False)
        # As int64: of unsigned offsets, a negative length would become an enormous one.
        starts = column.offsets[indices].astype(np.int64, copy=False)
        ends = column.offsets[indices + 1].astype(np.int64, copy=False)
        lengths = ends - starts
        values = len(column.values)
        # Three numbers are compared first, because the masks below take longer.
        if len(indices) and (starts.min() < 0 or lengths.min() < 0 or ends.max() > values):
            bad = (starts < 0) | (ends < starts) | (ends > values)
            raise damaged(
                f"{self.npz.path}: member '{name}_offsets', row {indices[bad][0]}",
                f"{starts[bad][0]} to {ends[bad][0]} of {values} values",
            )
        rows = gather_rows(column.values, starts, lengths)
        return RaggedArray(rows.values.astype(dtype, copy=False), rows.offsets, check=False)
