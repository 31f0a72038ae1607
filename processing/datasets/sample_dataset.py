"""SampleDataset: the behaviour that all datasets share; subclasses only gather rows.

Indices, samples, batches and transforms are handled in this one place, so that one file and several
files behave alike. Safe from several threads as long as `_gather` is.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, Self, SupportsIndex, TypeAlias, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset
from typing_extensions import TypeVar  # typing's own has no `default` before Python 3.13

from processing.core.channels import stored_channel_axis
from processing.core.columns import ColumnArray, RaggedArray
from processing.core.messages import counted
from processing.core.urls import is_url
from processing.datasets.buffers import BufferPool
from processing.datasets.collate import Sample, SampleBatch, empty_images, ragged_sample
from processing.datasets.layout import CacheInfo, Layout
from processing.datasets.names import describe_categories
from processing.datasets.viewable import Viewable
from processing.datasets.worker_lifetime import end_workers_with_parent
from processing.npz.shown_rows import ShownRow, shown_rows

T_co = TypeVar("T_co", covariant=True, default=Sample)
"""The type of a dataset's samples: `Sample`, or the type that its transform returns."""

Transform: TypeAlias = Callable[[Sample], Any]
Rows: TypeAlias = Mapping[str, ColumnArray]
Indices: TypeAlias = slice | Sequence[SupportsIndex] | NDArray[Any] | torch.Tensor
"""Several samples: a slice, integers, or a mask."""


class SampleDataset(Viewable, Dataset[T_co], ABC):
    """A map-style dataset whose samples and batches come from gathered rows.

    Deterministic, safe from several threads, and picklable. Indices run from -len to len - 1.
    """

    _layout: Layout
    """Set by subclasses when they open."""
    weights: tuple[float, ...] | Literal["balance"] | None = None
    """Share of each part in a random order; None: each sample comes once."""
    repeat_threshold: float | None = None
    """See `CombinedLazyDataset`."""

    def __init__(self) -> None:
        self._buffers = BufferPool()
        end_workers_with_parent(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        end_workers_with_parent(self)

    @property
    def layout(self) -> Layout:
        """Task, shapes and dtypes of the samples."""
        return self._layout

    @property
    def task(self) -> str:
        """``detector``, ``landmarker`` or ``teacher``."""
        return self.layout.task

    @property
    def category_names(self) -> tuple[str, ...]:
        """Category names, which `labels` are positions in; empty for files of other writers."""
        return self.layout.category_names

    def _described(self, split: str | None, place: str) -> str:
        """Returns the text of `repr`: task, split, rows, size, categories, and `place`."""
        height, width = self.image_size
        parts = [
            self.task,
            *([split] if split else []),
            f"{counted(len(self), 'row')} of {height}x{width}",
        ]
        if names := self.category_names:
            parts.append(describe_categories(names))
        return f"{type(self).__name__}({', '.join(parts)}, {place})"

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the stored images, pixels."""
        shape = self.layout.image_shape
        height, width = shape[1:] if stored_channel_axis(shape) == 0 else shape[:2]
        return height, width

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def file_offsets(self) -> NDArray[np.int64]:
        """int64 (F + 1,): file f holds samples ``offsets[f]:offsets[f + 1]``."""

    @property
    @abstractmethod
    def stored_image_bytes(self) -> int:
        """Mean bytes of an image in the files; at least 1."""

    @abstractmethod
    def gather_images(self, indices: NDArray[np.intp], images_out: NDArray[Any]) -> None:
        """Copies the images of samples.

        Args:
            indices: (B,) in ``[0, len)``; not checked.
            images_out: C-contiguous (B, H, W, C), overwritten.
        """

    @abstractmethod
    def _gather_annotations(self, indices: NDArray[np.intp]) -> Rows:
        """Copies all else at valid indices like `Contents.gather_annotations`."""

    @abstractmethod
    def annotation_parts(self) -> Iterator[Rows]:
        """Yields the annotations of all samples, in order, in parts of any length.

        A part has the columns of `annotations` that are neither paths nor indices; they may be
        views of a file.
        """

    @abstractmethod
    def _transforms_of(self, indices: NDArray[np.intp]) -> Sequence[Transform | None] | None:
        """Returns the transform of each sample, or None if there are no transforms at all."""

    @property
    @abstractmethod
    def _files(self) -> tuple[str, ...]:
        """Returns the paths of the files, each once."""

    @property
    def is_remote(self) -> bool:
        """Whether samples are read from URLs, which a forked process cannot do."""
        return any(map(is_url, self._files))

    @property
    def _file(self) -> str:
        """Returns the file, or the first of several, for error messages."""
        return self._files[0]

    def shown_rows(self, indices: Iterable[SupportsIndex]) -> list[ShownRow]:
        """Returns samples to look at; see `Viewable.shown_rows`."""
        asked = self._checked_indices(indices)
        places = [self._locate(index) for index in asked.tolist()]
        rows = self._gather_annotations(asked)
        return shown_rows(asked, rows, self.category_names, places)

    @abstractmethod
    def advise(self, indices: NDArray[np.intp]) -> None:
        """Announces the samples that will be fetched soon, so that the system reads them ahead.

        Args:
            indices: (B,) in ``[0, len)``.
        """

    def close(self) -> None:
        """Closes the files. Arrays taken from the dataset stay valid; the dataset does not."""
        self._buffers.clear()

    @abstractmethod
    def cache_info(self) -> CacheInfo:
        """Returns hits, misses, and the largest and current size of this process's cache."""

    @abstractmethod
    def cache_clear(self) -> None:
        """Empties this process's cache and resets its counters."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # The first overload is for types that are sequences too, though numpy's have `__index__`.
    @overload
    def __getitem__(self, index: Indices) -> dict[str, NDArray[Any]]: ...
    @overload
    def __getitem__(self, index: int | np.integer[Any]) -> T_co: ...
    def __getitem__(self, index: Any) -> Any:
        """Returns one sample, or several as `get_batch` does; the caller owns all arrays.

        Args:
            index: an integer for one sample. A slice, a sequence of integers, or a mask of one bool
                per sample for several.

        Returns:
            A `Sample`: ``image`` uint8 (H, W, 3); ``bboxes`` float32 (k, 4) (detector) or (4,)
            (teacher), or ``keypoints`` float32 (K, 3); ``labels`` int64, if the file has them;
            ``image_path`` str; ``index`` int64, if wanted. With a transform, its result.
            For several samples the result of `get_batch`, a dict with plural keys.

        Raises:
            IndexError: `index` is outside ``[-len, len)``, or a mask has another length.
            TypeError: several samples of a dataset with a transform, which takes only one.
        """
        if isinstance(index, slice) or np.ndim(index) > 0:
            return self.get_batch(self._several(index))
        row = self._checked_indices([operator.index(index)])
        return self.transformed(row, self._batch(row))[0]

    def _several(self, index: Indices) -> NDArray[Any]:
        """Returns a slice, a sequence of integers or a mask as indices, not checked."""
        n = len(self)
        if self._transforms_of(np.arange(min(n, 1))):
            raise TypeError(
                f"{self._file}: several samples at once are not transformed, and this dataset has "
                "a transform: use [dataset[i] for i in ...], or get_batch(...) for samples before "
                "the transform"
            )
        if isinstance(index, slice):
            return np.arange(n)[index]
        asked = np.asarray(index)
        if asked.dtype != np.bool_:
            return asked if asked.size else np.empty(0, np.intp)
        if asked.shape != (n,):
            raise IndexError(f"a mask needs one bool for each of {n} samples, got {asked.shape}")
        return np.flatnonzero(asked)

    def __getitems__(self, indices: Iterable[SupportsIndex]) -> Sequence[T_co]:
        """Returns the samples of one batch, gathered at once; DataLoader calls this method.

        Args:
            indices: B indices in ``[-len, len)``.

        Returns:
            A sequence of B samples, which `torch.utils.data.default_collate` turns into a batch
            without copying.
        """
        rows = self._checked_indices(indices)
        return self.transformed(rows, self._batch(rows))

    def annotations(self, indices: NDArray[np.intp]) -> Rows:
        """Returns all that samples have but their images: annotations, paths and indices.

        Args:
            indices: (B,) in ``[0, len)``; not checked.
        """
        rows = dict(self._gather_annotations(indices))
        if self._layout.return_index:
            rows["index"] = indices.astype(np.int64)
        return rows

    def get_batch(self, indices: Iterable[SupportsIndex]) -> dict[str, NDArray[Any]]:
        """Returns samples as numpy arrays that the caller owns; transforms are not applied.

        Args:
            indices: B indices in ``[-len, len)``, in any order, also repeated.

        Returns:
            ``images`` uint8 (B, H, W, 3); ``bboxes`` an object array (B,) of float32 (k, 4)
            (detector) or float32 (B, 4) (teacher); ``keypoints`` float32 (B, K, 3); ``labels`` like
            ``bboxes``, int64; ``image_paths`` unicode (B,); ``index`` int64 (B,), if wanted.

        Raises:
            IndexError: an index is outside ``[-len, len)``.
            TypeError: `indices` are not integers.
        """
        columns = self._batch(self._checked_indices(indices)).columns
        return {name: _as_array(column) for name, column in columns.items()}

    def _batch(self, indices: NDArray[np.intp]) -> SampleBatch:
        layout = self._layout
        images = empty_images(
            (len(indices), *layout.image_shape), layout.image_dtype, self._buffers
        )
        self.gather_images(indices, images.numpy())
        return SampleBatch({"images": images.numpy(), **self.annotations(indices)}, images)

    def has_transforms(self, indices: NDArray[np.intp]) -> bool:
        """Checks whether any of these samples, (B,) in ``[0, len)``, is transformed."""
        return self._transforms_of(indices) is not None

    def transformed(self, indices: NDArray[np.intp], batch: SampleBatch) -> Sequence[Any]:
        """Applies transforms to the samples of a batch, (B,) in ``[0, len)``."""
        transforms = self._transforms_of(indices)
        if transforms is None:
            return batch  # as it is: collating it then copies nothing
        samples: list[Any] = []
        for index, sample, transform in zip(indices.tolist(), batch, transforms, strict=True):
            if transform is None:
                samples.append(sample)
            else:
                samples.append(self._transformed(index, sample, transform))
        return samples

    def _transformed(self, index: int, sample: Sample, transform: Transform) -> Any:
        """Applies a transform; a new dict keeps the ragged keys of its sample."""
        # Before the call, because the transform may remove the path from the sample.
        place = f"{self._place(index)} ({sample['image_path']})"
        try:
            result = transform(sample)
        except StopIteration as error:  # a loader would take it for the end of the epoch
            raise RuntimeError(f"the transform raised StopIteration, given {place}") from error
        except Exception as error:
            error.add_note(f"while the transform was given {place}")
            raise
        # Without them, boxes of different numbers could not be collated.
        if isinstance(result, dict) and not isinstance(result, Sample):
            return ragged_sample(result, sample.ragged)
        return result

    def _checked_indices(self, indices: Iterable[SupportsIndex]) -> NDArray[np.intp]:
        """Returns `indices` as intp (B,) in ``[0, len)``."""
        if not isinstance(indices, np.ndarray):
            indices = list(indices)
        asked = np.asarray(indices) if len(indices) else np.empty(0, np.intp)
        if asked.ndim != 1 or asked.dtype.kind not in "iu":
            raise TypeError(f"indices must be integers (B,), got {asked.dtype} {asked.shape}")
        n = len(self)
        # Usually no index is negative; then the batch needs no second array.
        if not len(asked) or (asked.min() >= 0 and asked.max() < n):
            return asked.astype(np.intp, copy=False)
        rows = np.where(asked < 0, asked + n, asked)
        outside = (rows < 0) | (rows >= n)
        if outside.any():
            raise IndexError(f"index {asked[outside][0]} is out of range for {n} samples")
        return rows.astype(np.intp)


def _as_array(column: ColumnArray) -> NDArray[Any]:
    """Returns ragged rows as an object array of views, and any other column as it is."""
    if not isinstance(column, RaggedArray):
        return column
    rows = np.empty(len(column), dtype=object)
    rows[:] = column.rows()
    return rows


def check_dataset(dataset: object) -> None:
    """Checks that an argument is a dataset of this package.

    Raises:
        TypeError: `dataset` is something else, such as a path.
    """
    if not isinstance(dataset, SampleDataset):
        raise TypeError(f"expected a dataset, got {dataset!r}: `open_dataset` makes one of files")
