"""LazyNPZDataset: the samples of one NPZ file, or of several, read when they are asked for.

Samples and batches are copies out of one memory map. Datasets are safe from several threads,
across fork and spawn: they are pickled by path and map the file again where they arrive.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from processing.core.arguments import check_flag, check_integer, check_path
from processing.core.columns import ColumnArray, RaggedArray
from processing.core.coordinates import stored_to_source
from processing.core.errors import DatasetClosedError, NPZFormatError
from processing.datasets.combined import CombinedLazyDataset
from processing.datasets.sample_dataset import (
    CacheInfo,
    Layout,
    Rows,
    SampleDataset,
    Transform,
    merge_rows,
)
from processing.datasets.worker_lifetime import end_with_starter, starting_process
from processing.npz.contents import Contents
from processing.npz.mapped import MappedNPZ
from processing.npz.verify import verify_columns

__all__ = ["CombinedLazyDataset", "LazyNPZDataset", "open_dataset"]

StrPath = str | PathLike[str]


class LazyNPZDataset(SampleDataset):
    """The samples of one NPZ file.

    Opening reads headers only. Attributes such as `images` and `bboxes` are read-only views of the
    file; samples and batches are copies that the caller owns.

    Args:
        path: the NPZ file, of this package or as the guide's older ones (compressed, boxes as
            lists).
        cache_size: how many samples to keep, the most recently used ones; per process, 0 for none.
            Samples are kept as they are in the file, before the transform.
        verify: compare each image with its checksum when it is read, and all else when the file
            is opened. Without it, of all else only members of up to 4 MiB are compared, and a
            damaged image is returned as it is.
        transform: called with each sample (a dict); what it returns takes the sample's place.
        return_index: samples have their ``index`` too.
        cache_dir: where compressed members are unpacked to; beside the file if None.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: the limits of this process do not admit another file.
        NPZFormatError: the file is damaged or holds something else; or has no checksums, with
            `verify`.
        ValueError: a negative `cache_size`.

    Example:
        >>> with LazyNPZDataset("train_detector.npz") as dataset:  # doctest: +SKIP
        ...     dataset[0].keys()
        dict_keys(['image', 'bboxes', 'image_path'])
    """

    def __init__(
        self,
        path: StrPath,
        cache_size: int = 0,
        *,
        verify: bool = False,
        transform: Transform | None = None,
        return_index: bool = False,
        cache_dir: StrPath | None = None,
    ) -> None:
        super().__init__()
        self.cache_size = check_integer("cache_size", cache_size, least=0)
        self.transform = transform
        self.return_index = check_flag("return_index", return_index)
        self._verify_reads = check_flag("verify", verify)
        self._open(*_mapped(path, cache_dir, verify=verify))

    def _open(self, npz: MappedNPZ, columns: Contents) -> None:
        if self._verify_reads and "image_crc32" not in npz:
            raise NPZFormatError(
                f"{npz.path}: verify=True needs the member 'image_crc32', which this file does not "
                "have; call verify() once instead"
            )
        self.path = npz.path
        self._cache_dir = npz.cache_dir
        self._content_id = npz.content_id
        self._columns: Contents | None = columns
        self._layout = _layout(columns, self.return_index)
        # Over the columns, not over self: a cycle would keep the map until a collection.
        self._cache = functools.lru_cache(maxsize=self.cache_size)(
            functools.partial(_read_row, columns, self._verify_reads)
        )

    def __getstate__(self) -> dict[str, Any]:
        state = vars(self).copy()
        state["_columns"] = self._columns is not None
        state["_starter"] = starting_process()
        del state["_cache"], state["_layout"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        end_with_starter(state.pop("_starter"))
        super().__setstate__({**state, "_columns": None})
        if not state["_columns"]:
            return
        npz, columns = _mapped(self.path, self._cache_dir, verify=self._verify_reads)
        if npz.content_id != self._content_id:
            raise NPZFormatError(
                f"{self.path}: was replaced by another file after this dataset was opened; "
                "open it again"
            )
        self._open(npz, columns)

    def close(self) -> None:
        """Lets go of the file; the dataset cannot be used afterwards, arrays taken from it can."""
        super().close()
        if self._columns is not None:
            self._cache.cache_clear()
        self._columns = None

    @property
    def columns(self) -> Contents:
        """Everything in the file, as views of it.

        Raises:
            DatasetClosedError: the dataset was closed.
        """
        if self._columns is None:
            raise DatasetClosedError(
                f"{self.path}: the dataset was closed; open it again to use it"
            )
        return self._columns

    @property
    def _whole(self) -> Contents:
        """What the file holds, after a look at whether it was cut; views kept are not protected."""
        columns = self.columns
        columns.npz.check_size()
        return columns

    @property
    def task(self) -> str:
        """``detector``, ``landmarker`` or ``teacher``."""
        return self.columns.task

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the processor noted; empty for files made by others."""
        return self.columns.metadata

    @property
    def category_names(self) -> tuple[str, ...]:
        """What `labels` are positions in; empty for files made by others."""
        return self.columns.category_names

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images, pixels."""
        height, width = self.columns.images.shape[1:3]
        return height, width

    @property
    def images(self) -> NDArray[Any]:
        """uint8 (N, H, W, 3), a view of the file."""
        return self._whole.images

    @property
    def image_paths(self) -> NDArray[np.str_]:
        """Unicode (N,): relative to the raw directory, ``/`` separated."""
        return self._whole.image_paths

    @property
    def bboxes(self) -> ColumnArray | None:
        """float32 x1, y1, x2, y2: N rows (k, 4) (detector) or (N, 4) (teacher); None without."""
        return self._whole.annotations.get("bboxes")

    @property
    def keypoints(self) -> ColumnArray | None:
        """float32 (N, K, 3) as x, y, visibility, or N rows (k, 3); None without."""
        return self._whole.annotations.get("keypoints")

    @property
    def labels(self) -> ColumnArray | None:
        """Integers like `bboxes`, positions in `category_names`; None without."""
        return self._whole.annotations.get("labels")

    @property
    def source_rects(self) -> NDArray[np.float32] | None:
        """float32 (N, 4): what each image shows of its upright source, pixels; None without."""
        return self.columns.npz.get("source_rects")

    @property
    def source_sizes(self) -> NDArray[np.int32] | None:
        """int32 (N, 2): height and width of the upright source images, pixels; None without."""
        return self.columns.npz.get("source_sizes")

    def to_source(self, index: int, coordinates: ArrayLike) -> NDArray[np.float64]:
        """Maps coordinates in a stored image to pixels of its upright source image.

        Args:
            index: the sample, in ``[-len, len)``.
            coordinates: points (..., 2), points with visibility (..., 3), or boxes (..., 4).

        Returns:
            float64, of the same shape.

        Raises:
            IndexError: an index outside ``[-len, len)``.
            NPZFormatError: the file does not say what its images show.
        """
        rects = self.source_rects
        if rects is None:
            raise NPZFormatError(f"{self.path}: has no 'source_rects' to map coordinates by")
        row = self._checked_indices([index])[0]
        return stored_to_source(np.asarray(coordinates), rects[row], self.image_size)

    def verify(self) -> None:
        """Reads the whole file, in bounded memory, and compares it with all that it says of itself.

        In a file of this package every byte is compared; in one of others all that has a checksum.

        Raises:
            ChecksumError: bytes differ from what was written; names member and row.
            NPZFormatError: parts of the file contradict each other; names member and row.
        """
        verify_columns(self.columns)

    def cache_info(self) -> CacheInfo:
        """Hits, misses, greatest and current size of this process's cache, in samples."""
        hits, misses, _, currsize = self._cache.cache_info()
        return CacheInfo(hits, misses, self.cache_size, currsize)

    def cache_clear(self) -> None:
        """Empties this process's cache and its counters."""
        self._cache.cache_clear()

    def __len__(self) -> int:
        return len(self.columns)

    def advise(self, indices: NDArray[np.intp]) -> None:
        """Says which samples are to be fetched soon; see `SampleDataset.advise`."""
        self.columns.advise(indices)

    def _place(self, index: int) -> str:
        return f"{self.path}, row {index}"

    def _transforms_of(self, indices: NDArray[np.intp]) -> Sequence[Transform | None] | None:
        return None if self.transform is None else [self.transform] * len(indices)

    def _gather(self, indices: NDArray[np.intp], images_out: NDArray[Any]) -> Rows:
        if self.cache_size == 0 or len(indices) == 0:
            return _read(self.columns, indices, images_out, verify=self._verify_reads)
        rows = [self._cache(index) for index in indices.tolist()]
        return merge_rows([(np.array([i]), row) for i, row in enumerate(rows)], images_out)


def open_dataset(
    path: StrPath | Sequence[StrPath],
    *,
    cache_size: int = 0,
    verify: bool = False,
    transform: Transform | None = None,
    return_index: bool = False,
    cache_dir: StrPath | None = None,
) -> LazyNPZDataset | CombinedLazyDataset:
    """Opens one NPZ file, or several as one dataset.

    Args:
        path: a file, or files in the order in which their samples are to come.
        cache_size: samples to keep, for each file.
        verify: as for `LazyNPZDataset`, like the rest.
        transform: called with each sample.
        return_index: samples have their ``index`` too.
        cache_dir: where compressed members are unpacked to.
    """
    open_file = functools.partial(
        LazyNPZDataset,
        cache_size=cache_size,
        verify=verify,
        transform=transform,
        return_index=return_index,
        cache_dir=cache_dir,
    )
    if isinstance(path, str | PathLike):
        return open_file(path)
    with contextlib.ExitStack() as opened:  # closes them where one cannot be opened
        combined = CombinedLazyDataset([opened.enter_context(open_file(file)) for file in path])
        opened.pop_all()
    return combined


def _mapped(
    path: StrPath, cache_dir: StrPath | None, *, verify: bool
) -> tuple[MappedNPZ, Contents]:
    try:
        cache = None if cache_dir is None else check_path("cache_dir", cache_dir)
        npz = MappedNPZ(check_path("path", path), cache_dir=cache)
        return npz, Contents.read(npz, verify=verify)
    except OSError as error:
        if error.errno not in _LIMITS:
            raise
        raise OSError(error.errno, _LIMITS[error.errno], os.fspath(path)) from error


_LIMITS = {
    errno.EMFILE: "too many open files: each data file takes 2 descriptors; raise the limit before "
    "the program starts (`ulimit -n`, in a container `--ulimit nofile=`), or read fewer, larger "
    "files",
    errno.ENOMEM: "cannot be mapped: the whole file has to fit into the address space, but not "
    "into memory; raise the limit of the address space (`ulimit -v`), or split the data among "
    "smaller files",
}
"""What to do where a limit of the process or the system forbids to open another file."""


def _read(
    columns: Contents, indices: NDArray[np.intp], images_out: NDArray[Any] | None, *, verify: bool
) -> dict[str, ColumnArray]:
    rows = columns.gather(indices, images_out=images_out)
    if verify:
        columns.verify_rows(indices, np.asarray(rows["images"]))
    return rows


def _read_row(columns: Contents, verify: bool, index: int) -> dict[str, ColumnArray]:
    return _read(columns, np.array([index]), None, verify=verify)


def _layout(columns: Contents, return_index: bool) -> Layout:
    row_shapes = tuple(
        (name, "ragged" if isinstance(column, RaggedArray) else column.shape[1:])
        for name, column in columns.annotations.items()
    )
    return Layout(
        columns.task,
        columns.images.shape[1:],
        columns.image_dtype,
        columns.category_names,
        row_shapes,
        return_index,
    )
