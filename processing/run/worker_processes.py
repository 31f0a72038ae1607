"""WorkerProcesses: spawned processes that Ctrl-C reaches only while they do a task.

A terminal sends Ctrl-C to all processes of a command, and the one that waits for the tasks reports
it. A process that is starting, or waits for its next task, would print a traceback as well. So they
are started with the signal blocked, and unblock it for each task. No signal handler is installed.
Windows has no masks of signals: there, the tracebacks remain.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any


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
        # A new process inherits the blocked signals of the thread that starts it.
        with _interrupts(blocked=True):
            return super().submit(_do, fn, *args, **kwargs)


def _do(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Does a task in a worker process. An earlier Ctrl-C that was blocked ends it at once."""
    with _interrupts(blocked=False):
        return fn(*args, **kwargs)


@contextlib.contextmanager
def _interrupts(*, blocked: bool) -> Iterator[None]:
    """Blocks or unblocks SIGINT in this thread, and afterwards restores what was."""
    if hasattr(signal, "pthread_sigmask"):
        how = signal.SIG_BLOCK if blocked else signal.SIG_UNBLOCK
        former = signal.pthread_sigmask(how, [signal.SIGINT])
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, former)
    else:
        yield
