"""Tensors in shared memory, in which worker processes hand over batches without copying.

The memory has no name. The shared memory that torch allocates itself has a name in /dev/shm for a
moment. Containers limit /dev/shm to 64 MiB, and a worker that is killed in that moment leaves its
memory there until the machine restarts.
"""

from __future__ import annotations

import math
import os

import torch


def empty_shared(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Returns an uninitialised, contiguous tensor in shared memory, on the host.

    The system frees the memory when the last process that uses it has ended, even if it was killed.

    Args:
        shape: of the tensor.
        dtype: of the tensor.
    """
    nbytes = math.prod(shape) * dtype.itemsize
    # torch has no public way to use the memory behind a descriptor. This private one is what torch
    # itself calls for tensors that it receives; it duplicates the descriptor.
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("batch")
        try:
            os.ftruncate(descriptor, nbytes)
            storage = torch.UntypedStorage._new_shared_fd_cpu(descriptor, nbytes)  # type: ignore[attr-defined]  # missing in torch's stubs
        finally:
            os.close(descriptor)
    else:  # macOS, where torch's memory has a name for a moment
        storage = torch.UntypedStorage._new_shared(nbytes)  # type: ignore[no-untyped-call]  # torch's
    return torch.empty(0, dtype=dtype).set_(storage).view(shape)


def to_shared(tensor: torch.Tensor) -> torch.Tensor:
    """Returns a copy of the tensor in shared memory, or the tensor itself if it lies there already.

    A tensor that is not plain (see `is_plain`) is returned as it is: torch has its own way to send
    it.
    """
    if not is_plain(tensor) or tensor.is_shared():  # type: ignore[no-untyped-call]  # torch's
        return tensor
    return empty_shared(tuple(tensor.shape), tensor.dtype).copy_(tensor)


def is_plain(tensor: torch.Tensor) -> bool:
    """Checks whether a tensor is dense, on the host, of no subclass, and without a gradient."""
    dense = type(tensor) is torch.Tensor and tensor.layout is torch.strided
    dense = dense and not tensor.is_nested
    return dense and tensor.device.type == "cpu" and not tensor.requires_grad


def stack_shared(tensors: list[torch.Tensor]) -> torch.Tensor:
    """Stacks one or more tensors of the same shape and dtype into shared memory."""
    first = tensors[0]
    return torch.stack(tensors, out=empty_shared((len(tensors), *first.shape), first.dtype))
