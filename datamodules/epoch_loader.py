"""EpochLoader: a DataLoader with worker processes for Lightning, where they can be had."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Iterator
from typing import Any, Final

from torch.utils.data import DataLoader

_LOG = logging.getLogger(__name__)

_LOCKS: Final = 8
_LOCKS_A_WORKER: Final = 3
"""What a DataLoader's queues and events take."""


class EpochLoader(DataLoader[Any]):
    """A DataLoader whose epoch begins when its first batch is asked for, not when it is iterated.

    A resumed Trainer makes the iterator before it knows the epoch; worker processes would begin at
    once, in the order of an epoch that is over.
    """

    # torch names the class of its iterator where every iterator serves.
    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # as above
        try:
            yield from super().__iter__()
        except (EOFError, ConnectionError, FileNotFoundError) as error:
            if self.num_workers:  # what a batch that cannot be handed over any more ends with
                error.add_note(
                    "a worker process ended: was it killed for lack of memory, does the transform "
                    "end it (sys.exit), or are there too few descriptors (ulimit -n)?"
                )
            raise


def startable_workers(num_workers: int) -> int:
    """`num_workers`, or 0, with a warning, where no worker process can be started.

    Queues between processes need semaphores, which lie in /dev/shm; batches do not.
    """
    locks = _LOCKS_A_WORKER * num_workers + _LOCKS if num_workers else 0
    try:
        _ = [multiprocessing.Lock() for _ in range(locks)]  # all at once, as they will be held
    except OSError as error:
        _LOG.warning(
            "no worker process can be started, so train_transform runs in this one, which is "
            "slower: there is no room for semaphores (/dev/shm: %s). Mount it, writable and of a "
            "megabyte at least; in a container with --shm-size=1m",
            error,
        )
        return 0
    return num_workers
