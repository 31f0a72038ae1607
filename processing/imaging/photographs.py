"""Photographs: where the bytes of photographs come from, and what is known without reading them."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

from processing.core.errors import concerns_single_file
from processing.imaging.reading import read_inside


class Photographs(Protocol):
    """The photographs of a raw directory; safe from several threads.

    Paths are relative to the raw directory and ``/`` separated.
    """

    @property
    def at_once(self) -> int:
        """How many files are best read at a time; 0: as many as there are decoding threads."""

    def read(self, path: str, hint: str = "") -> bytes:
        """Reads a file.

        Args:
            path: the file.
            hint: a remedy, added to the message if there is no such file.

        Raises:
            ImageError: the file is absent, unreadable, or too large.
            OSError: a failure that may concern other files as well.
        """

    def begin(self, path: str, hint: str = "") -> Callable[[], bytes] | None:
        """Begins to read a file that is needed soon; None where waiting for it costs nothing.

        Returns:
            A function that waits for the bytes, and raises as `read` does.
        """

    def size(self, path: str) -> int | None:
        """Returns the bytes of a file; None if there is none."""

    def identities(self, paths: Iterable[str]) -> Iterator[str | None]:
        """Yields for each path a text that changes when the file does; None if there is none."""

    def check_not_lost(self, path: str) -> None:
        """Raises if the folder of a file that was there before is gone or empty.

        A single missing file is treated as a bad image; a missing or empty folder is not, because
        storage that is unmounted must not turn all its images into rejections.

        Raises:
            FileNotFoundError: the folder is gone or empty.
        """


class LocalPhotographs:
    """The photographs of a local directory; see `Photographs`.

    Args:
        raw_dir: the raw directory.
        follow_links: whether links may lead out of it.
    """

    at_once = 0

    def __init__(self, raw_dir: Path, *, follow_links: bool = True) -> None:
        self._raw_dir, self._follow_links = raw_dir, follow_links

    def read(self, path: str, hint: str = "") -> bytes:
        """Reads a file; raises as `read_inside` does."""
        return read_inside(self._raw_dir, path, follow_links=self._follow_links, hint=hint)

    def begin(self, path: str, hint: str = "") -> None:
        """Returns None: the system reads local files ahead."""

    def size(self, path: str) -> int | None:
        """Returns the bytes of a file; None if there is none."""
        try:
            return os.stat(f"{self._raw_dir}/{path}").st_size  # noqa: PTH116 - a Path per image would double the time
        except (OSError, ValueError):  # processing reports it
            return None

    def identities(self, paths: Iterable[str]) -> Iterator[str | None]:
        """Yields everything that tells whether an image is still the same file.

        That is the raw directory, the path, device and inode, size, and the times when content and
        inode last changed. As in git, no copied, restored or exchanged file passes for another one:
        no program can set back the time when the inode changed. An image read through a link is
        another input where links may not lead out of the raw directory.
        """
        status = self._raw_dir.stat()
        root = f"{status.st_dev}\0{status.st_ino}\0{self._follow_links}"
        for path in paths:
            yield self._identity(root, path)

    def _identity(self, root: str, path: str) -> str | None:
        try:
            status = os.stat(f"{self._raw_dir}/{path}")  # noqa: PTH116 - as above
        except OSError as error:
            if not concerns_single_file(error):
                raise
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        return (  # no path holds a NUL
            f"{path}\0{root}\0{status.st_dev}\0{status.st_ino}\0{status.st_size}"
            f"\0{status.st_mtime_ns}\0{status.st_ctime_ns}"
        )

    def check_not_lost(self, path: str) -> None:
        """Raises FileNotFoundError if the folder of a file that was there is gone or empty."""
        folder = (self._raw_dir / path).parent
        if not folder.is_dir() or not any(folder.iterdir()):
            raise FileNotFoundError(
                errno.ENOENT,
                "held images when this run began, and is gone or empty now: is the storage of the "
                "raw directory still there? Run again",
                str(folder),
            )
