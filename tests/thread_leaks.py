"""Finds threads that a test started and did not end.

The check goes by the threads themselves, not by their names: a thread that is renamed or new in
the package cannot escape it. Daemon threads count as well, because all threads of the package are
daemons: they must not keep a program alive, but they must not outlive their owner either.
"""

import sys
import threading
import time
import traceback

GRACE_SECONDS = 2.0
"""Time in which a thread may still end by itself after its test, for all threads together."""

LIVES_ON = {
    # tqdm starts one monitor for the whole process with its first progress bar and never ends it.
    "TMonitor": "tqdm's monitor of progress bars",
}
"""Classes of threads that may outlive a test, by name, with their owner."""


def threads_left(before):
    """Describes each thread that is alive, was not alive `before`, and does not end by itself.

    Args:
        before: the threads that were alive when the test began.

    Returns:
        One text for each thread: its name, and the line at which it is waiting.
    """
    known = set(before)
    deadline = time.monotonic() + GRACE_SECONDS
    left = []
    for thread in threading.enumerate():
        if thread in known or type(thread).__name__ in LIVES_ON:
            continue
        # A test may return while a thread runs its last lines: not a leak, so wait for it.
        thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            left.append(_describe(thread))
    return left


def _describe(thread):
    """Name and place: "Thread-7" would not lead to the code that leaked the thread."""
    frame = sys._current_frames().get(thread.ident)
    stack = traceback.extract_stack(frame) if frame is not None else []
    # The innermost frames may be those of `threading` itself, where every idle thread waits.
    while stack and stack[-1].filename == threading.__file__:
        stack.pop()
    if not stack:
        return thread.name
    return f"{thread.name}, at {stack[-1].filename}:{stack[-1].lineno} in {stack[-1].name}"
