"""Worker processes end with the process that they work for.

torch's workers watch the process that started them, from when they begin to work. With forkserver
that is a server, not the process that waits for their batches; and one that is killed while they
are starting is never missed. They would outlive it for ever.
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
    """Has each worker process that is forked while it holds an object end when its parent is gone.

    Args:
        held: what a worker needs for its work.
    """
    register_after_fork(held, _watch_parent)


def starting_process() -> int | None:
    """While something is pickled for a process that is being started: the id of this one."""
    return None if get_spawning_popen() is None else os.getpid()


def end_with_starter(starter: int | None) -> None:
    """Has this process, if it is a worker, end when the one that started it is gone.

    Args:
        starter: what `starting_process` gave there; None: nothing is done.
    """
    if starter is not None and hasattr(os, "pidfd_open"):  # elsewhere torch's own watch has to do
        try:
            _watch(os.pidfd_open(starter))
        except ProcessLookupError:
            _watch(None)


def _watch_parent(_: object) -> None:
    parent = parent_process()
    if parent is not None:
        _watch(parent.sentinel)


def _watch(sentinel: int | None) -> None:
    threading.Thread(target=_end_after, args=(sentinel,), name="parent-watch", daemon=True).start()


def _end_after(sentinel: int | None) -> None:
    if sentinel is not None:
        wait([sentinel])
    while parent_process() is None:  # this process is starting, and does not know what it will be
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    if current_process().daemon:  # others may outlive it
        os._exit(1)  # nobody is left to report to, and whom the worker waits for is gone
