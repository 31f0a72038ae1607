"""BufferPool: memory for batches, reused once the batch in it has been released.

A new buffer of some megabytes costs page faults. For small images these take as long as the copy
into the buffer. Imports numpy only; safe from several threads.
"""

from __future__ import annotations

import contextlib
import math
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray


class BufferPool:
    """Hands out arrays whose memory returns to the pool by itself.

    The memory is free again when the array, all views of it and all tensors that share it are gone.
    Until then it is never overwritten. Arrays stay valid after the pool is gone. A pickled pool
    arrives empty.

    Args:
        keep: how many free buffers to keep; further ones are returned to the system. With fewer
            than are in use at a time, some uses need new memory.

    Example:
        >>> pool = BufferPool()
        >>> pool.empty((64, 128, 128, 3), np.dtype("uint8")).shape
        (64, 128, 128, 3)
    """

    def __init__(self, keep: int = 4) -> None:
        self._keep = keep
        # Last in, first out: the buffer that was used last is most likely in the CPU's cache.
        self._free: deque[memoryview] = deque(maxlen=keep)
        self._lent: dict[int, tuple[object, memoryview]] = {}
        self._take_back = _taking_back(self._lent, self._free)

    def __reduce__(self) -> tuple[Any, ...]:
        return BufferPool, (self._keep,)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Returns an uninitialised, C-contiguous array that shares memory with no other one.

        Args:
            shape: of the array.
            dtype: of the array; not an object dtype.
        """
        nbytes = math.prod(shape) * dtype.itemsize
        memory = self._free_memory(nbytes)
        # A view keeps alive the array at the end of its chain of bases. This has to be an array of
        # this call, whose end frees the memory, and not the older array that owns the memory.
        # `frombuffer` ends the chain, because its base is no array.
        if nbytes:
            outermost = np.frombuffer(memory, np.uint8, count=nbytes)
        else:
            outermost = np.empty(0, np.uint8)  # `frombuffer` refuses empty buffers
        # `weakref.finalize` would do the same, but its Python code is slow between two copies that
        # fill the CPU's cache: a batch of small images took 5 % longer.
        loan = weakref.ref(outermost, self._take_back)
        self._lent[id(loan)] = loan, memory
        array: NDArray[Any] = outermost.view(dtype).reshape(shape)
        return array

    def clear(self, keep_bytes: int = 0) -> None:
        """Returns free buffers to the system.

        Args:
            keep_bytes: how much memory to keep, at most.
        """
        free = self._free
        # Another thread may take a buffer meanwhile.
        with contextlib.suppress(IndexError):
            while sum(map(len, free.copy())) > keep_bytes:
                free.popleft()

    def _free_memory(self, nbytes: int) -> memoryview:
        """Returns a free buffer of at least `nbytes`, or a new one of `nbytes`."""
        # Pop at once instead of looking first: another thread may take the last buffer.
        try:
            memory = self._free.pop()
        except IndexError:
            return np.empty(nbytes, np.uint8).data
        # A single sample must not take the memory of a whole batch, which would need a new one.
        if nbytes <= len(memory) <= 4 * nbytes:
            return memory
        self._free.appendleft(memory)
        return np.empty(nbytes, np.uint8).data


def _taking_back(
    lent: dict[int, tuple[object, memoryview]], free: deque[memoryview]
) -> Callable[[object], None]:
    """Returns a function that is called with a weak reference when its array is gone.

    The function holds no pool, because then memory in use would keep a deleted pool alive.
    """

    def take_back(loan: object) -> None:
        free.append(lent.pop(id(loan))[1])

    return take_back
