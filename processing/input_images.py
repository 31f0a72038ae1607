"""InputImages: the images of one run as they are, and as they were when it began.

Their content decides what is made of them; reading it again is saved by `InputCache`.
"""

from __future__ import annotations

import errno
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from isal.isal_zlib import crc32
from numpy.typing import NDArray

from processing.core.errors import ImageError, Rejection
from processing.core.threads import map_in_order
from processing.imaging.image_rows import read_inside
from processing.input_cache import MISSING, InputCache, input_keys
from processing.journal import Progress


class InputImages:
    """The images that a run takes, in its order.

    Args:
        raw_dir: where they are.
        output_dir: where the cache of their content is.
        paths: (N,) relative to `raw_dir`.
        threads: that read them.

    Attributes:
        keys: uint64 (N,), of path, size and time when the run began; see `input_keys`.
    """

    def __init__(self, raw_dir: Path, output_dir: Path, paths: NDArray[Any], threads: int) -> None:
        self._raw_dir, self._paths, self._threads = raw_dir, paths, threads
        self.keys = input_keys(raw_dir, paths)
        self._cache = InputCache(output_dir)

    def crc32(self) -> NDArray[np.uint32]:
        """CRC-32 of each image now, 0 if unreadable; reads those whose size or time changed."""
        checksums, known = self._cache.lookup(self.keys)
        unknown = np.flatnonzero(~known)
        if len(unknown):
            read = functools.partial(_content_crc32, self._raw_dir)
            paths = self._paths[unknown].tolist()
            found = map_in_order(read, paths, threads=self._threads, ahead=4 * self._threads)
            checksums[unknown] = [checksum for checksum, _ in found]
            self.remember(checksums)
        return checksums

    def remember(self, checksums: NDArray[np.uint32]) -> None:
        """Saves later runs from reading images that did not change while this one worked."""
        now = input_keys(self._raw_dir, self._paths)
        self._cache.update(np.where(now == self.keys, now, MISSING), checksums)

    def are_still_unreadable(self, progress: Progress) -> bool:
        """Whether the images that an interrupted run could not read cannot be read now either."""
        checksums = np.array(progress.input_crc32, dtype=np.uint32)
        unread = self._paths[: len(checksums)][checksums == 0].tolist()
        reasons = {r.path: r.reason for r in progress.rejections if r.stage == "read"}
        return all(_content_crc32(self._raw_dir, path) == (0, reasons.get(path)) for path in unread)

    def check_not_lost(self, start: int, rejections: Sequence[Rejection | None]) -> None:
        """Storage that goes away in the middle of a run must not pass for images that are bad.

        A single file may be deleted meanwhile; it is the folder that tells.

        Args:
            start: position of the first image that `rejections` speak of.
            rejections: of one image after the other; None for one that is not rejected.

        Raises:
            FileNotFoundError: an image was there when the run began, and is not any more, nor is
                anything else in its folder.
        """
        keys = self.keys[start : start + len(rejections)].tolist()
        for key, rejection in zip(keys, rejections, strict=True):
            if rejection and rejection.reason == "missing_image" and key != MISSING:
                folder = (self._raw_dir / rejection.path).parent
                if not folder.is_dir() or not any(folder.iterdir()):
                    raise FileNotFoundError(
                        errno.ENOENT,
                        "held images when this run began, and is gone or empty now: is the storage "
                        "of the raw directory still there? Run again",
                        str(folder),
                    )


def _content_crc32(raw_dir: Path, path: str) -> tuple[int, str | None]:
    """CRC-32 of an image's bytes; 0 and the reason where it cannot be read."""
    try:
        return crc32(read_inside(raw_dir, path)), None
    except ImageError as error:
        return 0, error.reason
