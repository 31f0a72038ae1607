"""Ends worker processes when the process that started them is gone, even if it was killed.

torch's workers watch their parent process, but only once they have begun to work. There are two
gaps. With the start method forkserver, which is the default from Python 3.14 on, the parent is the
fork server and not the process that waits for the batches. And a parent that is killed while its
workers are starting is never missed. In both cases the workers would run until the machine
restarts.
"""

from __future__ import annotations

import os
import threading
import time
from multiprocessing import current_process, parent_process
from multiprocessing.connection import wait
from multiprocessing.context import get_spawning_popen
from multiprocessing.util import register_after_fork
from typing import Final

_SECONDS_BETWEEN_LOOKS: Final = 0.05


def end_workers_with_parent(held: object) -> None:
    """Makes worker processes that are forked from now on exit when their parent dies.

    Args:
        held: an object that the workers use; the watch is set up as long as it exists.
    """
    register_after_fork(held, _watch_parent)


def starting_process() -> int | None:
    """Returns this process's id while an object is pickled for a new process, else None."""
    return None if get_spawning_popen() is None else os.getpid()


def end_with_starter(starter: int | None) -> None:
    """Makes this process exit when the process that started it dies, if this one is a worker.

    Args:
        starter: the result of `starting_process` in the other process; with None, nothing happens.
    """
    # Only Linux has `pidfd_open`. On other systems there is torch's own watch.
    if starter is not None and hasattr(os, "pidfd_open"):
        try:
            _watch(os.pidfd_open(starter))
        except ProcessLookupError:  # it is gone already
            _watch(None)


def _watch_parent(_: object) -> None:
    parent = parent_process()
    if parent is not None:
        _watch(parent.sentinel)


def _watch(sentinel: int | None) -> None:
    threading.Thread(target=_end_after, args=(sentinel,), name="parent-watch", daemon=True).start()


def _end_after(sentinel: int | None) -> None:
    """Waits until a process is gone, if there is one to wait for, and ends this one."""
    if sentinel is not None:
        wait([sentinel])
    # While this process is starting, it does not know yet whether it will be a daemon.
    while parent_process() is None:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    if current_process().daemon:  # as all workers are; other processes may outlive their parent
        # Not `sys.exit`, which ends this thread only. There is no process to report an error to.
        os._exit(1)
