"""Sample, SampleBatch, and how samples become a batch, ragged boxes included.

Importing this module registers `Sample` and `RaggedRow` in torch's `default_collate_fn_map`, so a
plain DataLoader needs no `collate_fn`. A batch that was gathered at once is not copied when it is
collated: the tensors share memory with its arrays. Functions keep no state, so any thread may call
them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import get_worker_info
from torch.utils.data._utils.collate import collate, collate_tensor_fn, default_collate_fn_map

from processing.core.columns import ColumnArray, RaggedArray
from processing.datasets.batch import Batch, TensorList, register_container
from processing.datasets.buffers import BufferPool
from processing.datasets.ragged_row import RaggedRow, ragged_row
from processing.datasets.shared_tensors import empty_shared, is_plain, stack_shared

# Members of the file are plural; a sample has one of each.
_SAMPLE_KEYS = {"images": "image", "image_paths": "image_path"}


class Sample(dict[str, Any]):
    """One image with its annotations: an ordinary dict.

    Keys: ``image``, ``bboxes`` or ``keypoints``, ``image_path``; ``labels`` if the file has them;
    ``index`` if the dataset was opened with `return_index`.

    Attributes:
        ragged: keys whose first dimension differs from sample to sample. Collating turns their
            values into a `TensorList`. `copy.copy`, `copy.deepcopy` and pickle keep it; operations
            that make a plain dict of a dict, such as `sample | {}`, do not.

    Example:
        >>> sample = Sample(image=np.zeros((8, 8, 3), np.uint8), image_path="a.jpg")
        >>> sample["image"].shape
        (8, 8, 3)
    """

    # Set after construction, because the constructor has to be that of dict: torch and Lightning
    # rebuild containers with `type(sample)(pairs)`.
    ragged: frozenset[str] = frozenset()

    if TYPE_CHECKING:  # for editors and type checkers; at run time this is the method of dict

        @overload
        def __getitem__(self, key: Literal["image"], /) -> NDArray[np.uint8]: ...
        @overload
        def __getitem__(self, key: Literal["bboxes", "keypoints"], /) -> NDArray[np.float32]: ...
        @overload
        def __getitem__(self, key: Literal["labels"], /) -> NDArray[np.int64] | Any: ...
        @overload
        def __getitem__(self, key: Literal["image_path"], /) -> str: ...
        @overload
        def __getitem__(self, key: Literal["index"], /) -> np.int64: ...
        @overload
        def __getitem__(self, key: str, /) -> Any: ...
        def __getitem__(self, key: str, /) -> Any: ...


def ragged_sample(values: Mapping[str, Any], ragged: frozenset[str]) -> Sample:
    """Builds a sample of the given values and sets the attribute `ragged`."""
    sample = Sample(values)
    sample.ragged = ragged
    return sample


class SampleBatch(Sequence[Sample]):
    """A batch that was gathered at once, seen as a sequence of samples.

    Samples are built on first access and hold views of the batch's arrays. Each is built once, so
    changes that a `collate_fn` makes to a sample are kept. Collating a batch whose samples still
    hold their original arrays copies nothing.

    Args:
        columns: rows by the names of members, kept; plus ``index``, int64 (B,), if wanted.
        images: the tensor that shares its memory with ``columns["images"]``, if there is one.

    Example:
        >>> batch = SampleBatch({"images": np.zeros((2, 8, 8, 3), np.uint8)})
        >>> len(batch), batch[0]["image"].shape, batch.collate()["image"].shape
        (2, (8, 8, 3), torch.Size([2, 8, 8, 3]))
    """

    def __init__(
        self, columns: Mapping[str, ColumnArray], images: torch.Tensor | None = None
    ) -> None:
        self.columns = columns
        self._images = images
        self._ragged = frozenset(k for k, v in columns.items() if isinstance(v, RaggedArray))
        # By row: the sample that was handed out, and the values that it was built with.
        self._handed: dict[int, tuple[Sample, dict[str, Any]]] = {}

    def __len__(self) -> int:
        return len(self.columns["images"])

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        """Returns sample `index` of the batch, the same object each time.

        Raises:
            IndexError: `index` is outside ``[-B, B)``.
        """
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of a batch of {len(self)}")
        row = index % len(self)
        if row not in self._handed:
            values = {}
            for name, column in self.columns.items():
                values[_SAMPLE_KEYS.get(name, name)] = _row(column, row)
            self._handed[row] = ragged_sample(values, self._ragged), values
        return self._handed[row][0]

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))

    def __reduce__(self) -> tuple[Any, ...]:
        # In a copy, samples would no longer be views of the batch's arrays: changes would be lost.
        return list, (list(self),)

    def collate(self) -> Batch:
        """Returns the batch as tensors that share memory with its arrays."""
        batch = collate_columns(self.columns)
        if self._images is not None:
            batch["image"] = self._images
        return batch

    def is_unchanged(self) -> bool:
        """Checks whether every sample handed out still holds the objects it was built with."""
        return all(
            sample.keys() == values.keys() and all(sample[k] is v for k, v in values.items())
            for sample, values in self._handed.values()
        )


def collate_columns(columns: Mapping[str, ColumnArray]) -> Batch:
    """Returns the columns of a batch as tensors that share their memory, and texts as lists."""
    batch = Batch()
    for name, column in columns.items():
        key = _SAMPLE_KEYS.get(name, name)
        if isinstance(column, RaggedArray):
            values = torch.from_numpy(column.values)
            batch[key] = TensorList.split(values, column.lengths.tolist())
        elif column.dtype.kind == "U":
            batch[key] = column.tolist()
        else:
            batch[key] = torch.from_numpy(column)
    return batch


def collate_samples(
    batch: Sequence[Sample], *, collate_fn_map: dict[Any, Callable[..., Any]] | None = None
) -> Batch:
    """Collates samples as `torch.utils.data.default_collate` does, ragged keys to a `TensorList`.

    Args:
        batch: B samples with the same keys; a `SampleBatch` is not copied.
        collate_fn_map: ignored; torch passes it to every function in its map.

    Returns:
        ``image`` (B, H, W, C), ragged keys as a `TensorList` of B, strings as a list, numbers and
        arrays as tensors.
    """
    if isinstance(batch, SampleBatch) and batch.is_unchanged():
        return batch.collate()
    first = batch[0]
    collated = Batch()
    for key in first:
        values = [sample[key] for sample in batch]
        if key in first.ragged:
            collated[key] = TensorList(map(torch.as_tensor, values))
        else:
            collated[key] = _collate_key(key, values)
    return collated


def _collate_key(key: str, values: Sequence[Any]) -> Any:
    """Collates the values of one key.

    Raises:
        ValueError: they are arrays of different shapes.
    """
    shapes = {np.shape(v) for v in values if isinstance(v, np.ndarray | torch.Tensor)}
    if len(shapes) > 1 and not all(getattr(value, "is_ragged", False) for value in values):
        first, second = sorted(shapes, key=str)[:2]
        raise ValueError(
            f"{key!r} has other shapes in other samples of the batch, for example {first} and "
            f"{second}, so the samples make no tensor. Give all the same shape, or give the loader "
            "a collate_fn, which is called with the list of samples. Boxes, points and labels "
            "under the keys of the dataset's own samples may differ in number"
        )
    return collate_transformed(values)


def _collate_rows(
    batch: Sequence[Any], *, collate_fn_map: dict[Any, Callable[..., Any]] | None = None
) -> Any:
    """Collates ragged rows to a `TensorList`, and any others as plain arrays."""
    rows = [row.view(np.ndarray) if isinstance(row, RaggedRow) else row for row in batch]
    if all(getattr(row, "is_ragged", False) for row in batch):
        return TensorList(map(torch.as_tensor, rows))
    return collate(rows, collate_fn_map=collate_fn_map)


def collate_transformed(batch: Sequence[Any]) -> Any:
    """Collates the results of a transform, of any type, as `default_collate` does.

    In a DataLoader's worker process, stacked tensors lie in shared memory without a name.
    """
    return collate(batch, collate_fn_map=_COLLATE)


def empty_images(shape: tuple[int, ...], dtype: np.dtype[Any], buffers: BufferPool) -> torch.Tensor:
    """Returns an uninitialised tensor for the images of a batch.

    In a DataLoader's worker process the tensor lies in shared memory, which saves copying it there
    when the batch is sent; torch's own collate function does the same.

    Args:
        shape: (B, H, W, C).
        dtype: of the images.
        buffers: gives the memory in all other processes.
    """
    if get_worker_info() is None:
        return torch.from_numpy(buffers.empty(shape, dtype))
    return empty_shared(shape, torch.from_numpy(np.empty(0, dtype)).dtype)


def _stack(
    batch: Sequence[torch.Tensor], *, collate_fn_map: dict[Any, Callable[..., Any]] | None = None
) -> torch.Tensor:
    """Stacks tensors like torch's own collate function, but into memory without a name."""
    tensors = list(batch)
    alike = len({(t.dtype, t.shape) for t in tensors}) == 1 and all(map(is_plain, tensors))
    # torch's function is right everywhere, and names the problem if shapes differ.
    if get_worker_info() is None or not alike:
        stacked: torch.Tensor = collate_tensor_fn(tensors, collate_fn_map=collate_fn_map)
        return stacked
    return stack_shared(tensors)


def _row(column: ColumnArray, row: int) -> Any:
    value = column[row]
    if isinstance(column, RaggedArray):
        return ragged_row(value)
    return str(value) if isinstance(value, np.str_) else value


def _flatten_sample(sample: Sample) -> tuple[list[Any], list[list[str]]]:
    # Lists of strings, because torch writes the structure of a tree as JSON.
    return list(sample.values()), [list(sample), sorted(sample.ragged)]


def _unflatten_sample(values: Iterable[Any], names: list[list[str]]) -> Sample:
    keys, ragged = names
    return ragged_sample(dict(zip(keys, values, strict=True)), frozenset(ragged))


register_container(Sample, _flatten_sample, _unflatten_sample)
default_collate_fn_map[Sample] = collate_samples
default_collate_fn_map[RaggedRow] = _collate_rows
_COLLATE = {**default_collate_fn_map, torch.Tensor: _stack}
