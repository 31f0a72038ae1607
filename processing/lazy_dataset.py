"""LazyNPZDataset and open_dataset: the samples of NPZ files, read on demand.

Samples and batches are copied out of a memory map. Datasets are safe from several threads and
across fork and spawn: a dataset is pickled by its path, and maps the file again in the other
process.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from os import PathLike
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from processing.core.arguments import StrPath, check_flag, check_integer, check_location
from processing.core.columns import ColumnArray
from processing.core.coordinates import stored_to_source
from processing.core.errors import DatasetClosedError, NPZFormatError
from processing.core.urls import URL
from processing.datasets.balance import BALANCE, REPEAT_THRESHOLD
from processing.datasets.cached_rows import CachedRows
from processing.datasets.collate import Sample
from processing.datasets.combined import CombinedLazyDataset
from processing.datasets.layout import CacheInfo, Layout
from processing.datasets.sample_dataset import Rows, T_co, Transform
from processing.datasets.selected import SelectableDataset
from processing.datasets.worker_lifetime import end_with_starter, starting_process
from processing.npz.contents import Contents
from processing.npz.format import first_look
from processing.npz.set_contents import SetContents, open_contents
from processing.npz.sets import dataset_path
from processing.npz.summary import Summary, summarize
from processing.npz.verify import verify_columns

_LOG = logging.getLogger(__name__)

_SPLITS = ("train", "val", "test")  # how names of processed files begin

__all__ = ["CombinedLazyDataset", "LazyNPZDataset", "open_dataset"]


class LazyNPZDataset(SelectableDataset[T_co]):
    """The samples of one NPZ file, or of a set of files.

    Opening reads headers only; the files of a set are opened when they are needed. Attributes such
    as `images` and `bboxes` are read-only views of a file; samples and batches are copies that the
    caller owns.

    Args:
        path: an NPZ file of this package, or an older one with compressed members or with boxes as
            lists. Or ``NAME-*.npz``: all shards of a set, which needs its manifest ``NAME.json``.
            A URL, such as ``s3://bucket/train_detector.npz``, is read by ranges: each batch
            requests its own images, and everything else is read when the file is opened.
        cache_size: number of most recently used samples to keep, per process; 0 for none. The cache
            holds samples before the transform.
        verify: whether to compare each image with its checksum when it is read, and all other
            members when the file is opened. Without it, only members of up to 4 MiB and JPEGs are
            compared, and damaged pixels are returned as they are.
        transform: called with each sample; its result takes the place of the sample.
        return_index: whether samples have the key ``index``.
        cache_dir: directory for members that have to be unpacked; None: the file's own directory.
            Also for images that were read from a URL.
        cache_bytes: how many bytes of such images to keep in `cache_dir`, with those of all other
            files. A full cache takes no more. Images in it are compared with their checksums.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: a limit of this process does not allow another open file, or a server fails.
        NPZFormatError: the file is damaged, is not a dataset, or lacks the checksums that `verify`
            needs.
        IncompleteSetError: shards or the manifest of a set are missing, or do not belong together.
        TypeError: an argument has the wrong type.
        ValueError: `cache_size` or `cache_bytes` is negative, or there is no `cache_dir` to keep
            bytes in.

    Example:
        >>> with LazyNPZDataset("train_detector.npz") as dataset:  # doctest: +SKIP
        ...     dataset[0].keys()
        dict_keys(['image', 'bboxes', 'image_path'])
    """

    def __init__(
        self,
        path: StrPath | URL,
        cache_size: int = 0,
        *,
        verify: bool = False,
        transform: Callable[[Sample], T_co] | None = None,
        return_index: bool = False,
        cache_dir: StrPath | None = None,
        cache_bytes: int = 0,
    ) -> None:
        super().__init__()
        self.cache_size = check_integer("cache_size", cache_size, least=0)
        self.transform = transform
        self.return_index = check_flag("return_index", return_index)
        self._verify_reads = check_flag("verify", verify)
        self._cache_bytes = check_integer("cache_bytes", cache_bytes, least=0)
        if cache_bytes and cache_dir is None:
            raise ValueError(f"cache_bytes={cache_bytes} needs cache_dir, a local directory")
        columns = self._contents(path, cache_dir)
        # Here, so that the processes of a loader do not warn again.
        if part := first_look(columns.metadata):
            _LOG.warning("%s: %s", path, part)
        self._open(columns)

    def _contents(self, path: StrPath | URL, cache_dir: StrPath | None) -> Contents | SetContents:
        return open_contents(
            path,
            cache_dir=cache_dir,
            cache_bytes=self._cache_bytes,
            verify=self._verify_reads,
        )

    def _open(self, columns: Contents | SetContents) -> None:
        verify = self._verify_reads
        if verify and not columns.has_row_checksums:
            raise NPZFormatError(
                f"{columns.path}: verify=True needs the member 'image_crc32', which this file does "
                "not have; call verify() once instead"
            )
        self.path = columns.path
        self._cache_dir = columns.cache_dir
        self._content_id = columns.content_id
        self._columns: Contents | SetContents | None = columns
        self._layout = self.layout
        self._rows: CachedRows | None = CachedRows(columns, self.cache_size, verify=verify)

    def __getstate__(self) -> dict[str, Any]:
        state = vars(self).copy()
        state["_columns"] = self._columns is not None  # only whether the file is open
        state["_starter"] = starting_process()
        del state["_rows"], state["_layout"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        end_with_starter(state.pop("_starter"))
        super().__setstate__({**state, "_columns": None, "_rows": None})
        if not state["_columns"]:
            return
        columns = self._contents(self.path, self._cache_dir)
        # Otherwise worker processes could silently read other data than this process.
        if columns.content_id != self._content_id:
            raise NPZFormatError(
                f"{self.path}: was replaced by another file after this dataset was opened; "
                "open it again"
            )
        self._open(columns)

    def __repr__(self) -> str:
        if self._columns is None:
            return f"{type(self).__name__}({str(self.path)!r}, closed)"
        split = self.path.name.partition("_")[0]
        return self._described(split if split in _SPLITS else None, repr(str(self.path)))

    def close(self) -> None:
        """Closes the file. Arrays taken from the dataset stay valid; the dataset does not."""
        super().close()
        self._columns = self._rows = None

    @property
    def columns(self) -> Contents | SetContents:
        """All members of the file or set.

        Raises:
            DatasetClosedError: the dataset was closed.
        """
        columns = self._columns  # another thread may close the dataset meanwhile
        if columns is None:
            raise self._closed_error()
        return columns

    def _open_rows(self) -> CachedRows:
        rows = self._rows
        if rows is None:
            raise self._closed_error()
        return rows

    def _closed_error(self) -> DatasetClosedError:
        return DatasetClosedError(f"{self.path}: the dataset was closed; open it again to use it")

    @property
    def layout(self) -> Layout:
        """Task, shapes and dtypes of the samples.

        Raises:
            DatasetClosedError: the dataset was closed.
        """
        columns = self.columns
        return Layout(
            columns.task,
            columns.image_shape,
            columns.image_dtype,
            columns.category_names,
            columns.keypoint_names,
            columns.row_shapes,
            self.return_index,
        )

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Metadata that the processor stored; empty for files of other writers."""
        return self.columns.metadata

    @property
    def images(self) -> NDArray[Any]:
        """uint8 (N, H, W, 3), a view; TypeError for JPEGs, sets and URLs, see `get_batch`."""
        columns = self.columns
        if isinstance(columns, SetContents):
            raise TypeError(
                f"{self.path}: is a set of files, so there is no array of all images: take "
                'get_batch(indices)["images"], or open one of the files'
            )
        columns.npz.check_size()
        return columns.images

    @property
    def image_paths(self) -> NDArray[np.str_]:
        """Unicode (N,): relative to the raw directory, ``/`` separated; of a set a copy."""
        return np.asarray(self.columns.joined("image_paths"))

    @property
    def bboxes(self) -> ColumnArray | None:
        """float32 x1, y1, x2, y2: N rows (k, 4) (detector) or (N, 4) (teacher), or None."""
        return self.columns.joined("bboxes")

    @property
    def keypoints(self) -> ColumnArray | None:
        """float32 (N, K, 3) as x, y, visibility, or N rows (k, 3), or None."""
        return self.columns.joined("keypoints")

    @property
    def labels(self) -> ColumnArray | None:
        """Positions in `category_names`, an integer for each box, or None."""
        return self.columns.joined("labels")

    @property
    def source_rects(self) -> NDArray[np.float32] | None:
        """float32 (N, 4): the rectangle of the upright source that each image shows, or None."""
        return self._array("source_rects")

    @property
    def source_sizes(self) -> NDArray[np.int32] | None:
        """int32 (N, 2): height and width of the upright source images, pixels, or None."""
        return self._array("source_sizes")

    def _array(self, name: str) -> NDArray[Any] | None:
        found = self.columns.joined(name)
        return None if found is None else np.asarray(found)

    def to_source(self, index: int, coordinates: ArrayLike) -> NDArray[np.float64]:
        """Maps coordinates in a stored image to pixels of its upright source image.

        Args:
            index: the sample, in ``[-len, len)``.
            coordinates: points (..., 2), points with visibility (..., 3), or boxes (..., 4).

        Returns:
            float64, of the same shape.

        Raises:
            IndexError: `index` is outside ``[-len, len)``.
            NPZFormatError: the file does not store which part of the source its images show.
        """
        file, row = self.columns.locate(int(self._checked_indices([index])[0]))
        rects = file.npz.get("source_rects")
        if rects is None:
            raise NPZFormatError(f"{file.path}: has no 'source_rects' to map coordinates by")
        return stored_to_source(np.asarray(coordinates), rects[row], self.image_size)

    def verify(self) -> None:
        """Reads the whole file in bounded memory and checks it.

        In a file of this package every byte is compared with a checksum. In a file of another
        writer, every member that has a checksum is compared.

        Raises:
            ChecksumError: bytes differ from those written; the message names member and row.
            NPZFormatError: parts of the file contradict each other; the message names member and
                row.
        """
        for file in self.columns.parts():
            verify_columns(file)

    def cache_info(self) -> CacheInfo:
        """Returns hits, misses, and the largest and current size of this process's cache."""
        rows = self._rows
        return CacheInfo(0, 0, self.cache_size, 0) if rows is None else rows.info()

    def cache_clear(self) -> None:
        """Empties this process's cache and resets its counters."""
        rows = self._rows
        if rows is not None:
            rows.clear()

    def __len__(self) -> int:
        return len(self.columns)

    @property
    def file_offsets(self) -> NDArray[np.int64]:
        """int64 (F + 1,): file f holds samples ``offsets[f]:offsets[f + 1]``."""
        return self.columns.offsets

    @property
    def stored_image_bytes(self) -> int:
        """Mean bytes of an image in the file; at least 1."""
        return max(1, self.columns.nbytes // max(1, len(self)))

    def advise(self, indices: NDArray[np.intp]) -> None:
        """Announces the samples that will be fetched soon; see `SampleDataset.advise`."""
        self.columns.advise(indices)

    @property
    def _files(self) -> tuple[str, ...]:
        return (str(self.path),)

    def _locate(self, index: int) -> tuple[Contents, int]:
        return self.columns.locate(index)

    def info(self) -> Summary:
        """Returns a summary of the file or set; see `Viewable.info`."""
        return summarize(self.columns)

    def annotation_parts(self) -> Iterator[Rows]:
        """Yields the annotations of all files; see `SampleDataset.annotation_parts`."""
        for file in self.columns.parts():
            file.npz.check_size()
            yield file.annotations

    def _transforms_of(self, indices: NDArray[np.intp]) -> Sequence[Transform | None] | None:
        return None if self.transform is None else [self.transform] * len(indices)

    def gather_images(self, indices: NDArray[np.intp], images_out: NDArray[Any]) -> None:
        """Copies the images of samples; see `SampleDataset.gather_images`."""
        self._open_rows().gather_images(indices, images_out)

    def _gather_annotations(self, indices: NDArray[np.intp]) -> Rows:
        return self._open_rows().gather_annotations(indices)


def open_dataset(
    path: StrPath | URL | Sequence[StrPath | URL],
    name: str | None = None,
    *,
    cache_size: int = 0,
    verify: bool = False,
    transform: Callable[[Sample], T_co] | None = None,
    return_index: bool = False,
    cache_dir: StrPath | None = None,
    cache_bytes: int = 0,
    weights: Sequence[float] | Literal["balance"] | None = None,
    repeat_threshold: float = REPEAT_THRESHOLD,
) -> LazyNPZDataset[T_co] | CombinedLazyDataset[T_co]:
    """Opens one NPZ file, or several files as one dataset.

    Args:
        path: a file, or several files in the order in which their samples should come. With `name`,
            a directory, or several. All may be URLs.
        name: of the file in the directory, such as ``train_detector``, whether it is one file or a
            set of shards.
        cache_size: number of samples to keep in memory, for each file.
        verify: whether to compare images with their checksums; see `LazyNPZDataset`.
        transform: called with each sample; its result takes the place of the sample.
        return_index: whether samples have the key ``index``.
        cache_dir: directory for members that have to be unpacked; None: next to the file. Also for
            images that were read from a URL.
        cache_bytes: how many bytes of such images to keep; see `LazyNPZDataset`.
        weights: share of each of several files, or ``"balance"``; see `CombinedLazyDataset`.
        repeat_threshold: for ``"balance"``; see `CombinedLazyDataset`.

    Raises:
        FileNotFoundError: a file is missing.
        NPZFormatError: a file is damaged or is not a dataset, or there is both a file and a set.
        IncompleteSetError: shards or the manifest of a set are missing, or do not belong together.
        ValueError: the files differ in task, image size, categories, names of keypoints or
            annotations.

    Example:
        >>> dataset = open_dataset(["a/train_detector.npz", "b/train_detector.npz"])
        ... # doctest: +SKIP
        >>> dataset = open_dataset("data/preprocessed", "train_detector")  # doctest: +SKIP
    """
    open_file = functools.partial(
        LazyNPZDataset[T_co],
        cache_size=cache_size,
        verify=verify,
        transform=transform,
        return_index=return_index,
        cache_dir=cache_dir,
        cache_bytes=cache_bytes,
    )
    is_one = isinstance(path, str | PathLike | URL)
    files = [path] if isinstance(path, str | PathLike | URL) else list(path)
    if name is not None:
        files = [dataset_path(check_location("path", directory), name) for directory in files]
    if is_one:
        if weights is None:
            return open_file(files[0])
        if weights != BALANCE:
            raise ValueError(f"weights need several files, got one: {path}")
    # Closes the files that are already open if the next one cannot be opened or does not fit.
    with contextlib.ExitStack() as opened:
        parts = [opened.enter_context(open_file(file)) for file in files]
        combined = CombinedLazyDataset(parts, weights, repeat_threshold)
        opened.pop_all()
    return combined
