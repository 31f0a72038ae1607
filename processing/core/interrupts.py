"""Blocks Ctrl-C in worker processes, so that only the process that waits for them reports it.

A terminal sends Ctrl-C to all processes of a command. A worker that is starting or waiting would
print a traceback, and one that a training needs for the step it finishes would be gone. A signal
that is blocked in the thread that starts a process is blocked in the process, so no signal handler
is installed. Windows has no masks of signals: there, Ctrl-C still reaches workers.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def interrupts(*, blocked: bool) -> Iterator[None]:
    """Blocks or unblocks SIGINT in this thread, and afterwards restores the former state.

    An interrupt that was blocked comes as soon as it is unblocked.
    """
    if hasattr(signal, "pthread_sigmask"):
        how = signal.SIG_BLOCK if blocked else signal.SIG_UNBLOCK
        former = signal.pthread_sigmask(how, [signal.SIGINT])
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, former)
    else:
        yield


def block_interrupts(_: object = None) -> None:
    """Blocks SIGINT in this thread for good; a DataLoader calls it in its workers."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
