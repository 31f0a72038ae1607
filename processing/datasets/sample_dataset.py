"""SampleDataset: what a dataset of samples offers, given a way to gather rows.

One place for indices, samples, batches and transforms, so that one file and several behave alike.
Safe from several threads as long as `_gather` is.
"""

from __future__ import annotations

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Self, SupportsIndex

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from processing.core.columns import ColumnArray, RaggedArray, offsets_of
from processing.datasets.buffers import BufferPool
from processing.datasets.collate import Sample, SampleBatch, empty_images, ragged_sample
from processing.datasets.worker_lifetime import end_workers_with_parent

Transform = Callable[[dict[str, Any]], Any]
Rows = Mapping[str, ColumnArray]
Allocate = Callable[[tuple[int, ...], np.dtype[Any]], torch.Tensor]


class CacheInfo(NamedTuple):
    """State of the cache of this process, as `functools.lru_cache` reports it."""

    hits: int
    misses: int
    maxsize: int
    currsize: int


class Layout(NamedTuple):
    """What two datasets must have in common to be read as one."""

    task: str
    image_shape: tuple[int, ...]
    image_dtype: np.dtype[Any]
    category_names: tuple[str, ...]
    row_shapes: tuple[tuple[str, tuple[int, ...] | str], ...]
    return_index: bool

    @property
    def image_bytes(self) -> int:
        """Bytes of one image."""
        return math.prod(self.image_shape) * self.image_dtype.itemsize


class SampleDataset(Dataset[Any], ABC):
    """A map-style dataset whose samples and batches come from gathered rows.

    Deterministic, safe from several threads, picklable. Indices run from -len to len - 1.
    """

    _layout: Layout
    """Kind of the samples; set by subclasses when they open."""

    def __init__(self) -> None:
        self._buffers = BufferPool()
        end_workers_with_parent(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        end_workers_with_parent(self)

    @property
    def layout(self) -> Layout:
        """Kind of the samples."""
        return self._layout

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def _gather(self, indices: NDArray[np.intp], images_out: NDArray[Any]) -> Rows:
        """Rows at valid `indices` as `Contents.gather` gives them, images in `images_out`."""

    @abstractmethod
    def _transforms_of(self, indices: NDArray[np.intp]) -> Sequence[Transform | None] | None:
        """The transform of each sample, or None if there are no transforms at all."""

    @abstractmethod
    def _place(self, index: int) -> str:
        """File and row of a sample, to be named where something is wrong with it."""

    @abstractmethod
    def advise(self, indices: NDArray[np.intp]) -> None:
        """Says which samples are to be fetched soon: what is not in memory is read meanwhile.

        Args:
            indices: (B,) in ``[0, len)``.
        """

    def close(self) -> None:
        """Lets go of the files; the dataset cannot be used afterwards, arrays taken from it can."""
        self._buffers.clear()

    @abstractmethod
    def cache_info(self) -> CacheInfo:
        """Hits, misses, greatest and current size of this process's cache, in samples."""

    @abstractmethod
    def cache_clear(self) -> None:
        """Empties this process's cache and its counters."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getitem__(self, index: SupportsIndex) -> Any:
        """One sample, as arrays that the caller owns and may write.

        Returns:
            A dict: ``image`` uint8 (H, W, 3); ``bboxes`` float32 (k, 4) (detector) or (4,)
            (teacher), or ``keypoints`` float32 (K, 3); ``labels`` int64, if the file has them;
            ``image_path`` str; ``index`` int64, if wanted. With a transform, what that returns.

        Raises:
            IndexError: an index outside ``[-len, len)``.
        """
        row = self._checked_indices([operator.index(index)])
        return self._samples(row, self._batch(row))[0]

    def __getitems__(self, indices: Iterable[SupportsIndex]) -> Sequence[Any]:
        """The samples of one batch, gathered at once; DataLoader calls this.

        Args:
            indices: B indices in ``[-len, len)``.

        Returns:
            A sequence of B samples that `torch.utils.data.default_collate` turns into a batch
            without copying.
        """
        return self.fetch(indices)

    def fetch(
        self, indices: Iterable[SupportsIndex], allocate: Allocate | None = None
    ) -> Sequence[Any]:
        """As `__getitems__`, with images in memory of the caller's choice.

        Args:
            indices: B indices in ``[-len, len)``.
            allocate: gives a C-contiguous tensor on the host for the images, from their shape (B,
                H, W, C) and dtype. None: memory of an earlier batch that nobody holds any more.
        """
        rows = self._checked_indices(indices)
        return self._samples(rows, self._batch(rows, allocate))

    def get_batch(self, indices: Iterable[SupportsIndex]) -> dict[str, NDArray[Any]]:
        """Several samples as numpy arrays that the caller owns; transforms are not applied.

        Args:
            indices: B indices in ``[-len, len)``, in any order, also repeated.

        Returns:
            ``images`` uint8 (B, H, W, 3); ``bboxes`` an object array (B,) of float32 (k, 4)
            (detector) or float32 (B, 4) (teacher); ``keypoints`` float32 (B, K, 3); ``labels`` like
            ``bboxes``, int64; ``image_paths`` unicode (B,); ``index`` int64 (B,), if wanted.

        Raises:
            IndexError: an index outside ``[-len, len)``.
            TypeError: indices that are not integers.
        """
        columns = self._batch(self._checked_indices(indices)).columns
        return {name: _as_array(column) for name, column in columns.items()}

    def _batch(self, indices: NDArray[np.intp], allocate: Allocate | None = None) -> SampleBatch:
        layout = self._layout
        shape = (len(indices), *layout.image_shape)
        images = (
            empty_images(shape, layout.image_dtype, self._buffers)
            if allocate is None
            else allocate(shape, layout.image_dtype)
        )
        rows = dict(self._gather(indices, images.numpy()))
        if layout.return_index:
            rows["index"] = indices.astype(np.int64)
        return SampleBatch(rows, images)

    def _samples(self, indices: NDArray[np.intp], batch: SampleBatch) -> Sequence[Any]:
        transforms = self._transforms_of(indices)
        if transforms is None:
            return batch
        return [
            sample if transform is None else self._transformed(index, sample, transform)
            for index, sample, transform in zip(indices.tolist(), batch, transforms, strict=True)
        ]

    def _transformed(self, index: int, sample: Sample, transform: Transform) -> Any:
        """A transform's result; a new dict still has the ragged keys that its sample had."""
        place = f"{self._place(index)} ({sample['image_path']})"  # which it may take out
        try:
            result = transform(sample)
        except StopIteration as error:  # a loader would take it for the end of the epoch
            raise RuntimeError(f"the transform raised StopIteration, given {place}") from error
        except Exception as error:
            error.add_note(f"while the transform was given {place}")
            raise
        if isinstance(result, dict) and not isinstance(result, Sample):
            return ragged_sample(result, sample.ragged)
        return result

    def _checked_indices(self, indices: Iterable[SupportsIndex]) -> NDArray[np.intp]:
        """`indices` as intp (B,) in ``[0, len)``."""
        if not isinstance(indices, np.ndarray):
            indices = list(indices)
        asked = np.asarray(indices) if len(indices) else np.empty(0, np.intp)
        if asked.ndim != 1 or asked.dtype.kind not in "iu":
            raise TypeError(f"indices must be integers (B,), got {asked.dtype} {asked.shape}")
        n = len(self)
        if not len(asked) or (asked.min() >= 0 and asked.max() < n):
            return asked.astype(np.intp, copy=False)
        rows = np.where(asked < 0, asked + n, asked)
        outside = (rows < 0) | (rows >= n)
        if outside.any():
            raise IndexError(f"index {asked[outside][0]} is out of range for {n} samples")
        return rows.astype(np.intp)


def merge_rows(
    parts: Sequence[tuple[NDArray[np.intp], Rows]], images_out: NDArray[Any]
) -> dict[str, ColumnArray]:
    """Copies rows that were gathered in parts into one batch.

    Args:
        parts: positions in the batch and the rows that belong there; together all of 0 … B - 1,
            once each.
        images_out: (B, H, W, C), filled.
    """
    for positions, rows in parts:
        images_out[positions] = rows["images"]
    order = np.argsort(np.concatenate([positions for positions, _ in parts]))
    merged: dict[str, ColumnArray] = {"images": images_out}
    for name in parts[0][1]:
        if name != "images":
            merged[name] = _concatenate([rows[name] for _, rows in parts], order)
    return merged


def _concatenate(columns: Sequence[ColumnArray], order: NDArray[np.intp]) -> ColumnArray:
    ragged = [column for column in columns if isinstance(column, RaggedArray)]
    if ragged:
        values = np.concatenate([column.values for column in ragged])
        lengths = np.concatenate([column.lengths for column in ragged])
        return RaggedArray(values, offsets_of(lengths), check=False).take(order)
    joined: NDArray[Any] = np.concatenate([np.asarray(column) for column in columns])[order]
    return joined


def _as_array(column: ColumnArray) -> NDArray[Any]:
    """Ragged rows as an object array of views of one array."""
    if not isinstance(column, RaggedArray):
        return column
    rows = np.empty(len(column), dtype=object)
    rows[:] = column.rows() if len(column) else []
    return rows


def check_dataset(dataset: object) -> None:
    """Makes sure that something is a dataset of ours.

    Raises:
        TypeError: it is not, such as the path of one.
    """
    if not isinstance(dataset, SampleDataset):
        raise TypeError(f"expected a dataset, got {dataset!r}: `open_dataset` makes one of files")
