"""How a batch travels: what a plain DataLoader collates, ragged boxes included, without copying.

`Sample` is registered in torch's `default_collate_fn_map` when this module is imported, which is
why no `collate_fn` is needed. A batch fetched in one gather stays gathered: collating it wraps its
arrays. Keeps no state, so any thread may call it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np
import torch
from torch.utils._pytree import MappingKey, register_pytree_node
from torch.utils.data import get_worker_info
from torch.utils.data._utils.collate import collate, collate_tensor_fn, default_collate_fn_map

from processing.core.columns import ColumnArray, RaggedArray
from processing.datasets.batch import Batch, TensorList
from processing.datasets.buffers import BufferPool
from processing.datasets.shared_tensors import empty_shared, is_plain, stack_shared

_SAMPLE_KEYS = {"images": "image", "image_paths": "image_path"}


class Sample(dict[str, Any]):
    """One image with its annotations: an ordinary dict.

    Keys: ``image``, ``bboxes`` or ``keypoints``, ``image_path``, and what the file has besides.

    Attributes:
        ragged: keys whose first dimension differs from sample to sample; they are collated to a
            `TensorList`. Copies and pickles of the sample keep it.

    Example:
        >>> sample = Sample(image=np.zeros((8, 8, 3), np.uint8), image_path="a.jpg")
        >>> sorted(sample)
        ['image', 'image_path']
    """

    # A class attribute, so that the constructor stays that of dict: torch and Lightning rebuild
    # containers with `type(sample)(pairs)`.
    ragged: frozenset[str] = frozenset()


def ragged_sample(values: Mapping[str, Any], ragged: frozenset[str]) -> Sample:
    """Builds a sample of the given values, some of them with ragged keys."""
    sample = Sample(values)
    sample.ragged = ragged
    return sample


class SampleBatch(Sequence[Sample]):
    """A gathered batch that is a sequence of samples to whoever looks at it.

    Samples are made when they are asked for, and hold views of the batch's arrays; each is made
    once, so what a `collate_fn` puts into one is kept. Collating a batch whose samples were not
    given other values only wraps its arrays.

    Args:
        columns: what `Contents.gather` gives, kept; plus ``index``, int64 (B,), if wanted.
        images: the tensor whose memory ``columns["images"]`` is, if there is one.
    """

    def __init__(
        self, columns: Mapping[str, ColumnArray], images: torch.Tensor | None = None
    ) -> None:
        self.columns = columns
        self._images = images
        self._ragged = frozenset(k for k, v in columns.items() if isinstance(v, RaggedArray))
        self._handed: dict[int, tuple[Sample, dict[str, Any]]] = {}

    def __len__(self) -> int:
        return len(self.columns["images"])

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        """Sample i of the batch, the same object each time.

        Raises:
            IndexError: an index outside ``[-B, B)``.
        """
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of a batch of {len(self)}")
        row = index % len(self)
        if row not in self._handed:
            values = {
                _SAMPLE_KEYS.get(name, name): _row(column, row)
                for name, column in self.columns.items()
            }
            self._handed[row] = ragged_sample(values, self._ragged), values
        return self._handed[row][0]

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy's samples would no longer be views of its arrays.
        return list, (list(self),)

    def collate(self) -> Batch:
        """The batch as tensors, without copying; see `collate_samples`."""
        fields: dict[str, Any] = {}
        for name, column in self.columns.items():
            key = _SAMPLE_KEYS.get(name, name)
            if name == "images" and self._images is not None:
                fields[key] = self._images
            elif isinstance(column, RaggedArray):
                flat = torch.from_numpy(column.values)
                fields[key] = TensorList.split(flat, column.lengths.tolist())
            elif column.dtype.kind == "U":
                fields[key] = column.tolist()
            else:
                fields[key] = torch.from_numpy(column)
        return Batch(fields)

    def is_unchanged(self) -> bool:
        """Whether every sample handed out still holds the objects it was made with."""
        return all(
            sample.keys() == values.keys() and all(sample[k] is v for k, v in values.items())
            for sample, values in self._handed.values()
        )


def collate_samples(
    batch: Sequence[Sample],
    *,
    collate_fn_map: dict[Any, Callable[..., Any]] | None = None,
) -> Batch:
    """Collates samples as `torch.utils.data.default_collate` does, ragged keys to a `TensorList`.

    Args:
        batch: B samples with the same keys; a `SampleBatch` is not copied.
        collate_fn_map: torch passes it; not needed, since every value is collated as
            `collate_transformed` does it.

    Returns:
        ``image`` (B, H, W, C), ragged keys as a `TensorList` of B, strings as a list, numbers and
        arrays as tensors.
    """
    if isinstance(batch, SampleBatch) and batch.is_unchanged():
        return batch.collate()
    first = batch[0]
    return Batch(
        {
            key: TensorList(torch.as_tensor(sample[key]) for sample in batch)
            if key in first.ragged
            else collate_transformed([sample[key] for sample in batch])
            for key in first
        }
    )


def collate_transformed(batch: Sequence[Any]) -> Any:
    """Collates what a transform made of samples, whatever it is, as `default_collate` does.

    In a DataLoader's worker what is stacked lies in shared memory without a name.
    """
    return collate(batch, collate_fn_map=_COLLATE)


def empty_images(shape: tuple[int, ...], dtype: np.dtype[Any], buffers: BufferPool) -> torch.Tensor:
    """An uninitialised tensor for images; in a DataLoader worker it lies in shared memory.

    That saves the copy into shared memory when the batch is sent, as torch's own collate function
    does. Elsewhere it is memory of `buffers`.
    """
    if get_worker_info() is None:
        return torch.from_numpy(buffers.empty(shape, dtype))
    return empty_shared(shape, torch.from_numpy(np.empty(0, dtype)).dtype)


def _stack(
    batch: Sequence[torch.Tensor],
    *,
    collate_fn_map: dict[Any, Callable[..., Any]] | None = None,
) -> torch.Tensor:
    """Stacks as torch's own function for tensors does."""
    tensors = list(batch)
    alike = len({(t.dtype, t.shape) for t in tensors}) == 1 and all(map(is_plain, tensors))
    if get_worker_info() is None or not alike:
        stacked: torch.Tensor = collate_tensor_fn(tensors, collate_fn_map=collate_fn_map)
        return stacked
    return stack_shared(tensors)


def _row(column: ColumnArray, row: int) -> Any:
    value = column[row]
    return str(value) if isinstance(value, np.str_) else value


def _flatten_sample(sample: Sample) -> tuple[list[Any], list[list[str]]]:
    # Lists of strings, because torch writes the structure of a tree as JSON.
    return list(sample.values()), [list(sample), sorted(sample.ragged)]


def _unflatten_sample(values: Iterable[Any], names: list[list[str]]) -> Sample:
    keys, ragged = names
    return ragged_sample(dict(zip(keys, values, strict=True)), frozenset(ragged))


register_pytree_node(
    Sample,
    _flatten_sample,
    _unflatten_sample,
    serialized_type_name="processing.datasets.collate.Sample",
    flatten_with_keys_fn=lambda sample: (
        [(MappingKey(key), value) for key, value in sample.items()],
        _flatten_sample(sample)[1],
    ),
)
default_collate_fn_map[Sample] = collate_samples
_COLLATE = {**default_collate_fn_map, torch.Tensor: _stack}
