"""BackgroundWriter: writes batches in one thread while the caller makes the next ones.

A batch may be a part of a larger one. At most two exist: `put` waits until the batch before has
been written. However the context is left, the writer waits for its last call and closes the sink.
Left with an exception, nothing is published; everything that is durable stays, to continue from.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from processing.core.error_notes import format_error, note_stage

BatchT = TypeVar("BatchT", contravariant=True)
MetadataT = TypeVar("MetadataT", contravariant=True)


class Sink(Protocol[BatchT, MetadataT]):
    """The files behind a `BackgroundWriter`, which makes one call at a time."""

    def write(self, batch: BatchT) -> None:
        """Writes one batch."""

    def complete(self) -> None:
        """Makes durable everything that was written."""

    def publish(self, metadata: MetadataT) -> None:
        """Gives the files their final names."""

    def close(self) -> None:
        """Releases the files; called once, last, whether they were published or not."""


class BackgroundWriter(Generic[BatchT, MetadataT]):
    """Drives a sink from a thread of its own. Used by one thread, as a context manager.

    Every method except `put` waits for its call to end. An exception of the sink is raised by the
    method that waits for the call, and by every later method: the original object, with a note of
    the stage.

    Args:
        sink: where batches go; closed when the context ends.

    Example:
        >>> with BackgroundWriter(sink) as writer:  # doctest: +SKIP
        ...     for batch in batches:
        ...         writer.put(batch)
        ...     writer.complete()
        ...     writer.publish(metadata)
    """

    def __init__(self, sink: Sink[BatchT, MetadataT]) -> None:
        self._sink = sink
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="npz-writer")
        self._last: Future[None] | None = None

    def put(self, batch: BatchT) -> None:
        """Hands a batch over. It belongs to the writer from here on."""
        self._begin("writing a batch", self._sink.write, batch)

    def complete(self) -> None:
        """Has the sink make everything durable that was put."""
        self._begin("completing", self._sink.complete)
        self._wait()

    def publish(self, metadata: MetadataT) -> None:
        """Has the sink publish its files."""
        self._begin("publishing", self._sink.publish, metadata)
        self._wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # An error below keeps this frame alive; the trace would keep the caller's open files alive.
        del trace
        first = error
        for failure in (*self._end(), self._close()):
            if first is None:
                first = failure
            elif failure not in (None, first):  # the first one is likely the cause of the others
                first.add_note(f"then: {format_error(failure)}")
        if error is None and first is not None:
            raise first

    def _begin(self, stage: str, function: Callable[..., None], *arguments: Any) -> None:
        self._wait()  # bounds memory: one batch is being written, one is being made
        self._last = self._thread.submit(_call, stage, function, *arguments)

    def _wait(self) -> None:
        if self._last is not None:
            self._last.result()

    def _end(self) -> tuple[BaseException | None, BaseException | None]:
        """Waits for the thread; returns what interrupted the waiting, and the thread's exception.

        An interrupt must not end the wait: the caller holds the lock of the output directory, and
        would release it while the thread still writes there.
        """
        interrupt: BaseException | None = None
        while self._last is not None and not self._last.done():
            try:
                wait([self._last])
            except BaseException as error:
                interrupt = error
        self._thread.shutdown()
        return interrupt, None if self._last is None else self._last.exception()

    def _close(self) -> BaseException | None:
        try:
            with note_stage("closing the files"):
                self._sink.close()
        except BaseException as error:
            return error
        return None


def _call(stage: str, function: Callable[..., None], *arguments: Any) -> None:
    with note_stage(stage):
        function(*arguments)
