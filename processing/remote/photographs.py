"""RemotePhotographs: photographs at a URL, each read when it is decoded, and never stored."""

from __future__ import annotations

import errno
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from processing.core.errors import ImageError
from processing.remote.files import IN_FLIGHT, LONGEST, in_background, list_files, read_parts
from processing.remote.mirror import Mirror


class RemotePhotographs:
    """The photographs below a URL; safe from several threads.

    Args:
        mirror: the list of the files.
        most_bytes: larger files are refused unread.
    """

    at_once: Final = IN_FLIGHT

    def __init__(self, mirror: Mirror, most_bytes: int) -> None:
        self._mirror, self._most_bytes = mirror, most_bytes

    def read(self, path: str, hint: str = "") -> bytes:
        """Reads a photograph; see `Photographs.read`.

        Raises:
            ImageError: the file is absent, too large, or may not be read.
            OSError: the server does not answer, or refuses everything.
        """
        file, url = self._mirror.find(path), self._mirror.url / path
        if file is None:
            problem = f"no such file below {self._mirror.url}, although an annotation lists it"
            raise ImageError(f"does not exist; {hint}" if hint else problem, "missing_image")
        data = bytearray()
        try:
            self._check_size(file.size)
            for part in read_parts(url, file.size):
                data += part
                self._check_size(len(data))  # the file may have grown
        except FileNotFoundError as error:
            raise ImageError(f"{url}: is gone since it was listed", "missing_image") from error
        except PermissionError as error:
            # Credentials that have expired must not turn all photographs into bad ones.
            self.check_not_lost(path)
            raise ImageError(str(error), "unreadable") from error
        return bytes(data)

    def _check_size(self, size: int) -> None:
        if size > self._most_bytes:
            message = f"{size:,} bytes: expected at most {self._most_bytes:,}"
            raise ImageError(message, "too_large")

    def begin(self, path: str, hint: str = "") -> Callable[[], bytes] | None:
        """Begins to read a photograph; see `Photographs.begin`."""
        size = self.size(path)
        if size is None or size > LONGEST:  # many large ones would fill the memory
            return None
        return in_background(functools.partial(self.read, path, hint)).result

    def size(self, path: str) -> int | None:
        """Returns the bytes of a file; None if there is none."""
        file = self._mirror.find(path)
        return None if file is None else file.size

    def identities(self, paths: Iterable[str]) -> Iterator[str | None]:
        """Yields texts that change with the files; see `Photographs.identities`."""
        for path in paths:
            file = self._mirror.find(path)
            if file is None:
                yield None
            else:
                yield f"{path}\0{self._mirror.url}\0{file.size}\0{file.version}"

    def check_not_lost(self, path: str) -> None:
        """Raises if nothing is left in the folder of a photograph that was there.

        Raises:
            FileNotFoundError: the folder is gone.
            OSError: the server does not answer, or refuses.
        """
        folder = (self._mirror.url / path).parent
        if next(list_files(folder), None) is None:
            raise FileNotFoundError(
                errno.ENOENT,
                "held images when this run began, and is gone or empty now: is the storage of the "
                "raw directory still there? Run again",
                str(folder),
            )
