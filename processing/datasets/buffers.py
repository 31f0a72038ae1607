"""BufferPool: memory for batches, used again once nobody holds the batch that was in it.

A fresh buffer of some megabytes costs page faults, which for small images take as long as the copy
into it. Imports numpy alone; safe from several threads.
"""

from __future__ import annotations

import math
import weakref
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray


class BufferPool:
    """Hands out arrays whose memory comes back by itself.

    An array's memory is free again when the array, every view of it and every tensor that shares
    it are gone; whoever still holds one never sees it change. Arrays outlive the pool. A pickled
    pool arrives empty.

    Args:
        keep: how many free buffers are kept; more are given back to the system.

    Example:
        >>> pool = BufferPool()
        >>> pool.empty((64, 128, 128, 3), np.dtype("uint8")).shape
        (64, 128, 128, 3)
    """

    def __init__(self, keep: int = 4) -> None:
        self._keep = keep
        # Last in, first out: the buffer that was used last is likeliest to be in the CPU's cache.
        self._free: deque[memoryview] = deque(maxlen=keep)

    def __reduce__(self) -> tuple[Any, ...]:
        return BufferPool, (self._keep,)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """An uninitialised, C-contiguous array that nobody else holds.

        Args:
            shape: of the array.
            dtype: without objects.
        """
        nbytes = math.prod(shape) * dtype.itemsize
        memory = self._free_memory(nbytes)
        # numpy lets a view keep the outermost array alive that is not a view of another array. That
        # has to be this one, not the one that owns the memory; `frombuffer` hides that from it.
        outermost = (
            np.frombuffer(memory, np.uint8, count=nbytes) if nbytes else np.empty(0, np.uint8)
        )
        weakref.finalize(outermost, self._free.append, memory).atexit = False
        array: NDArray[Any] = outermost.view(dtype).reshape(shape)
        return array

    def clear(self) -> None:
        """Gives the free buffers back to the system."""
        self._free.clear()

    def _free_memory(self, nbytes: int) -> memoryview:
        """At least `nbytes` of memory, but not the memory of a batch for a single sample."""
        try:
            memory = self._free.pop()
        except IndexError:
            return np.empty(nbytes, np.uint8).data
        if nbytes <= len(memory) <= 4 * nbytes:
            return memory
        self._free.appendleft(memory)
        return np.empty(nbytes, np.uint8).data
