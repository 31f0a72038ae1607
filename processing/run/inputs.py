"""The images of one run, as they are now and as they were when it began.

The content of an image decides its rows. It is read once, and remembered in an `InputCache`.
"""

from __future__ import annotations

import copy
import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from processing.core.errors import ImageError, Rejection
from processing.core.threads import map_in_order
from processing.imaging.contents import UNKNOWN_HEADER, ImageContent, content_of
from processing.imaging.photographs import Photographs
from processing.run.input_cache import MISSING, InputCache, contents_in, entries_of, input_keys
from processing.run.journal import Progress


class InputImages:
    """The images of a plan, in its order.

    Args:
        photographs: reads the images.
        output_dir: where the cache of their contents is.
        paths: (N,) relative to the raw directory.
        listed: (L,) paths of all images that the annotations list; others leave the cache.
        threads: how many threads read images, or more where `photographs` are best read so.

    Attributes:
        keys: uint64 (N,), taken when the run began; see `input_keys`.
    """

    def __init__(
        self,
        photographs: Photographs,
        output_dir: Path,
        paths: NDArray[Any],
        listed: NDArray[Any],
        threads: int,
    ) -> None:
        self._photographs, self._paths, self._listed = photographs, paths, listed
        self._threads = max(threads, photographs.at_once)
        self._read = functools.partial(_read_content, photographs)
        self.keys = self._keys_now()
        self._cache = InputCache(output_dir)
        self._before = copy.copy(self._cache)  # as the last run left it
        self._entries = self._cache.lookup(paths.tolist(), self.keys)

    def _keys_now(self) -> NDArray[np.uint64]:
        return input_keys(self._photographs, self._paths.tolist())

    def digest(self, positions: NDArray[np.intp]) -> str:
        """A hash of the keys of some images."""
        return hashlib.blake2b(self.keys[positions].tobytes(), digest_size=16).hexdigest()

    def crc32(self, positions: NDArray[np.intp] | None = None) -> NDArray[np.uint32]:
        """uint32 (N,): CRC-32 of each image now; reads those that are not the same files any more.

        Args:
            positions: of the images that are wanted; None for all. Others may be 0.

        Returns:
            The checksums; 0 for an image that cannot be read.
        """
        wanted = np.arange(len(self.keys)) if positions is None else positions
        is_unknown = (self._entries["crc32"][wanted] == 0) & (self.keys[wanted] != MISSING)
        unknown = wanted[is_unknown]
        if len(unknown):
            paths = self._paths[unknown].tolist()
            found = map_in_order(self._read, paths, threads=self._threads, ahead=4 * self._threads)
            self.note(unknown, [content for content, _ in found])
            self.save()
        checksums: NDArray[np.uint32] = self._entries["crc32"].copy()
        return checksums

    def contents(self, positions: NDArray[np.intp]) -> list[ImageContent | None]:
        """The contents of images; None where an image would have to be read."""
        return contents_in(self._entries[positions])

    def note(self, positions: NDArray[np.intp], contents: Sequence[ImageContent | None]) -> None:
        """Remembers the contents of images that were read; None for one that could not be read."""
        chosen = np.flatnonzero([content is not None for content in contents])
        known = [content for content in contents if content is not None]
        self._entries[positions[chosen]] = entries_of(
            self._entries["path"][positions[chosen]], self.keys[positions[chosen]], known
        )

    def note_checksums(self, positions: NDArray[np.intp], checksums: NDArray[np.uint32]) -> None:
        """Notes checksums of images; an interrupted run may have read some of the images.

        Args:
            positions: of the images.
            checksums: uint32, of their content; 0 if it could not be read.
        """
        changed = np.flatnonzero(self._entries["crc32"][positions] != checksums)
        found = [ImageContent(0, crc32, UNKNOWN_HEADER) for crc32 in checksums[changed].tolist()]
        self.note(positions[changed], found)

    def save(self) -> None:
        """Saves the entries of all images that did not change in this run, for later runs."""
        entries = self._entries.copy()
        # An image that changed during the run may have been read before or after the change.
        entries["key"][self._keys_now() != self.keys] = MISSING
        self._cache.update(entries, self._listed.tolist())

    def count_kept(self) -> tuple[int, int]:
        """Compares these images with those of the last run.

        Returns:
            How many images the last run left in the cache, and how many of them are still there
            with the same path and content.
        """
        return len(self._before), self._before.count_unchanged(self._entries)

    def are_as_read(
        self, positions: NDArray[np.intp], progress: Progress, *, are_same_files: bool
    ) -> bool:
        """Whether the images that an interrupted run has read are the same now.

        Args:
            positions: of the images of that run, in its order.
            progress: of that run.
            are_same_files: whether all images have the keys that they had by then. Otherwise, their
                content is compared: a copy that was restored, or other permissions, cost no work.
        """
        then = np.array(progress.input_crc32, dtype=np.uint32)
        done = positions[: len(then)]
        if not are_same_files and not np.array_equal(self.crc32(done)[done], then):
            return False
        # Permissions, or a disk, may have been mended without a trace in the file itself.
        unread = self._paths[done[then == 0]].tolist()
        reasons = {r.path: r.reason for r in progress.rejected_images() if r.stage == "read"}
        for path in unread:
            content, reason = self._read(path)
            # The checksum of an empty file is 0 as well.
            if reason != reasons.get(path) or (content is not None and content.crc32):
                return False
        return True

    def check_not_lost(
        self, positions: NDArray[np.intp], rejections: Sequence[Rejection | None]
    ) -> None:
        """Raises if the raw directory disappeared during the run.

        Args:
            positions: of the images.
            rejections: of the images; None for an image that is not rejected.

        Raises:
            FileNotFoundError: an image was there when the run began, and now its folder is gone or
                empty.
        """
        keys = self.keys[positions].tolist()
        for key, rejection in zip(keys, rejections, strict=True):
            if rejection and rejection.reason == "missing_image" and key != MISSING:
                self._photographs.check_not_lost(rejection.path)


def _read_content(photographs: Photographs, path: str) -> tuple[ImageContent | None, str | None]:
    """The content of an image, or the reason why it cannot be read."""
    try:
        return content_of(photographs.read(path)), None
    except ImageError as error:
        return None, error.reason
