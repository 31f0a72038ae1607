"""map_in_order: applies a function in threads and yields the results in the order of the arguments.

An executor of the standard library has no way to let a waiting consumer take over an item that no
thread has begun. This module does, with the standard library's futures. Imports the standard
library only.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from typing import Final, TypeAlias, TypeVar

T = TypeVar("T")
R = TypeVar("R")

THREAD_NAME: Final = "npz-worker"
"""How the names of all threads that this module starts begin."""


# The result comes in a list, from which the consumer takes it. Otherwise a thread that has not yet
# begun its next job would keep the result alive, and with it the memory of a batch.
_Outcome: TypeAlias = Future[list[R]]
# Whoever takes a job from the queue does it. Jobs leave the queue in the order of the items.
_Jobs: TypeAlias = queue.SimpleQueue[tuple[T, _Outcome[R]] | None]


def map_in_order(
    function: Callable[[T], R],
    items: Iterable[T],
    *,
    threads: int,
    ahead: int,
    consumer_helps: bool = False,
) -> Generator[R]:
    """Applies a function in threads and yields the results in order.

    The generator keeps no reference to a result that it has yielded. If it is closed early, it
    cancels the items that no thread has begun and waits for the others.

    Args:
        function: called in the threads; an exception that it raises is raised again when the item's
            turn comes.
        items: iterated in the consumer's thread.
        threads: how many to start; 0 only if `consumer_helps`.
        ahead: how many items may be begun before their results are asked for.
        consumer_helps: whether a consumer that would have to wait works on an item itself.
    """
    if threads == 0:
        for item in items:
            yield function(item)
        return
    jobs: _Jobs[T, R] = queue.SimpleQueue()
    workers: list[threading.Thread] = []
    pending: deque[_Outcome[R]] = deque()
    try:
        for number in range(threads):
            worker = threading.Thread(
                target=_work, args=(function, jobs), name=f"{THREAD_NAME}-{number}", daemon=True
            )
            worker.start()
            workers.append(worker)  # after `start`, which fails where the system allows no more
        for item in items:
            pending.append(Future())
            jobs.put((item, pending[-1]))
            if len(pending) > ahead:
                yield _first_result(function, jobs, pending, consumer_helps)
        while pending:
            yield _first_result(function, jobs, pending, consumer_helps)
    finally:
        # First cancel, because the threads take jobs until they find the None behind them.
        for outcome in pending:
            outcome.cancel()
        for _ in workers:
            jobs.put(None)
        for worker in workers:
            worker.join()


def _work(function: Callable[[T], R], jobs: _Jobs[T, R]) -> None:
    """Does jobs until there is a None in the queue; runs in a thread."""
    while (job := jobs.get()) is not None:
        with contextlib.suppress(BaseException):  # the consumer finds it in the outcome
            _do(function, *job)


def _do(function: Callable[[T], R], item: T, outcome: _Outcome[R]) -> None:
    if not outcome.set_running_or_notify_cancel():
        return
    try:
        result = [function(item)]
    except Exception as error:  # raised in the consumer, when it asks for the result
        outcome.set_exception(error)
    except BaseException as error:  # an interrupt of a consumer that helps must not wait that long
        outcome.set_exception(error)
        raise
    else:
        outcome.set_result(result)


def _first_result(
    function: Callable[[T], R], jobs: _Jobs[T, R], pending: deque[_Outcome[R]], consumer_helps: bool
) -> R:
    """Waits for the first outcome and removes it; meanwhile does one job if allowed to."""
    if consumer_helps and not pending[0].done():
        try:
            job = jobs.get_nowait()
        except queue.Empty:
            job = None  # threads have begun all jobs, so the consumer can only wait
        if job is not None:
            _do(function, *job)
    # Wait before the outcome is removed: an interrupt cancels all outcomes that are still pending.
    result = pending[0].result().pop()
    pending.popleft()
    return result
