"""The exceptions of this package, and the record of a rejected input.

ProcessingError
├── SourceError (ValueError)               the raw directory or its annotations cannot be used
│   └── SourceNotFoundError (FileNotFoundError)   no annotated data set was found
├── AnnotationError (ValueError)           one annotation is malformed; becomes a `Rejection`
├── ImageError (ValueError)                one image is unusable; becomes a `Rejection`
├── TooManyRejectedError (RuntimeError)    more inputs were rejected than allowed
├── InterferenceError (RuntimeError)       another program changed the files of a run
├── ForeignFileError (FileExistsError)     a file is in the way that a run must not replace
├── NPZFormatError (ValueError)            an NPZ file is damaged or malformed
│   ├── UnsafePickleError                  an object array could run code
│   └── ChecksumError                      stored data differs from its checksum
└── DatasetClosedError (ValueError)        a dataset was used after `close()`

Every class takes one message, so that it can be pickled and raised again in another process. Each
is also the builtin exception of its meaning, so that it can be caught without this package.
"""

import errno
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

Stage = Literal["annotation", "read", "decode", "crop", "rules"]
"""The stage that rejected an input. ``rules``: nothing is wrong, but the user's own rules left no
object in an image (flagged objects, boxes below `min_box_size`)."""


class ProcessingError(Exception):
    """Base of every exception raised by this package."""


class SourceError(ProcessingError, ValueError):
    """The raw directory, or a whole annotation file, cannot be used."""


class SourceNotFoundError(SourceError, FileNotFoundError):
    """No annotated data set was found in the raw directory."""

    def __str__(self) -> str:
        """Returns the message; `OSError` would add an error number."""
        return str(self.args[0]) if self.args else ""


class _Rejected(ProcessingError, ValueError):
    """One bad input; `reason` is machine-readable."""

    def __init__(self, message: str, reason: str = "unreadable") -> None:
        super().__init__(message)
        self.reason = reason


class AnnotationError(_Rejected):
    """One annotation is malformed; `reason` names the kind of error, the message the place."""


class ImageError(_Rejected):
    """One image cannot be used; `reason` names the kind of error, the message the details."""


class TooManyRejectedError(ProcessingError, RuntimeError):
    """More inputs were rejected than `max_bad_fraction` allows."""


class InterferenceError(ProcessingError, RuntimeError):
    """Another program is writing, or has changed, the files of this run."""


class ForeignFileError(ProcessingError, FileExistsError):
    """The output directory holds a file of another program that a run would replace."""

    def __str__(self) -> str:
        """Returns the message; `OSError` would add an error number."""
        return str(self.args[0]) if self.args else ""


class NPZFormatError(ProcessingError, ValueError):
    """An NPZ file is damaged, incomplete, or not in the expected format."""


class IncompleteSetError(NPZFormatError):
    """Shards of a set are missing, or are of another set; the message names them."""


class UnsafePickleError(NPZFormatError):
    """An object array holds other objects than arrays, lists, numbers and text; none was run."""


class ChecksumError(NPZFormatError):
    """Stored data differs from its checksum: it was damaged after it was written."""


class DatasetClosedError(ProcessingError, ValueError):
    """A dataset was used after `close()`."""


REBUILD: Final = "restore it from a copy, or delete it and run the processor again"
"""The remedy for a damaged file, for error messages."""


def damaged(where: str, found: str) -> NPZFormatError:
    """Returns the error for a file that its writer cannot have written so.

    Args:
        where: file, member and row.
        found: the contradiction.
    """
    return NPZFormatError(f"{where}: {found}: the file is damaged; {REBUILD}")


def wrong_checksum(where: str, found: int, expected: int) -> ChecksumError:
    """Returns the error for bytes that differ from their CRC-32.

    Args:
        where: file, member and row.
        found: CRC-32 of the bytes.
        expected: CRC-32 that the file states for them.
    """
    return ChecksumError(
        f"{where}: CRC-32 is {found:08x}, {expected:08x} was written: the file was damaged after "
        f"it was written; {REBUILD}"
    )


_SINGLE_FILE_ERRNOS: Final = frozenset(
    {
        # The path leads to no file, or not to a regular one.
        *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG),
        # The file may not be read, or its blocks cannot be read.
        *(errno.EACCES, errno.EPERM, errno.EIO, errno.ENXIO),
        # The file system does not support its name or its size.
        *(errno.EINVAL, errno.EILSEQ, errno.EOVERFLOW),
    }
)


def concerns_single_file(error: OSError) -> bool:
    """Whether an error concerns only the file it names, so that the run can go on without it.

    Other errors, such as too many open files or a lost disk, would make good files look bad. They
    must end the run.
    """
    return error.errno in _SINGLE_FILE_ERRNOS


@dataclass(frozen=True, slots=True)
class Rejection:
    """One input that was left out of the output files.

    Args:
        path: the image or annotation file, relative to the raw directory, `/` separated.
        stage: the stage that rejected it.
        reason: machine-readable kind of the failure, such as ``missing_image`` or ``truncated``.
        message: the values found and expected, for people.
    """

    path: str
    stage: Stage
    reason: str
    message: str

    @property
    def identity(self) -> tuple[str, Stage, str]:
        """Equal for rejections of the same input for the same reason; messages are left out."""
        return self.path, self.stage, self.reason

    @property
    def by_rules(self) -> bool:
        """Whether nothing is wrong: the user's own rules left no object in the image."""
        return self.stage == "rules"


@dataclass(frozen=True, slots=True)
class Dropped:
    """One box or set of points that was left out of an image that was stored.

    Args:
        image: the image, relative to the raw directory.
        file: the annotation file.
        place: the line, object or list entry in it, such as ``line 3``.
        reason: machine-readable, such as ``inverted`` or ``crowd``.
        category: its category.
        values: the box x1, y1, x2, y2 as the annotations give it, or x, y, visibility of each
            point.
    """

    image: str
    file: str
    place: str
    reason: str
    category: str
    values: list[float]


@dataclass(frozen=True, slots=True)
class Note:
    """One case that a harmless rule settled, or one thing that the user should know.

    Args:
        kind: machine-readable, such as ``unlisted_images``.
        path: the image, folder or annotation file that the note is about.
        message: the case in words, for people.
        count: how many images or objects the note is about.
    """

    kind: str
    path: str
    message: str
    count: int = 1


def count_notes(notes: Iterable[Note]) -> Counter[str]:
    """How many images or objects the notes of each kind are about, in the order of the notes."""
    counts: Counter[str] = Counter()
    for note in notes:
        counts[note.kind] += note.count
    return counts
