"""Batch, a dict of one batch's fields, and TensorList, a list of tensors of different lengths.

Both are ordinary containers: torch, Lightning and pytree see the tensors in them. Only the way to
another process, to pinned memory or to a device is special: there the boxes of a batch move as one
tensor. 64 small tensors through shared memory cut the rate five-fold.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterable, Sequence
from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING, Any, Literal, overload

import torch
from torch.utils._pytree import MappingKey, SequenceKey, register_pytree_node, tree_map

from processing.datasets.shared_tensors import to_shared


class TensorList(list[torch.Tensor]):
    """A list of tensors that differ in their first dimension, such as the boxes of each image.

    It behaves like any list and may be changed like one. `to` and `pin_memory` move its tensors
    together, as one flat tensor; the items of the new list are views of that tensor.

    Example:
        >>> boxes = TensorList([torch.zeros(2, 4), torch.zeros(0, 4)])
        >>> [tuple(b.shape) for b in boxes.to(torch.float64)]
        [(2, 4), (0, 4)]
        >>> torch.cat(boxes).shape
        torch.Size([2, 4])
    """

    # The flat tensor, its lengths, and the views of it that the list was filled with. Only a list
    # made by `split` has them.
    _origin: tuple[torch.Tensor, Sequence[int], tuple[torch.Tensor, ...]] | None = None

    @classmethod
    def split(cls, flat: torch.Tensor, lengths: Sequence[int]) -> TensorList:
        """Builds a list of views of a tensor.

        Args:
            flat: (V, ...), the rows of all items, one after the other.
            lengths: the number of rows of each item; together V.
        """
        # The "unsafe" split takes three quarters of the time. It leaves out the check that autograd
        # needs when one view is changed in place while another one is still to be differentiated.
        # Tensors without a gradient have no such history.
        if flat.requires_grad:
            parts = torch.split_with_sizes(flat, lengths)
        else:
            parts = torch.unsafe_split_with_sizes(flat, lengths)
        tensors = cls(parts)
        tensors._origin = flat, list(lengths), tuple(parts)
        return tensors

    def to(self, *args: Any, **kwargs: Any) -> TensorList:
        """Returns the list on another device or of another dtype, itself if it is that already.

        Args:
            args: as for `torch.Tensor.to`.
            kwargs: as for `torch.Tensor.to`.
        """
        return self._map(lambda tensor: tensor.to(*args, **kwargs))

    def pin_memory(self, device: object = None) -> TensorList:
        """Copies the list to pinned memory; DataLoader calls this method."""
        return self._map(torch.Tensor.pin_memory)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the items as one tensor: each view would bring all of its memory with it."""
        joined = self._joined()
        return (TensorList, (list(self),)) if joined is None else (TensorList.split, joined)

    # Copies are those of a plain list: a shallow one shares the items, a deep one keeps aliases.
    def __copy__(self) -> TensorList:
        return TensorList(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> TensorList:
        return TensorList(copy.deepcopy(list(self), memo))

    def _map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> TensorList:
        """Calls a function with the flat tensor if there can be one, else with each item."""
        joined = self._joined()
        if joined is None:
            return TensorList(function(tensor) for tensor in self)
        flat, lengths = joined
        moved = function(flat)
        return self if moved is flat else TensorList.split(moved, lengths)

    def _joined(self) -> tuple[torch.Tensor, Sequence[int]] | None:
        """Returns the items as one tensor and their lengths; None if they do not fit together."""
        if self._origin is not None:
            flat, lengths, parts = self._origin
            # As long as no item was replaced, a change of its values is a change of `flat` too.
            is_same = len(self) == len(parts) and all(map(operator.is_, self, parts))
            if is_same and _are_parts(parts, flat, lengths):
                return flat, lengths
        if not self._is_uniform():
            return None
        return torch.cat(self), [tensor.shape[0] for tensor in self]

    def _is_uniform(self) -> bool:
        """Checks whether the items can be joined and split again; users may have put in others."""
        kinds = set()
        for tensor in self:
            # Joining would lose the class of a subclass, and sparse tensors cannot be split.
            if type(tensor) is not torch.Tensor or tensor.layout is not torch.strided:
                return False
            if tensor.ndim == 0 or tensor.is_nested:
                return False
            kinds.add((tensor.dtype, tensor.device, tensor.shape[1:], tensor.requires_grad))
        return len(kinds) == 1


class Batch(dict[str, Any]):
    """A batch as a loader yields it: fields by name.

    An ordinary dict with two methods more. ``image`` is a tensor (B, H, W, C), ``image_path`` a
    list of B strings; boxes, points and labels that differ in number from image to image are a
    `TensorList` of B tensors, all others a tensor (B, ...).

    Example:
        >>> batch = Batch(image=torch.zeros(2, 8, 8, 3), bboxes=TensorList([torch.zeros(3, 4)] * 2))
        >>> batch.to(torch.float16)["bboxes"][1].dtype
        torch.float16
    """

    if TYPE_CHECKING:  # for editors and type checkers; at run time this is the method of dict

        @overload
        def __getitem__(self, key: Literal["image", "keypoints", "index"], /) -> torch.Tensor: ...
        @overload
        def __getitem__(self, key: Literal["bboxes", "labels"], /) -> TensorList | Any: ...
        @overload
        def __getitem__(self, key: Literal["image_path"], /) -> list[str]: ...
        @overload
        def __getitem__(self, key: str, /) -> Any: ...
        def __getitem__(self, key: str, /) -> Any: ...

    def to(self, *args: Any, **kwargs: Any) -> Batch:
        """Returns a new batch on another device or of another dtype.

        Tensors in nested containers move too, and so does every other object that has a method
        `to`. All other values, and tensors that are there already, are shared with the new batch.

        Args:
            args: as for `torch.Tensor.to`.
            kwargs: as for `torch.Tensor.to`.
        """
        return _map_batch(self, "to", lambda movable: movable.to(*args, **kwargs))

    def pin_memory(self) -> Batch:
        """Copies the batch to pinned memory; DataLoader calls this method."""
        return _map_batch(self, "pin_memory", lambda movable: movable.pin_memory())


def _map_batch(batch: Batch, method: str, function: Callable[[Any], Any]) -> Batch:
    """Replaces every object in a batch that has a method, however deep it lies in containers."""

    def has_method(value: object) -> bool:
        return hasattr(value, method)

    def mapped(value: Any) -> Any:
        return function(value) if has_method(value) else value

    fields = {}
    for name, field in batch.items():
        # Without a look at each of its paths: pytree takes half a microsecond for one.
        if type(field) is list and field and isinstance(field[0], str):
            fields[name] = field
        else:
            fields[name] = tree_map(mapped, field, is_leaf=has_method)
    return Batch(fields)


def _are_parts(parts: Sequence[torch.Tensor], flat: torch.Tensor, lengths: Sequence[int]) -> bool:
    """Checks that no view was given another shape, other memory or a gradient in place."""
    start, stride, shape = flat.data_ptr(), flat.stride(), flat.shape[1:]
    step = flat.stride(0) * flat.element_size()
    for part, length in zip(parts, lengths, strict=True):
        if part.requires_grad is not flat.requires_grad or part.stride() != stride:
            return False
        if part.shape != (length, *shape) or (length and part.data_ptr() != start):
            return False
        start += length * step
    return True


def _reduce_batch(batch: Batch) -> tuple[Any, ...]:
    """Pickles a batch for another process: its tensors lie in shared memory without a name.

    Tensors in containers that a user has put into the batch travel in torch's own way.
    """
    fields = {}
    for name, field in batch.items():
        is_tensor = type(field) is torch.Tensor
        fields[name] = to_shared(field) if is_tensor else field
    return Batch, (fields,)


def _reduce_tensor_list(tensors: TensorList) -> tuple[Any, ...]:
    """Pickles a list for another process as one tensor in shared memory."""
    joined = tensors._joined()
    # torch refuses to send a tensor that was computed from tensors with a gradient.
    if joined is None or joined[0].requires_grad:
        return TensorList, (list(tensors),)
    flat, lengths = joined
    return TensorList.split, (to_shared(flat), lengths)


# Only the pickler of multiprocessing uses these. `pickle` and `copy` treat both classes as they
# treat any dict and list.
ForkingPickler.register(Batch, _reduce_batch)
ForkingPickler.register(TensorList, _reduce_tensor_list)


def register_container(
    kind: type[Any],
    flatten: Callable[[Any], tuple[list[Any], Any]],
    unflatten: Callable[[Iterable[Any], Any], Any],
) -> None:
    """Lets pytree look into a subclass of dict or list.

    pytree looks for the exact type: until a subclass is registered, it is one opaque leaf.

    Args:
        kind: the class.
        flatten: returns the values of an object, and the rest of it, which JSON can hold.
        unflatten: rebuilds the object from both.
    """

    def flatten_with_keys(container: Any) -> tuple[list[tuple[Any, Any]], Any]:
        values, rest = flatten(container)
        if isinstance(container, dict):
            keys: list[Any] = [MappingKey(name) for name in container]
        else:
            keys = [SequenceKey(position) for position in range(len(values))]
        return list(zip(keys, values, strict=True)), rest

    # torch has no public way to register a class yet.
    register_pytree_node(
        kind,
        flatten,
        unflatten,
        serialized_type_name=f"{kind.__module__}.{kind.__name__}",
        flatten_with_keys_fn=flatten_with_keys,
    )


register_container(
    Batch,
    lambda batch: (list(batch.values()), list(batch)),
    lambda values, names: Batch(zip(names, values, strict=True)),
)
register_container(
    TensorList, lambda tensors: (list(tensors), None), lambda tensors, _: TensorList(tensors)
)
