"""map_in_order: a function applied by threads, its results in the order of its arguments.

Not an executor, so that a consumer who would have to wait can take on an item nobody has begun.
Imports the standard library alone.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


def map_in_order(
    function: Callable[[T], R],
    items: Iterable[T],
    *,
    threads: int,
    ahead: int,
    consumer_helps: bool = False,
) -> Generator[R]:
    """Applies a function in threads; yields results in order.

    Results are let go of when they are yielded. Leaving the generator early cancels what has not
    begun and waits for what has.

    Args:
        function: called in the threads; what it raises is raised at its item's turn.
        items: iterated by the consumer.
        threads: how many; 0 only where the consumer helps.
        ahead: items that may be begun before they are asked for.
        consumer_helps: whether the consumer, rather than wait, works on an item itself.
    """
    jobs: queue.SimpleQueue[_Job[T, R] | None] = queue.SimpleQueue()
    workers: list[threading.Thread] = []
    pending: deque[_Job[T, R]] = deque()
    try:
        for _ in range(threads):
            worker = threading.Thread(target=_work, args=(jobs,), daemon=True)
            worker.start()
            workers.append(worker)
        for item in items:
            pending.append(_Job(function, item))
            if workers:
                jobs.put(pending[-1])
            if len(pending) > ahead:
                yield _first(pending, consumer_helps)
        while pending:
            yield _first(pending, consumer_helps)
    finally:
        for job in pending:
            job.cancel()
        for _ in workers:
            jobs.put(None)
        for worker in workers:
            worker.join()


class _Job(Generic[T, R]):
    """An item, for whoever comes first."""

    def __init__(self, function: Callable[[T], R], item: T) -> None:
        self._function = function
        self._item = item
        self._claim = threading.Lock()
        self._running = threading.Lock()
        self._running.acquire()
        self._results: list[R] = []
        self._error: BaseException | None = None

    def attempt(self) -> bool:
        """Does the job, unless another thread has begun to; says whether it did."""
        if not self._claim.acquire(blocking=False):
            return False
        try:
            self._results.append(self._function(self._item))
        except Exception as error:  # raised by `result`, in the consumer
            self._error = error
        except BaseException as error:  # an interrupt waits for no turn
            self._error = error
            raise
        finally:
            self._running.release()
        return True

    def cancel(self) -> None:
        """Keeps those from doing the job who have not begun."""
        self._claim.acquire(blocking=False)

    def is_done(self) -> bool:
        return not self._running.locked()

    def result(self) -> R:
        """Waits for the result and hands it over; only once."""
        with self._running:
            if self._error is not None:
                raise self._error
            return self._results.pop()


def _work(jobs: queue.SimpleQueue[_Job[T, R] | None]) -> None:
    while (job := jobs.get()) is not None:
        with contextlib.suppress(BaseException):  # the job keeps it for the consumer
            job.attempt()


def _first(pending: deque[_Job[T, R]], consumer_helps: bool) -> R:
    job = pending.popleft()
    if consumer_helps and not job.is_done() and not job.attempt():
        any(other.attempt() for other in pending)  # the first that nobody has begun
    return job.result()
