"""map_in_order: applies a function in threads and yields the results in the order of the arguments.

An executor of the standard library has no way to let a waiting consumer take over an item that no
thread has begun. Its futures take a tenth of the time of a batch of small images, when threads
compete for the interpreter. Here a queue, written in C, holds the outcome of each item.
Imports the standard library only.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import Final, TypeAlias, TypeVar, cast

T = TypeVar("T")
R = TypeVar("R")

THREAD_NAME: Final = "npz-worker"
"""How the names of all threads that this module starts begin."""


# For one outcome: the result and None, or the error in second place. Whoever takes it leaves no
# reference to the result behind, and with it none to the memory of a batch.
_Outcome: TypeAlias = queue.SimpleQueue[tuple[R | None, BaseException | None]]
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
    closed = threading.Event()
    workers: list[threading.Thread] = []
    pending: deque[_Outcome[R]] = deque()
    try:
        for number in range(threads):
            worker = threading.Thread(
                target=_work,
                args=(function, jobs, closed),
                name=f"{THREAD_NAME}-{number}",
                daemon=True,
            )
            worker.start()
            workers.append(worker)  # after `start`: it fails if the system allows no more threads
        for item in items:
            pending.append(queue.SimpleQueue())
            jobs.put((item, pending[-1]))
            if len(pending) > ahead:
                yield _first_result(function, jobs, pending, consumer_helps)
        while pending:
            yield _first_result(function, jobs, pending, consumer_helps)
    finally:
        # First, because the threads take jobs until they find the None behind them.
        closed.set()
        for _ in workers:
            jobs.put(None)
        for worker in workers:
            worker.join()


def _work(function: Callable[[T], R], jobs: _Jobs[T, R], closed: threading.Event) -> None:
    """Does jobs until there is a None in the queue, or leaves them; runs in a thread."""
    while (job := jobs.get()) is not None:
        if not closed.is_set():
            _do(function, *job)


def _do(function: Callable[[T], R], item: T, outcome: _Outcome[R]) -> BaseException | None:
    """Does one job; returns its error, also put into the outcome."""
    try:
        result = function(item)
    except BaseException as error:  # raised in the consumer, when it asks for the result
        outcome.put((None, error))
        return error
    outcome.put((result, None))
    return None


def _first_result(
    function: Callable[[T], R], jobs: _Jobs[T, R], pending: deque[_Outcome[R]], consumer_helps: bool
) -> R:
    """Waits for the first outcome and removes it; meanwhile does one job if allowed to."""
    if consumer_helps and pending[0].empty():
        try:
            job = jobs.get_nowait()
        except queue.Empty:
            job = None  # threads have begun all jobs, so the consumer can only wait
        if job is not None:
            stop = _do(function, *job)
            if stop is not None and not isinstance(stop, Exception):
                raise stop  # an interrupt must not wait until its item's turn comes
    result, error = pending[0].get()
    pending.popleft()
    if error is not None:
        try:
            raise error
        finally:
            del error  # its traceback has this frame: a cycle that would keep all frames around
    return cast("R", result)
