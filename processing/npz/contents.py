"""Contents: the checked rows of one NPZ file, ready to be gathered.

Opening reads headers and the ends of offsets only; the offsets of a row are checked when it is
gathered. Read-only and safe from several threads. Does not import torch.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from processing.core.arguments import StrPath, check_location, check_path
from processing.core.columns import ColumnArray, RaggedArray, gather_rows
from processing.core.errors import NPZFormatError, damaged
from processing.core.urls import URL, Location
from processing.npz import members
from processing.npz.encoded_images import read_encoded
from processing.npz.format import JPEG_MEMBER, RAW_MEMBER
from processing.npz.mapped import MappedNPZ
from processing.npz.metadata import read_metadata
from processing.npz.remote import RemoteNPZ, RemoteRows
from processing.npz.stored_images import RawImages, StoredImages

RowShape: TypeAlias = tuple[int, ...] | str

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
        stored: the images, as pixels or encoded.
        annotations: ``bboxes``, ``keypoints`` and ``labels`` by name, as far as the file has them:
            (N, ...) or N ragged rows.
        image_paths: unicode (N,).
    """

    npz: MappedNPZ
    task: str
    metadata: Mapping[str, Any]
    stored: StoredImages
    annotations: Mapping[str, ColumnArray]
    image_paths: NDArray[np.str_]

    @classmethod
    def open(
        cls,
        path: StrPath | URL,
        *,
        cache_dir: StrPath | None = None,
        cache_bytes: int = 0,
        verify: bool = False,
    ) -> Contents:
        """Maps a file and reads its directory and headers.

        Args:
            path: the NPZ file, also at a URL.
            cache_dir: directory for members that have to be unpacked; None: next to the file. Also
                for rows that were read from a URL.
            cache_bytes: how many bytes of such rows to keep.
            verify: whether to compare all members but the images with their checksums.

        Raises:
            OSError: the file cannot be opened or mapped; names the limit to raise, if there is one.
            NPZFormatError: the file is damaged or is not a dataset.
        """
        try:
            cache = None if cache_dir is None else check_path("cache_dir", cache_dir)
            place = check_location("path", path)
            if isinstance(place, URL):
                npz: MappedNPZ = RemoteNPZ(place, cache_dir=cache, cache_bytes=cache_bytes)
            else:
                npz = MappedNPZ(place, cache_dir=cache)
            return cls.read(npz, verify=verify)
        except OSError as error:
            if error.errno not in _LIMITS:
                raise
            # The system's own text does not name the limit that has to be raised.
            raise OSError(error.errno, _LIMITS[error.errno], str(path)) from error

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
        metadata = read_metadata(npz)
        pixels = None if JPEG_MEMBER in npz else members.read_images(npz)
        paths = members.read_image_paths(npz)
        requests = None
        if isinstance(npz, RemoteNPZ):
            requests = RemoteRows(npz, JPEG_MEMBER if pixels is None else RAW_MEMBER)
        options: Any = {"will_gather": will_gather, "requests": requests}
        stored: StoredImages
        if pixels is None:
            stored = read_encoded(npz, paths, metadata, **options)
        else:
            stored = RawImages(npz, paths, pixels, **options)
        annotations = members.read_annotations(npz, len(stored))
        task = members.task_of(npz, metadata, annotations)
        lengths = {stored.member: len(stored), "image_paths": len(paths)}
        for name, column in {**annotations, **members.read_per_image(npz)}.items():
            lengths[name] = len(column)
        if len(set(lengths.values())) > 1:
            raise NPZFormatError(f"{npz.path}: members differ in length: {lengths}")
        return cls(npz, task, metadata, stored, annotations, paths)

    def whole(self) -> Contents:
        """Returns this file with all its bytes: a temporary copy of a file at a URL.

        Raises:
            OSError: the server does not answer, refuses, or has another file there by now.
            NPZFormatError: the file was replaced by another one, or is damaged.
        """
        npz = self.npz.whole()
        return self if npz is self.npz else Contents.read(npz, will_gather=False)

    def __len__(self) -> int:
        return len(self.stored)

    @property
    def offsets(self) -> NDArray[np.int64]:
        """int64 (2,): the rows of the file begin and end here."""
        return np.array([0, len(self)])

    @property
    def path(self) -> Location:
        """Path or URL of the file."""
        return self.npz.path

    @property
    def cache_dir(self) -> Path | None:
        """Directory for members that have to be unpacked."""
        return self.npz.cache_dir

    @property
    def content_id(self) -> int:
        """See `MappedNPZ.content_id`."""
        return self.npz.content_id

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(H, W, C), of one image."""
        return self.stored.shape

    @property
    def image_dtype(self) -> np.dtype[Any]:
        """Of gathered images."""
        return self.stored.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of all images in the file."""
        return self.stored.nbytes

    @property
    def row_shapes(self) -> tuple[tuple[str, RowShape], ...]:
        """The names of the annotations, each with the shape of a row, or ``ragged``."""
        return tuple(
            (name, "ragged" if isinstance(column, RaggedArray) else column.shape[1:])
            for name, column in self.annotations.items()
        )

    @property
    def has_row_checksums(self) -> bool:
        """Whether the file has a checksum of each image."""
        return "image_crc32" in self.npz

    def parts(self) -> Iterator[Contents]:
        """Yields this file: a set of several files yields each of them."""
        yield self

    def locate(self, index: int) -> tuple[Contents, int]:
        """Returns the file that holds a row, and the row's number in it."""
        return self, index

    def joined(self, name: str) -> ColumnArray | None:
        """Returns an annotation, or another member with a row for each image; a view of the file.

        Args:
            name: of the annotation or member.

        Returns:
            The rows; None if the file has no such member.
        """
        self.npz.check_size()
        return self.annotations.get(name, self.npz.get(name))

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
            NPZFormatError: the file shrank, the offsets of a row are outside the values, or an
                encoded image cannot be decoded.
        """
        if images_out is None:
            images_out = np.empty((len(indices), *self.stored.shape), self.stored.dtype)
        self.gather_images(indices, images_out, verify=verify)
        return {"images": images_out, **self.gather_annotations(indices)}

    def gather_images(
        self, indices: NDArray[np.intp], images_out: NDArray[Any], *, verify: bool = False
    ) -> None:
        """Copies or decodes images out of the file; see `gather`.

        Args:
            indices: (B,) in ``[0, N)``; not checked.
            images_out: C-contiguous (B, H, W, C), overwritten.
            verify: whether to compare the images with the checksums of their rows.
        """
        self.npz.check_size()
        self.stored.gather(indices, images_out, verify=verify)

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
        self.stored.advise(indices)

    @property
    def images(self) -> NDArray[Any]:
        """(N, H, W, C), a view of the file.

        Raises:
            TypeError: the images are encoded, so that there is no array of them.
        """
        if self.stored.requests is not None:
            raise TypeError(
                f"{self.npz.path}: is at a URL, so there is no array of all images: take "
                'get_batch(indices)["images"]'
            )
        if not isinstance(self.stored, RawImages):
            raise TypeError(
                f"{self.npz.path}: its images are stored as JPEG, so there is no array of all of "
                'them: take get_batch(indices)["images"], or process with store="raw"'
            )
        return self.stored.array

    @property
    def category_names(self) -> tuple[str, ...]:
        """Category names, in the order of the labels; empty if the file has none."""
        return tuple(self.metadata.get("category_names", ()))

    @property
    def fingerprint(self) -> str:
        """Hash of options, annotations and photographs; empty if the file has none."""
        return str(self.metadata.get("fingerprint", ""))

    @property
    def keypoint_names(self) -> tuple[str, ...] | None:
        """Names of the points, empty if they have none; None for files of other writers."""
        names = self.metadata.get("keypoint_names")
        return None if names is None else tuple(names)

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
