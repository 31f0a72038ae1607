"""Batch: a dict whose lists are made when they are first looked at; and TensorList, such a list.

Of ragged fields and texts a batch holds what was gathered: one flat array each. That is what
travels between processes, to pinned memory and to a device; a list of tensors, one a sample, takes
longer to make than all the boxes take to gather. Not to be shared between threads.
"""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, Mapping, Sequence, ValuesView
from multiprocessing.reduction import ForkingPickler
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from processing.datasets.shared_tensors import to_shared

Move: TypeAlias = Callable[[torch.Tensor], torch.Tensor]


class TensorList(list[torch.Tensor]):
    """A list of tensors that differ in their first extent; travels as one tensor.

    Between processes, to pinned memory and to a device one flat tensor moves instead of one a
    sample; afterwards the items are views of it. It is an ordinary list otherwise, and may be
    changed like one.

    Example:
        >>> boxes = TensorList([torch.zeros(2, 4), torch.zeros(0, 4)])
        >>> [tuple(b.shape) for b in boxes.to("cpu")]
        [(2, 4), (0, 4)]
    """

    @classmethod
    def split(cls, flat: torch.Tensor, lengths: Sequence[int]) -> TensorList:
        """Views of `flat` (V, ...), `lengths` rows each, which add up to V."""
        return cls(flat.split_with_sizes(lengths))

    def pin_memory(self, device: object = None) -> TensorList:
        """A copy in pinned memory; DataLoader calls this."""
        return self.moved(torch.Tensor.pin_memory)

    def to(self, *args: Any, **kwargs: Any) -> TensorList:
        """A copy on another device or of another dtype; arguments as for `torch.Tensor.to`."""
        return self.moved(lambda tensor: tensor.to(*args, **kwargs))

    def __reduce__(self) -> tuple[Any, ...]:
        if self._is_uniform():
            return TensorList.split, (torch.cat(self), [len(tensor) for tensor in self])
        return TensorList, (list(self),)

    def moved(self, move: Move) -> TensorList:
        """A copy whose memory `move` gives; it is called once where the items allow it."""
        if self._is_uniform():
            return TensorList.split(move(torch.cat(self)), [len(tensor) for tensor in self])
        return TensorList(move(tensor) for tensor in self)

    def _is_uniform(self) -> bool:
        """Whether the items can be rows of one tensor; the user may have put in others."""
        return (
            len(self) > 0
            and all(isinstance(t, torch.Tensor) and t.ndim > 0 for t in self)
            and len({(t.dtype, t.device, t.shape[1:]) for t in self}) == 1
        )


class PackedTensors(NamedTuple):
    """A `TensorList` not yet made: `flat` (V, ...), and int64 (N,) `lengths` that add up to V."""

    flat: torch.Tensor
    lengths: NDArray[np.int64]

    def unpack(self) -> TensorList:
        """The list; its items are views of `flat`."""
        return TensorList.split(self.flat, self.lengths.tolist())

    def moved(self, move: Move) -> PackedTensors:
        """A copy whose memory `move` gives."""
        return PackedTensors(move(self.flat), self.lengths)


class PackedTexts(NamedTuple):
    """A list of strings not yet made: unicode (N,)."""

    texts: NDArray[np.str_]

    def unpack(self) -> list[str]:
        """The list."""
        texts: list[str] = self.texts.tolist()
        return texts


_PACKED = (PackedTensors, PackedTexts)


class Batch(dict[str, Any]):
    """A batch by name of field, as a DataLoader gives it; packed fields are lists to all who look.

    A dict in every respect. Each list is made once, when it, or all of the batch, is asked for;
    what is put into it stays in it. On a device, `to` is faster than moving field by field.

    Args:
        fields: tensors, lists, or anything else; `PackedTensors` and `PackedTexts`.

    Example:
        >>> flat, lengths = torch.zeros(5, 4), np.array([2, 0, 3])
        >>> batch = Batch({"bboxes": PackedTensors(flat, lengths)})
        >>> [tuple(boxes.shape) for boxes in batch["bboxes"]]
        [(2, 4), (0, 4), (3, 4)]
    """

    __slots__ = ()

    def __init__(self, fields: dict[str, Any]) -> None:
        super().__init__(dict.items(fields))  # of a batch what is packed stays so

    def to(self, *args: Any, **kwargs: Any) -> Batch:
        """The batch on another device: all tensors in it move, whatever else there is is shared.

        Args:
            args: as for `torch.Tensor.to`.
            kwargs: likewise.
        """
        return self._moved(lambda tensor: tensor.to(*args, **kwargs))

    def pin_memory(self) -> Batch:
        """The batch in pinned memory; DataLoader calls this."""
        return self._moved(torch.Tensor.pin_memory)

    def _moved(self, move: Move) -> Batch:
        return Batch({name: _moved(field, move) for name, field in dict.items(self)})

    def __getitem__(self, name: str) -> Any:
        field = super().__getitem__(name)
        if isinstance(field, _PACKED):
            field = field.unpack()
            self[name] = field
        return field

    def _unpacked(self) -> Batch:
        for name in self.keys():
            self[name]
        return self

    # What dict does behind the back of `__getitem__`. Merging, as in `{**batch}` and `dict(batch)`,
    # asks `__getitem__` only of a class that has an `__iter__` of its own.
    def __iter__(self) -> Iterator[str]:
        return super().__iter__()

    def get(self, name: str, default: Any = None) -> Any:
        """The field, or `default` if there is none."""
        return self[name] if name in self else default  # noqa: SIM401 - this is that `get`

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override]  # dict's own view is final
        """Names and fields."""
        return dict.items(self._unpacked())

    def values(self) -> ValuesView[Any]:  # type: ignore[override]  # as above
        """Fields."""
        return dict.values(self._unpacked())

    def pop(self, name: str, *default: Any) -> Any:
        """Takes a field out."""
        self.get(name)
        return super().pop(name, *default)

    def popitem(self) -> tuple[str, Any]:
        """Takes the last field out."""
        return dict.popitem(self._unpacked())

    def setdefault(self, name: str, default: Any = None) -> Any:
        """The field; `default` takes its place if there is none."""
        self.get(name)
        return super().setdefault(name, default)

    def copy(self) -> Batch:
        """A batch of the same fields."""
        return Batch(self)

    def __or__(self, other: Mapping[str, Any]) -> Batch:  # type: ignore[override]  # gives its own class
        return Batch({**self, **other})

    def __ror__(self, other: Mapping[str, Any]) -> dict[str, Any]:  # type: ignore[override]  # as above
        return {**other, **self}

    def __eq__(self, other: object) -> bool:
        return dict.__eq__(self._unpacked(), other)

    def __ne__(self, other: object) -> bool:
        return dict.__ne__(self._unpacked(), other)

    __hash__ = None  # as dict

    def __repr__(self) -> str:
        return dict.__repr__(self._unpacked())

    def __reduce__(self) -> tuple[Any, ...]:
        return Batch, (dict(dict.items(self)),)


def _moved(field: Any, move: Move) -> Any:
    """The field with every tensor in it moved; users put nested ones into batches."""
    if isinstance(field, torch.Tensor):
        return move(field)
    if isinstance(field, (TensorList, PackedTensors)):
        return field.moved(move)
    if isinstance(field, dict):
        return {name: _moved(part, move) for name, part in field.items()}
    if type(field) in (list, tuple):
        return type(field)(_moved(part, move) for part in field)
    return field


def _reduce_for_processes(batch: Batch) -> tuple[Any, ...]:
    """How a batch goes to another process: all its tensors lie in shared memory."""
    return batch._moved(to_shared).__reduce__()


ForkingPickler.register(Batch, _reduce_for_processes)
