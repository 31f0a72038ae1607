"""Worker processes end with the process that they work for.

torch's workers watch the process that started them; with forkserver that is a server, not the
process that waits for their batches, and they would outlive it for ever.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import threading
from multiprocessing.connection import wait


@functools.cache  # once a process; the consumer itself never calls it before it forks
def end_with_parent() -> None:
    """Has this worker process end as soon as the one that works with it is gone."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        watch = threading.Thread(
            target=_end_after, args=(parent.sentinel,), name="parent-watch", daemon=True
        )
        watch.start()


def _end_after(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)  # nobody is left to report to, and whom the worker waits for is gone
