"""WorkerProcesses: spawned processes that Ctrl-C reaches only while they do a task."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any

from processing.core.interrupts import interrupts


class WorkerProcesses(ProcessPoolExecutor):
    """A pool of processes of this machine.

    Args:
        workers: number of processes.
    """

    def __init__(self, workers: int) -> None:
        # Spawned: a forked process would inherit locks of threads that it does not have.
        super().__init__(workers, mp_context=multiprocessing.get_context("spawn"))

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Returns the future of a task; starts a process if none is free."""
        with interrupts(blocked=True):
            return super().submit(_do, fn, *args, **kwargs)


def _do(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Does a task in a worker process; Ctrl-C ends it."""
    with interrupts(blocked=False):
        return fn(*args, **kwargs)
