"""RemoteNPZ: an NPZ file at a URL, seen as a mapped file with holes.

A local file of the same length takes bytes of the remote one at the same places. Opening copies all
but the images: directory, headers and small members. So the rest of this folder reads it like any
mapped file. Rows of images are requested when they are gathered.

    remote file  headers | images            | annotations, paths, ... | directory
    local file   headers | holes, few images | annotations, paths, ... | directory

With a cache, rows that were read fill the holes. A row in the cache counts only if its bytes have
the row's checksum. So an absent, torn or damaged row is requested again, and several processes may
share a cache.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from isal.isal_zlib import crc32
from numpy.typing import NDArray

from processing.core.errors import NPZFormatError
from processing.core.urls import URL
from processing.npz.format import JPEG_MEMBER, LOCAL_HEADER, RAW_MEMBER
from processing.npz.mapped import MappedNPZ
from processing.npz.row_cache import RowCache
from processing.npz.sparse_file import SparseFile
from processing.npz.zip_directory import MAX_DIRECTORY, locate, read_directory, read_entries
from processing.remote.files import IN_FLIGHT, RemoteFile, Span

_TAIL: Final = 64 << 10
"""Bytes at the end that are read first: the directory of a file of ours takes about 1 kB."""
_LONGEST_TAIL: Final = MAX_DIRECTORY + (1 << 17)
_LONGEST_HEADER: Final = LOCAL_HEADER.size + 2 * 0xFFFF + (1 << 14)
"""Bytes: a local header with the longest name and extra fields, and an NPY header."""
_PIECE: Final = 16 << 20
"""Bytes of a request for members that are read when the file is opened; a slow line takes less than
the client's time limit for it."""
_CHUNK: Final = 8 << 20
"""Bytes of a request when the whole file is read."""


class RemoteNPZ(MappedNPZ):
    """An NPZ file at a URL. Opening takes four requests, or more for very large members.

    Args:
        url: of the file.
        cache_dir: directory for rows that were read; None: they are not kept.
        cache_bytes: how many bytes of rows to keep there, of all files together; 0: none.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: the server does not answer, or refuses.
        NPZFormatError: the file is no ZIP file, is damaged, or has compressed members.
    """

    def __init__(self, url: URL, *, cache_dir: Path | None = None, cache_bytes: int = 0) -> None:
        self._remote = RemoteFile(url)
        if self._remote.size == 0:
            raise NPZFormatError(f"{url}: the file is empty; an NPZ file is expected")
        self._local = SparseFile(self._remote.size)
        entries, tail = self._read_directory()
        spans = list(_all_but_images(url, entries, tail))
        self._cache: RowCache | None = None
        if cache_dir is not None and cache_bytes:
            size = self._remote.size
            # With the places: equal members elsewhere in the file are another layout.
            members = [(e.filename, e.file_size, e.CRC, e.header_offset) for e in entries]
            content = repr((size, members))
            least = size - tail + sum(span.end - span.begin for span in spans)
            self._cache = RowCache.open(cache_dir, url, content, size, cache_bytes, least)
            if self._cache is not None:
                self._local = self._cache.file
                spans.append(Span(tail, size))
        self._copy(spans)
        mapped = self._local.map()
        self._begin(url, cache_dir, mapped, locate(url, mapped, entries))

    def _read_directory(self) -> tuple[list[zipfile.ZipInfo], int]:
        """Copies the end of the file.

        Returns:
            The entries of the directory, and where the copied bytes begin.
        """
        size = self._remote.size
        for length in (_TAIL, _LONGEST_TAIL):
            begin = max(0, size - length)
            self._copy([Span(begin, size)])
            try:
                return read_entries(self._remote.url, self._local.file, self._local.map()), begin
            except NPZFormatError:
                # The directory may begin before the bytes that were copied.
                if begin == 0 or length == _LONGEST_TAIL:
                    raise
        raise AssertionError("the loop returns or raises")

    def _copy(self, spans: Sequence[Span]) -> None:
        for span, data in zip(spans, self._remote.read_spans(spans), strict=True):
            self._local.write(span.begin, data)

    def whole(self) -> MappedNPZ:
        """Returns a copy of the whole file, without a name in the directory of temporary files.

        Raises:
            OSError: the server does not answer, refuses, or has another file there by now.
            NPZFormatError: the file was replaced by another one.
        """
        copy = _CopiedNPZ(self._remote)
        if copy.content_id != self.content_id:
            raise NPZFormatError(f"{self.path}: was replaced after it was opened; open it again")
        return copy

    def read_rows(
        self,
        begin: int,
        starts: NDArray[np.int64],
        ends: NDArray[np.int64],
        checksums: Sequence[int] | None,
    ) -> list[NDArray[np.uint8]]:
        """Returns the bytes of rows, from the cache or by requests; not compared with checksums.

        Args:
            begin: where the array of all rows begins in the file.
            starts: (B,) where rows begin in the array, in bytes.
            ends: (B,) where they end.
            checksums: CRC-32 of each row; None if the file has none. Then nothing is cached.

        Raises:
            OSError: the server does not answer, refuses, or has another file there by now.
        """
        places = zip((starts + begin).tolist(), (ends + begin).tolist(), strict=True)
        spans = [Span(first, last) for first, last in places]
        expected = [None] * len(spans) if checksums is None else checksums
        found = list(map(self._known, spans, expected))
        missing = [position for position, row in enumerate(found) if row is None]
        data = self._remote.read_spans([spans[position] for position in missing])
        for position, row in zip(missing, data, strict=True):
            found[position] = row
            if self._cache is not None and crc32(row) == expected[position]:
                self._cache.keep(spans[position].begin, row)
        return [np.frombuffer(row, np.uint8) for row in found if row is not None]

    def _known(self, span: Span, checksum: int | None) -> memoryview | None:
        """Returns a row that is in the cache; None if it is not."""
        if self._cache is None or checksum is None:
            return None
        self.check_size()
        row = memoryview(self._map)[span.begin : span.end]
        return row if crc32(row) == checksum else None


class _CopiedNPZ(MappedNPZ):
    """All bytes of a file at a URL, in a temporary file."""

    def __init__(self, remote: RemoteFile) -> None:
        local = SparseFile(remote.size)
        step = _CHUNK * IN_FLIGHT
        for begin in range(0, remote.size, step):
            end = min(begin + step, remote.size)
            spans = [Span(b, min(b + _CHUNK, end)) for b in range(begin, end, _CHUNK)]
            for span, data in zip(spans, remote.read_spans(spans), strict=True):
                local.write(span.begin, data)
        mapped = local.map()
        self._begin(remote.url, None, mapped, read_directory(remote.url, local.file, mapped))


class RemoteRows:
    """Requests rows of the member that holds the images.

    Args:
        npz: the file.
        member: the member's name.
    """

    def __init__(self, npz: RemoteNPZ, member: str) -> None:
        self._npz = npz
        self._begin = npz.location(member)[1]

    def read(
        self,
        starts: NDArray[np.int64],
        ends: NDArray[np.int64],
        checksums: Sequence[int] | None,
    ) -> list[NDArray[np.uint8]]:
        """Returns rows; see `stored_images.RowRequests`."""
        return self._npz.read_rows(self._begin, starts, ends, checksums)


def _all_but_images(url: URL, entries: Sequence[zipfile.ZipInfo], end: int) -> Iterator[Span]:
    """Yields the places of all that is copied when a file is opened.

    Args:
        url: for messages.
        entries: the ZIP directory.
        end: behind the last place.

    Raises:
        NPZFormatError: a member is compressed, or there are no images.
    """
    packed = [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise NPZFormatError(
            f"{url}: compressed members, such as {packed[0]!r}, cannot be read in parts: copy the "
            "file to a local disk, or write it with numpy.savez"
        )
    places = sorted((entry.header_offset, entry.filename) for entry in entries)
    for number, (first, name) in enumerate(places):
        if name in (f"{RAW_MEMBER}.npy", f"{JPEG_MEMBER}.npy"):
            following = [place for place, _ in places[number + 1 :]]
            yield from _pieces(0, min(first + _LONGEST_HEADER, end))
            # Images that are the last member end where the directory begins, which was copied.
            yield from _pieces(max(first + _LONGEST_HEADER, min([*following, end])), end)
            return
    raise NPZFormatError(
        f"{url}: has no member {RAW_MEMBER!r} or {JPEG_MEMBER!r}; found {[n for _, n in places]}"
    )


def _pieces(begin: int, end: int) -> Iterator[Span]:
    for first in range(begin, end, _PIECE):
        yield Span(first, min(first + _PIECE, end))
