"""The exceptions of this package, and the record of an input that was left out.

ProcessingError
├── SourceError (ValueError)               the raw directory or its annotations cannot be used
│   └── SourceNotFoundError (FileNotFoundError)   nothing that any reader knows was found
├── AnnotationError (ValueError)           one annotation is malformed; becomes a `Rejection`
├── ImageError (ValueError)                one image is unusable; becomes a `Rejection`
├── TooManyRejectedError (RuntimeError)    more inputs were bad than the caller allows
├── InterferenceError (RuntimeError)       somebody else changed the files of a run
├── NPZFormatError (ValueError)            an NPZ file is damaged or not what it says
│   ├── UnsafePickleError                  an object array wants to run code
│   └── ChecksumError                      a stored row differs from its checksum
└── DatasetClosedError (ValueError)        a dataset was used after `close()`

Every class takes one message and is also the builtin exception it means, so that it survives the
trip from a worker process and can be caught without importing this module.
"""

import errno
from dataclasses import dataclass
from typing import Final, Literal

Stage = Literal["annotation", "read", "decode", "crop"]


class ProcessingError(Exception):
    """Base of every exception raised by this package."""


class SourceError(ProcessingError, ValueError):
    """The raw directory or its annotations as a whole cannot be used."""


class SourceNotFoundError(SourceError, FileNotFoundError):
    """No annotated data set was found where one was looked for."""

    def __str__(self) -> str:
        """The message; `OSError` would print an errno."""
        return str(self.args[0]) if self.args else ""


class _Rejected(ProcessingError, ValueError):
    """One bad input; `reason` is its machine-readable class."""

    def __init__(self, message: str, reason: str = "unreadable") -> None:
        super().__init__(message)
        self.reason = reason


class AnnotationError(_Rejected):
    """One annotation is malformed: `reason` says how, the message where."""


class ImageError(_Rejected):
    """One image cannot be used: `reason` says why, the message what was found."""


class TooManyRejectedError(ProcessingError, RuntimeError):
    """More inputs were rejected than `max_bad_fraction` allows."""


class InterferenceError(ProcessingError, RuntimeError):
    """Somebody else works on, or has changed, files that a run is writing."""


class NPZFormatError(ProcessingError, ValueError):
    """An NPZ file is damaged, incomplete, or not laid out as it says."""


class UnsafePickleError(NPZFormatError):
    """An object array holds something other than arrays, lists and numbers."""


class ChecksumError(NPZFormatError):
    """A stored row no longer equals what was written."""


class DatasetClosedError(ProcessingError, ValueError):
    """A dataset was used after `close()`."""


_SINGLE_FILE_ERRNOS: Final = frozenset(
    {
        *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG),
        *(errno.EACCES, errno.EPERM, errno.EIO, errno.ENXIO),
        *(errno.EINVAL, errno.EILSEQ, errno.EOVERFLOW),
    }
)


def concerns_single_file(error: OSError) -> bool:
    """Whether it says that this file is bad, while all others may be sound.

    Any other error, such as too many open files, or storage that is gone, would make good files
    look bad: it must end the work instead.
    """
    return error.errno in _SINGLE_FILE_ERRNOS


@dataclass(frozen=True, slots=True)
class Rejection:
    """One input that was left out.

    Args:
        path: the image or annotation file, relative to the raw directory, `/` separated.
        stage: where it failed.
        reason: machine-readable class of the failure, e.g. ``missing_image`` or ``truncated``.
        message: what was found, what was expected, for a person.
    """

    path: str
    stage: Stage
    reason: str
    message: str

    @property
    def identity(self) -> tuple[str, Stage, str]:
        """What tells rejections apart; the wording of messages does not count."""
        return self.path, self.stage, self.reason
