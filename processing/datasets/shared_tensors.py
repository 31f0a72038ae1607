"""Tensors in memory that processes share: how worker processes hand over batches without copying.

The memory has no name. What torch takes itself has one in /dev/shm for a moment: containers give
that 64 MiB, and a worker that is killed in that moment leaves it behind for ever.
"""

from __future__ import annotations

import math
import os

import torch


def empty_shared(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """An uninitialised, contiguous tensor in shared memory, (`shape`), on the host.

    Its memory goes when no process holds it any more, however these end.
    """
    nbytes = math.prod(shape) * dtype.itemsize
    # There is no public way to make a tensor of a descriptor's memory; torch does this to those
    # that it receives. It keeps a descriptor of its own.
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("batch")
        try:
            os.ftruncate(descriptor, nbytes)
            storage = torch.UntypedStorage._new_shared_fd_cpu(descriptor, nbytes)  # type: ignore[attr-defined]  # missing in torch's stubs
        finally:
            os.close(descriptor)
    else:
        storage = torch.UntypedStorage._new_shared(nbytes)  # type: ignore[no-untyped-call]  # torch's
    return torch.empty(0, dtype=dtype).set_(storage).view(shape)


def to_shared(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in shared memory: itself, if it is there, or a copy.

    Of any kind but plain values on the host, which torch sends in its own way, itself.
    """
    if not is_plain(tensor) or tensor.is_shared():  # type: ignore[no-untyped-call]  # torch's
        return tensor
    return empty_shared(tuple(tensor.shape), tensor.dtype).copy_(tensor)


def is_plain(tensor: torch.Tensor) -> bool:
    """Whether a tensor is dense values on the host and nothing more."""
    dense = type(tensor) is torch.Tensor and tensor.layout is torch.strided
    return dense and tensor.device.type == "cpu" and not tensor.requires_grad


def stack_shared(tensors: list[torch.Tensor]) -> torch.Tensor:
    """`torch.stack` of at least one tensor of one shape and dtype, into shared memory."""
    first = tensors[0]
    return torch.stack(tensors, out=empty_shared((len(tensors), *first.shape), first.dtype))
