"""Adds to an exception the file, the stage and the remedy that it does not mention.

An `OSError` of an open file does not name that file, and a `MemoryError` has no message at all. The
exception object stays the same: an `OSError` gets its `filename`, all others get notes. Imports the
standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import Any, Final

_REMEDIES: Final = {
    (errno.ENOSPC, errno.EDQUOT): "free space there",
    (errno.EACCES, errno.EPERM, errno.EROFS): "let this user read the inputs and write the output "
    "(chmod, or mount it without `ro`), or choose another output",
    (errno.EEXIST, errno.ENOTDIR): "choose another output: a file has that name",
    (errno.EIO,): "the storage failed: read the system's log, then repair or replace that disk",
    (errno.EMFILE, errno.ENFILE): "allow more open files (ulimit -n), or lower num_workers",
    (errno.EFBIG,): "raise the limit on file sizes (ulimit -f), or choose an output directory on a "
    "file system that supports files of that size",
    (errno.ENOLCK, errno.EOPNOTSUPP): "choose an output directory on a file system with locks "
    "(flock), such as a local one",
    (errno.ENOMEM,): "allow more memory (ulimit -v), or lower num_workers and batch_size",
}
_IN_USE_ON_WINDOWS: Final = (5, 32, 33, 1224)
"""Values of ``winerror``: access denied, sharing violation, lock violation, file is mapped. The
first is that of replacing an open file, but also that of a file that this user may not write."""
_RUN_AGAIN: Final = "then run again: it continues at its last flush"


@contextlib.contextmanager
def with_filename(path: str | os.PathLike[str]) -> Iterator[None]:
    """Adds a file's name to an `OSError` or `MemoryError` that has none."""
    try:
        yield
    except OSError as error:
        # Without a number, the file name would replace the message.
        if error.filename is None and error.errno is not None:
            error.filename = os.fspath(path)
        raise
    except MemoryError as error:
        error.add_note(f"file: {os.fspath(path)}")
        raise


@contextlib.contextmanager
def note_stage(stage: str) -> Iterator[None]:
    """Adds the stage of the run to any error."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"stage: {stage}")
        raise


@contextlib.contextmanager
def note_remedy(then: str = _RUN_AGAIN) -> Iterator[None]:
    """Adds a hint on how to fix an `OSError` or `MemoryError`, or an error raised from one.

    Args:
        then: the next step after the remedy; of a run that continues by default.
    """
    try:
        yield
    except Exception as error:
        failure = error.__cause__
        if isinstance(error, OSError | MemoryError):
            failure = error
        number = getattr(failure, "errno", None)
        if isinstance(failure, MemoryError):
            number = errno.ENOMEM
        remedies = [remedy for numbers, remedy in _REMEDIES.items() if number in numbers]
        if getattr(failure, "winerror", None) in _IN_USE_ON_WINDOWS:
            remedies = [_close_file(failure)]
        for remedy in remedies:
            error.add_note(f"what to do: {remedy}; {then}")
        raise


def _close_file(failure: Any) -> str:
    """Returns the remedy for a file that Windows does not replace or delete, as it is in use."""
    file = failure.filename2 or failure.filename  # of a rename, the second is the one to replace
    return (
        f"end the program that has {file} open, such as a training run or a notebook that reads "
        "it (Windows replaces and deletes no file in use), or choose another output_dir; if no "
        "program has it open, let this user write there"
    )


def format_error(error: BaseException) -> str:
    """Returns the error and its notes, one per line."""
    return "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())])
