"""BackgroundWriter: one thread that writes batches while the next are made.

A bounded channel of one batch: `put` waits until the batch before has been written, so that at most
two exist. There are two ways out, never mixed: `close` writes what was put and then publishes;
`abort` stops and publishes nothing (what is durable stays, to continue from). As a context manager,
leaving with an exception aborts. A failure of the thread is raised, as the original object with a
note of the stage, by the next `put` or by `close`.
"""

from __future__ import annotations

import queue
import threading
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

from processing.core.error_notes import note_stage

BatchT = TypeVar("BatchT", contravariant=True)
T = TypeVar("T")


class Sink(Protocol[BatchT]):
    """What the thread drives; all calls come from that thread."""

    def write(self, batch: BatchT) -> None:
        """Writes one batch."""

    def publish(self) -> None:
        """Makes everything written visible under its final name."""

    def close(self) -> None:
        """Releases files; called once, last, whether published or not."""


class _End:
    """Sent through the channel behind the last batch."""


class _Channel(Generic[T]):
    """State shared by the caller and the thread; neither holds the other."""

    def __init__(self) -> None:
        self.batches: queue.SimpleQueue[T | _End] = queue.SimpleQueue()
        self.writable = threading.Semaphore(1)  # held while a batch is queued or being written
        self.aborted = threading.Event()
        self.ended = threading.Event()
        self.error: BaseException | None = None


class BackgroundWriter(Generic[T]):
    """Writes batches to a sink in a thread of its own.

    Args:
        sink: where batches go; owned from here on, closed by the thread.

    Example:
        >>> with BackgroundWriter(sink) as writer:  # doctest: +SKIP
        ...     for batch in batches:
        ...         writer.put(batch)
    """

    def __init__(self, sink: Sink[T]) -> None:
        self._sink = sink
        self._channel: _Channel[T] = _Channel()
        self._thread = threading.Thread(
            target=_write_all, args=(sink, self._channel), name="npz-writer", daemon=True
        )

    def __enter__(self) -> Self:
        try:
            self._thread.start()
        except BaseException:
            if self._thread.is_alive():  # an interrupt
                self.abort()
            else:  # the system gives no thread: nobody else will close the sink
                self._sink.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abort()

    def put(self, batch: T) -> None:
        """Hands a batch over; it belongs to the writer from here.

        Raises:
            BaseException: whatever stopped the thread.
        """
        self._channel.writable.acquire()
        if self._channel.error is not None:
            self._channel.writable.release()  # the next call must fail as well, not wait
            raise self._channel.error
        self._channel.batches.put(batch)

    def close(self) -> None:
        """Waits until all is written, publishes, and ends the thread.

        Raises:
            BaseException: whatever stopped the thread; nothing is published then.
        """
        self._stop()
        if self._channel.error is not None:
            raise self._channel.error

    def abort(self) -> None:
        """Ends the thread after what it is doing; publishes nothing unless that has begun."""
        self._channel.aborted.set()
        self._stop()

    def _stop(self) -> None:
        """Waits for the thread, however often it is interrupted: the caller's lock protects it."""
        interrupt: BaseException | None = None
        self._channel.batches.put(_End())
        while not self._channel.ended.is_set():  # a join takes it for ended if interrupted (3.11)
            try:
                self._channel.ended.wait()
            except BaseException as error:
                self._channel.aborted.set()
                interrupt = error
        if interrupt is not None:
            raise interrupt
        self._thread.join()


def _write_all(sink: Sink[T], channel: _Channel[T]) -> None:
    """The thread's body; releases `writable` after each batch and at the end: no one waits on."""
    try:
        while not isinstance(batch := channel.batches.get(), _End):
            if not channel.aborted.is_set():
                with note_stage("writing a batch"):
                    sink.write(batch)
            channel.writable.release()
        if not channel.aborted.is_set():
            with note_stage("publishing"):
                sink.publish()
    except BaseException as error:
        channel.error = error  # the caller raises it
    try:
        with note_stage("closing the files"):
            sink.close()
    except BaseException as error:
        channel.error = channel.error or error  # the first failure is the cause
    channel.writable.release()
    channel.ended.set()
