"""The directory that files are written to: one process at a time, and files of ours alone."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from processing.error_notes import naming

_LOG = logging.getLogger(__name__)

LOCK_NAME: Final = "processing.lock"
_LAST_STANDARD: Final = 2


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[bool]:
    """Holds the directory's lock, which goes with its process; gives whether it was waited for.

    Raises:
        OSError: the file cannot be locked.
    """
    path = directory / LOCK_NAME
    lock = FileLock(path)
    waited = False
    with naming(path):
        try:
            lock.acquire(blocking=False)
        except Timeout:
            _LOG.warning(
                "%s: another process works there; waiting until it is done, as long as that takes "
                "(Ctrl-C stops this one alone)",
                directory,
            )
            waited = True
            lock.acquire()
    try:
        yield waited
    finally:
        lock.release()


def refuse_other_kinds(directory: Path, names: Iterable[str]) -> None:
    """Makes sure that what has a name of ours is a file.

    Raises:
        FileExistsError: a folder, pipe, socket or device.
    """
    for path in (directory / name for name in names):
        if path.exists() and not path.is_file():
            raise FileExistsError(
                errno.EEXIST,
                "expected a file of ours, found something else: move it away, or choose another "
                "output_dir",
                str(path),
            )


@contextlib.contextmanager
def standard_descriptors() -> Iterator[None]:
    """Keeps the descriptors 0 to 2, which services may close, from becoming files of ours.

    C libraries print what they have to say of an image to them, whatever they are.
    """
    opened: list[int] = []
    try:
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _LAST_STANDARD:
            opened.append(descriptor)
        os.close(descriptor)
        yield
    finally:
        for descriptor in opened:
            os.close(descriptor)
