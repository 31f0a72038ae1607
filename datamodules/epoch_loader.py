"""EpochLoader: a DataLoader with worker processes, for training with a transform."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader


class EpochLoader(DataLoader[Any]):
    """A DataLoader whose epoch begins with its first batch, and not when it is iterated.

    A resumed Trainer creates the iterator before it knows the epoch. The worker processes of a
    plain DataLoader would start at once, in the order of an epoch that is already over.

    Example:
        >>> loader = EpochLoader(range(4), batch_size=2)
        >>> [batch.tolist() for batch in loader]
        [[0, 1], [2, 3]]
    """

    # torch declares the class of its own iterator, but every iterator works.
    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # for the reason above
        try:
            yield from super().__iter__()
        except (EOFError, ConnectionError, FileNotFoundError) as error:
            # torch raises these when a dead worker can no longer hand over its batch; their
            # messages do not mention the worker.
            if self.num_workers:
                error.add_note(
                    "a worker process ended: was it killed for lack of memory, does the transform "
                    "end it (sys.exit), or are there too few descriptors (ulimit -n)?"
                )
            raise
