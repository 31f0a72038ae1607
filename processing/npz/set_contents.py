"""SetContents: the rows of all shards of a set, seen as those of one file.

A shard is opened when one of its rows is first needed. Only some are open at a time: the system
limits the number of open files. Read-only and safe from several threads. Does not import
torch.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from processing.core.arguments import StrPath, check_location, check_path
from processing.core.columns import ColumnArray, offsets_of
from processing.core.errors import IncompleteSetError
from processing.core.merging import merge_rows
from processing.core.parts import Part, parts_of
from processing.core.threads import map_in_order
from processing.core.urls import URL, Location
from processing.npz.contents import Contents, RowShape
from processing.npz.sets import (
    Manifest,
    Shard,
    check_complete,
    is_set,
    manifest_path,
    read_manifest,
    set_location,
    shard_path,
    unfinished,
)
from processing.remote.files import IN_FLIGHT

try:
    import resource
except ImportError:  # Windows, where 8,192 files may be open
    resource = None  # type: ignore[assignment]  # mypy knows it as a module

R = TypeVar("R")

_MOST_OPEN: Final = 256
"""Shards that are open at a time, if the system allows as many files."""
_OTHER_FILES: Final = 40
"""Descriptors left to the rest of the program."""
_SHARE: Final = 8
"""A shard takes two descriptors, and a program reads up to four sets at the same time."""


def most_open(*, connections: int = 0) -> int:
    """Returns how many shards of one set may be open at a time.

    Args:
        connections: to servers, which are files too.
    """
    if resource is None:
        return _MOST_OPEN  # type: ignore[unreachable]  # mypy runs where the module exists
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return _MOST_OPEN
    return min(_MOST_OPEN, max(1, (limit - _OTHER_FILES - connections) // _SHARE))


class SetContents:
    """The rows of a set.

    Args:
        path: ``NAME-*.npz``.
        cache_dir: directory for members that have to be unpacked; None: next to the files. Also
            for rows that were read from a URL.
        cache_bytes: how many bytes of such rows to keep.
        verify: whether to compare all members but the images with their checksums.

    Attributes:
        path: the same.
        cache_dir: the same.
        content_id: a 32-bit hash of the manifest.
        fingerprint: hash of the fingerprints of all shards.
        offsets: int64 (S + 1,): shard s holds rows ``offsets[s]:offsets[s + 1]``.

    Raises:
        FileNotFoundError: there is neither a shard nor a manifest.
        IncompleteSetError: there is no manifest, shards are missing, or they are of another set.
        NPZFormatError: the manifest or the first shard is damaged.
    """

    def __init__(
        self,
        path: StrPath | URL,
        *,
        cache_dir: StrPath | None = None,
        cache_bytes: int = 0,
        verify: bool = False,
    ) -> None:
        place = check_location("path", path)
        self.path: Location = place if isinstance(place, URL) else place.absolute()
        self.cache_dir = None if cache_dir is None else check_path("cache_dir", cache_dir)
        self._cache_bytes = cache_bytes
        self._verify = verify
        self._directory, self._name = set_location(self.path)
        self._manifest = self._read_manifest()
        self.content_id = crc32(self._manifest.encode())
        self.fingerprint = self._manifest.fingerprint
        self.offsets = offsets_of(self._manifest.rows)
        self._lock = threading.Lock()
        self._open: OrderedDict[int, Contents] = OrderedDict()
        self._opening: dict[int, threading.Lock] = {}
        self._limit = most_open(connections=IN_FLIGHT if isinstance(place, URL) else 0)
        # Threads keep shards open while they read them, so few threads may do so at a time.
        self._readers = threading.Semaphore(min(self._limit, IN_FLIGHT))
        # All shards have the same layout: the manifest was written after that was checked.
        first = self._shard(0)
        self.task, self.metadata = first.task, first.metadata
        self.category_names, self.keypoint_names = first.category_names, first.keypoint_names
        self.image_shape, self.image_dtype = first.image_shape, first.image_dtype
        self.row_shapes: tuple[tuple[str, RowShape], ...] = first.row_shapes
        self.has_row_checksums = first.has_row_checksums

    def _read_manifest(self) -> Manifest:
        path = manifest_path(self._directory, self._name)
        try:
            manifest = read_manifest(path)
        except FileNotFoundError as error:
            is_there = isinstance(self._directory, URL) or self._directory.is_dir()
            problem = unfinished(self._directory, self._name) if is_there else None
            raise problem or FileNotFoundError(
                f"{self.path}: there are no shards of this name, and no manifest {path.name}"
            ) from error
        if not isinstance(self._directory, URL):  # a bucket lists 1,000 files by each request
            check_complete(self._directory, self._name, manifest)
        return manifest

    def _shard(self, index: int) -> Contents:
        """Returns a shard; opens it if it is not open."""
        if (known := self._opened(index)) is not None:
            return known
        # A second thread that needs it waits, instead of opening it too.
        with self._opening.setdefault(index, threading.Lock()):
            if (known := self._opened(index)) is not None:
                return known
            return self._open_shard(index)

    def _opened(self, index: int) -> Contents | None:
        with self._lock:
            if (known := self._open.get(index)) is not None:
                self._open.move_to_end(index)
            return known

    def _open_shard(self, index: int) -> Contents:
        path = shard_path(self._directory, self._name, Shard(index, self._manifest.shards))
        try:
            contents = Contents.open(
                path, cache_dir=self.cache_dir, cache_bytes=self._cache_bytes, verify=self._verify
            )
        except FileNotFoundError as error:
            raise IncompleteSetError(
                f"{path}: this shard is missing: copy it, or run the processor again"
            ) from error
        expected = self._manifest.checksums[index]
        if contents.content_id != expected or len(contents) != self._manifest.rows[index]:
            raise IncompleteSetError(
                f"{path}: is not the shard that the manifest {self._name}.json describes: it was "
                "made again, or copied from another set; run the processor with --finalize"
            )
        with self._lock:
            self._open[index] = contents
            # A shard that another thread is reading stays open until that thread is done.
            while len(self._open) > self._limit:
                self._open.popitem(last=False)
        return contents

    def __len__(self) -> int:
        return int(self.offsets[-1])

    @property
    def nbytes(self) -> int:
        """Bytes of all images, about: the files hold little else."""
        return sum(self._manifest.sizes)

    def parts(self) -> Iterator[Contents]:
        """Yields all shards in order; those at URLs are opened ahead, several at a time."""
        numbers = range(self._manifest.shards)
        if not isinstance(self.path, URL):
            yield from map(self._shard, numbers)
            return

        def open_one(number: int) -> Contents:
            with self._readers:
                return self._shard(number)

        threads = min(len(numbers), IN_FLIGHT, self._limit)
        opened = map_in_order(open_one, numbers, threads=threads, ahead=threads)
        with contextlib.closing(opened):
            yield from opened

    def locate(self, index: int) -> tuple[Contents, int]:
        """Returns the shard that holds a row in ``[0, N)``, and the row's number there."""
        shard = int(np.searchsorted(self.offsets, index, side="right")) - 1
        return self._shard(shard), index - int(self.offsets[shard])

    def gather_images(
        self, indices: NDArray[np.intp], images_out: NDArray[Any], *, verify: bool = False
    ) -> None:
        """Copies or decodes images; see `Contents.gather_images`."""

        def gather(part: Part) -> None:
            shard, positions, rows = part
            contents = self._shard(shard)
            begin, end = (positions[0], positions[-1] + 1) if len(positions) else (0, 0)
            if end - begin == len(positions):  # straight into the batch's memory
                contents.gather_images(rows, images_out[begin:end], verify=verify)
            else:
                images = np.empty((len(rows), *images_out.shape[1:]), images_out.dtype)
                contents.gather_images(rows, images, verify=verify)
                images_out[positions] = images

        self._each(gather, indices)

    def gather_annotations(self, indices: NDArray[np.intp]) -> dict[str, ColumnArray]:
        """Copies annotations and ``image_paths``; see `Contents.gather_annotations`."""

        def gather(part: Part) -> tuple[NDArray[np.intp], dict[str, ColumnArray]]:
            shard, positions, rows = part
            return positions, self._shard(shard).gather_annotations(rows)

        parts = self._each(gather, indices)
        return parts[0][1] if len(parts) == 1 else merge_rows(parts)

    def _each(self, function: Callable[[Part], R], indices: NDArray[np.intp]) -> list[R]:
        """Calls a function with the rows of each shard; for a URL, with several at the same time.

        One after the other, 64 rows of 64 shards would wait 64 times for the server.
        """
        parts = list(parts_of(self.offsets, indices))
        if len(parts) < 2 or not isinstance(self.path, URL):
            return list(map(function, parts))

        def read(part: Part) -> R:
            with self._readers:
                return function(part)

        with ThreadPoolExecutor(min(len(parts), IN_FLIGHT, self._limit), "npz-shard") as threads:
            return list(threads.map(read, parts))

    def advise(self, indices: NDArray[np.intp]) -> None:
        """Starts reading the images of rows in the background, of shards that are open."""
        for shard, _, rows in parts_of(self.offsets, indices):
            with self._lock:
                contents = self._open.get(shard)
            if contents is not None:
                contents.advise(rows)

    def joined(self, name: str) -> ColumnArray | None:
        """Returns the rows of a member of all shards, as a copy; None if the set lacks it."""
        columns: list[tuple[NDArray[np.intp], Mapping[str, ColumnArray]]] = []
        for shard, part in enumerate(self.parts()):
            column = part.joined(name)
            if column is None:
                return None
            positions = np.arange(self.offsets[shard], self.offsets[shard + 1])
            columns.append((positions, {name: column}))
        return merge_rows(columns)[name]


def open_contents(
    path: StrPath | URL,
    *,
    cache_dir: StrPath | None = None,
    cache_bytes: int = 0,
    verify: bool = False,
) -> Contents | SetContents:
    """Opens a file, or a set if the path is ``NAME-*.npz``.

    Args:
        path: path or URL of the file or set.
        cache_dir: directory for members that have to be unpacked; None: next to the file. Also for
            rows that were read from a URL.
        cache_bytes: how many bytes of such rows to keep.
        verify: whether to compare all members but the images with their checksums.

    Raises:
        OSError: a file cannot be opened or mapped; names the limit to raise, if there is one.
        NPZFormatError: a file is damaged or is not a dataset.
    """
    kind = SetContents if is_set(check_location("path", path)) else Contents.open
    return kind(path, cache_dir=cache_dir, cache_bytes=cache_bytes, verify=verify)
