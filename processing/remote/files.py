"""RemoteFile: a file at a URL; many of its ranges are read at a time."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, NamedTuple, TypeVar

from processing.core.urls import URL
from processing.remote.stores import Buffer, Listed, open_store

IN_FLIGHT: Final = 32
"""Requests of a process at a time."""
LONGEST: Final = 8 << 20
"""Bytes of a request: far larger ones would not end within the client's time limit."""

T = TypeVar("T")
R = TypeVar("R")


class Span(NamedTuple):
    """A range of bytes.

    Args:
        begin: its first byte.
        end: the byte behind its last one.
    """

    begin: int
    end: int


class RemoteFile:
    """A file at a URL; safe from several threads.

    Args:
        url: of the file.

    Raises:
        ImportError: the client for this scheme is not installed.
        ValueError: no client knows the scheme.
    """

    def __init__(self, url: URL) -> None:
        self.url = url
        self._store = open_store(url)
        self._size: int | None = None

    @property
    def size(self) -> int:
        """Bytes of the file, when they were first asked for.

        Raises:
            FileNotFoundError: there is no such file.
            OSError: the server does not answer, or refuses.
        """
        # Without functools.cached_property: before Python 3.12 it has one lock for all instances,
        # so the sizes of many files would be requested one after the other.
        if self._size is None:
            self._size = self._store.size(self.url.key)
        return self._size

    def read(self, span: Span) -> memoryview:
        """Returns some bytes, by one request.

        Raises:
            FileNotFoundError: there is no such file.
            OSError: the server does not answer, refuses, or sends fewer bytes.
        """
        if span.begin == span.end:
            return memoryview(b"")
        data = memoryview(self._store.read(self.url.key, *span)).cast("B")
        if len(data) != span.end - span.begin:
            raise OSError(
                f"{self.url}: expected the bytes {span.begin:,} to {span.end:,}, the server sent "
                f"{len(data):,}: the file was replaced, or the server cuts ranges off"
            )
        return data

    def read_spans(self, spans: Sequence[Span]) -> list[memoryview]:
        """Returns several ranges; adjacent ones by one request, others at the same time.

        Args:
            spans: in any order; they may overlap.

        Raises:
            FileNotFoundError: there is no such file.
            OSError: the server does not answer, refuses, or sends fewer bytes.
        """
        merged = list(merge(spans))
        found: list[memoryview] = [memoryview(b"")] * len(spans)
        data = in_parallel(self.read, [whole for whole, _ in merged])
        for (whole, positions), content in zip(merged, data, strict=True):
            for position in positions:
                begin, end = spans[position]
                found[position] = content[begin - whole.begin : end - whole.begin]
        return found


def merge(spans: Sequence[Span]) -> Iterator[tuple[Span, list[int]]]:
    """Merges adjacent and overlapping ranges, up to `LONGEST` bytes; never reads a gap.

    Args:
        spans: in any order.

    Yields:
        A range, and the positions of the spans in it.
    """
    begin = end = 0
    positions: list[int] = []
    for position in sorted(range(len(spans)), key=spans.__getitem__):
        span = spans[position]
        fits = span.begin <= end and span.end - begin <= LONGEST
        if positions and not (fits or span.end <= end):
            yield Span(begin, end), positions
            positions = []
        if not positions:
            begin, end = span
        positions.append(position)
        end = max(end, span.end)
    if positions:
        yield Span(begin, end), positions


def in_parallel(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Calls a function with each item in threads for requests; the first error is raised.

    The function must not call `in_parallel`: all threads could then wait for each other.
    """
    if len(items) < 2:
        return [function(item) for item in items]
    return list(_threads(os.getpid()).map(function, items))


def in_background(function: Callable[[], R]) -> Future[R]:
    """Calls a function in one of the threads for requests; it must not call `in_parallel`."""
    return _threads(os.getpid()).submit(function)


@functools.lru_cache(maxsize=1)
def _threads(process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="npz-request")


def exists(url: URL) -> bool:
    """Whether there is a file at a URL.

    Raises:
        OSError: the server does not answer, or refuses.
    """
    try:
        open_store(url).size(url.key)
    except FileNotFoundError:
        return False
    return True


def read_file(url: URL) -> bytes:
    """Returns a whole small file.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: the server does not answer, or refuses.
    """
    file = RemoteFile(url)
    return bytes(file.read(Span(0, file.size)))


def read_parts(url: URL, size: int) -> Iterator[Buffer]:
    """Reads a whole file of any size, in parts of one content.

    Args:
        url: of the file.
        size: its bytes, as a listing has them. It may have changed since.

    Yields:
        The bytes in order: by one request if there are at most `LONGEST`.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: the server does not answer, or refuses; or the file changes meanwhile.
    """
    if not size:  # no range of an empty file can be requested
        return
    store = open_store(url)
    if size <= LONGEST:
        data = store.read(url.key, 0, LONGEST + 1)
        if len(memoryview(data)) <= LONGEST:
            yield data
            return
    version, file = store.version(url.key), RemoteFile(url)
    for first in range(0, file.size, LONGEST):
        yield file.read(Span(first, min(first + LONGEST, file.size)))
    if store.version(url.key) != version:
        raise OSError(f"{url}: was replaced while it was read: run again")


def list_files(url: URL) -> Iterator[Listed]:
    """Returns the files of a directory and of all directories in it.

    Raises:
        OSError: the server does not answer, refuses, or cannot list files.
    """
    return open_store(url).list(url.key)


def list_directory(url: URL) -> Iterator[Listed]:
    """Returns the files of a directory, without those of directories in it.

    Raises:
        OSError: the server does not answer, refuses, or cannot list files.
    """
    return open_store(url).list_directory(url.key)
