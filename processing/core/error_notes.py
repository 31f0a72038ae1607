"""What an error says besides its message: which file, in what stage, and what can be done.

Errors of a file that is open do not say which file it was, and a `MemoryError` says nothing at all.
The exception itself is kept: an `OSError` gets the file's name, all others get notes. Imports the
standard library alone.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import Final

_REMEDIES: Final = {
    (errno.ENOSPC, errno.EDQUOT): "free space there",
    (errno.EACCES, errno.EPERM, errno.EROFS): "let this user read the inputs and write the output "
    "(chmod, or mount it without `ro`), or choose another output directory",
    (errno.EEXIST, errno.ENOTDIR): "choose an output directory that is no file",
    (errno.EIO,): "the storage failed: look into the system's log, and mend or leave that disk",
    (errno.EMFILE, errno.ENFILE): "allow more open files (ulimit -n), or lower num_workers",
    (errno.EFBIG,): "raise the limit of file sizes (ulimit -f), or choose an output directory on a "
    "file system that holds files of that size",
    (errno.ENOLCK, errno.EOPNOTSUPP): "choose an output directory whose file system has locks "
    "(flock); a local one has",
    (errno.ENOMEM,): "allow more memory (ulimit -v), or lower num_workers and batch_size",
}
_GO_ON: Final = "then run again: it continues at its last flush"


@contextlib.contextmanager
def with_filename(path: str | os.PathLike[str]) -> Iterator[None]:
    """Gives the file's name to an error that has none."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = os.fspath(path)
        raise
    except MemoryError as error:
        error.add_note(f"file: {os.fspath(path)}")
        raise


@contextlib.contextmanager
def note_stage(stage: str) -> Iterator[None]:
    """Notes on any error in what stage it came."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"stage: {stage}")
        raise


@contextlib.contextmanager
def note_remedy() -> Iterator[None]:
    """Notes on an `OSError` or `MemoryError`, or what one has caused, what can be done about it."""
    try:
        yield
    except Exception as error:
        told_by_number = isinstance(error, OSError | MemoryError)
        failure = error if told_by_number else error.__cause__
        number = failure.errno if isinstance(failure, OSError) else None
        number = errno.ENOMEM if isinstance(failure, MemoryError) else number
        for numbers, remedy in _REMEDIES.items():
            if number in numbers:
                error.add_note(f"what to do: {remedy}; {_GO_ON}")
        raise


def format_error(error: BaseException) -> str:
    """The error and its notes, a line each."""
    return "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())])
