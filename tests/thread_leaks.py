"""Finds threads that a test started and did not end.

The check compares the threads before and after the test, not their names: a new or renamed thread
of the package cannot escape it. Daemon threads count as well: they do not keep a program alive, but
they must not outlive their owner either.
"""

import gc
import sys
import threading
import time
import traceback

GRACE_SECONDS = 2.0
"""Time in which threads may still end by themselves after their test, all together."""

LIVES_ON = {
    "werkzeug/serving.py": "connections of the S3 server, which runs for the whole session",
    "tqdm/_monitor.py": "one for the process, from the first progress bar on",
    "multiprocessing/resource_sharer.py": "one for the process, from the first descriptor sent on",
}
"""Threads of libraries that outlive a test by design: the file whose code they run, and why."""

LIVING_POOLS = {
    "Dask-Offload": "Dask's pool for the process, from the first client on",
    "npz-request": "ours for requests to URLs, one for the process, from the first of them on",
}
"""Pools that outlive a test by design: how the names of their threads begin, and why."""

ENDS_WITH_ITS_OWNER = "multiprocessing/queues.py"
"""The feeder of a queue ends with the queue, for example with a queue of torch's DataLoader.

An exception in an epoch can keep the DataLoader's iterator alive in a reference cycle. Its threads
are not leaked if they end when the garbage collector runs.
"""


def threads_left(before):
    """Describes each thread that is alive, was not alive `before`, and does not end by itself.

    Args:
        before: the threads that were alive when the test began.

    Returns:
        One text for each thread: its name, and the line that it has reached.
    """
    known = set(before)
    deadline = time.monotonic() + GRACE_SECONDS
    left = []
    for thread in threading.enumerate():
        lives_on = thread.name.startswith(tuple(LIVING_POOLS))
        if thread in known or lives_on or any(runs(thread, file) for file in LIVES_ON):
            continue
        # A test may return while a thread runs its last lines: not a leak, so wait for it.
        thread.join(max(0.0, deadline - time.monotonic()))
        if runs(thread, ENDS_WITH_ITS_OWNER):
            gc.collect()
            thread.join(GRACE_SECONDS)
        if thread.is_alive():
            left.append(_describe(thread))
    return left


def runs(thread, file):
    """Returns whether a thread is inside the code of a file, given by the end of its path."""
    return any(entry.filename.endswith(file) for entry in _stack(thread))


def _stack(thread):
    """Returns the entries of a thread's stack, the outermost first; none if it has ended."""
    frame = sys._current_frames().get(thread.ident)
    return traceback.extract_stack(frame) if frame is not None else []


def _describe(thread):
    """Returns name and place: "Thread-7" would not lead to the code that leaked the thread."""
    stack = _stack(thread)
    # The innermost frames may be those of `threading` itself, where every idle thread waits.
    while stack and stack[-1].filename == threading.__file__:
        stack.pop()
    if not stack:
        return thread.name
    return f"{thread.name}, at {stack[-1].filename}:{stack[-1].lineno} in {stack[-1].name}"
