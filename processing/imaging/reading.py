"""Reads the bytes of one file of the raw directory.

Annotations name these files, so a name may be absent, a folder, a pipe, or a link that leads
to another disk. Safe from any thread.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from processing.core.error_notes import with_filename
from processing.core.errors import ImageError, concerns_single_file
from processing.imaging.decoding import MAX_PIXELS

MAX_FILE_BYTES: Final = 8 * MAX_PIXELS
"""Larger files are refused unread. The largest image accepted takes less: 4 channels of 16 bits."""

_READ_AT_ONCE: Final = 1 << 20
_READING: Final = os.O_RDONLY | getattr(os, "O_BINARY", 0)  # Windows would change line ends


def read_inside(raw_dir: Path, path: str, *, follow_links: bool = True, hint: str = "") -> bytes:
    """Reads a file of the raw directory.

    Args:
        raw_dir: the raw directory.
        path: the file, relative to it, ``/`` separated.
        follow_links: whether links may lead out of the directory.
        hint: a remedy, added to the message if there is no such file.

    Raises:
        ImageError: the file is absent, unreadable, too large, not a regular file, or outside the
            directory.
        OSError: a failure that may concern other files as well, such as too many open files.
    """
    # Strings and `os` calls: this runs once per image, and Path would take twice the time.
    file = os.fspath(raw_dir) + "/" + path
    try:
        if ".." in path.split("/"):
            file = _resolve_inside(raw_dir, path)
        if not follow_links:
            file = _refuse_links_out(raw_dir, path)
        with with_filename(file):
            return _read_file(file)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageError(_describe_missing(raw_dir, path, hint), "missing_image") from error
    except OSError as error:
        if not concerns_single_file(error):
            raise
        raise ImageError(error.strerror or str(error), "unreadable") from error


def _read_file(file: str) -> bytes:
    """Reads a regular file by four system calls.

    During each, the other decoding threads take the interpreter, and this one has to wait for its
    turn. A file object makes nine.
    """
    status = os.stat(file)  # noqa: PTH116 - Path would take twice the time
    # Opening a pipe would block until another program writes to it.
    if not stat.S_ISREG(status.st_mode):
        found = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, socket or device"
        raise ImageError(f"{found}: expected a file", "not_a_file")
    # Check the size first, because `read` takes memory for the whole file.
    size = status.st_size
    if size > MAX_FILE_BYTES:
        raise ImageError(f"{size:,} bytes: expected at most {MAX_FILE_BYTES:,}", "too_large")
    descriptor = os.open(file, _READING)
    try:
        data = os.read(descriptor, size + 1)
        return data if len(data) == size else data + _rest(descriptor)
    finally:
        os.close(descriptor)


def _rest(descriptor: int) -> bytes:
    """Reads on to the end: the file has changed its size, or its system reads it in pieces."""
    pieces = []
    while piece := os.read(descriptor, _READ_AT_ONCE):
        pieces.append(piece)
    return b"".join(pieces)


def _describe_missing(raw_dir: Path, path: str, hint: str) -> str:
    """Explains why a file is missing: a link on the way may lead to nothing."""
    file = raw_dir
    for part in path.split("/"):
        file = file / part
        if file.is_symlink() and not file.exists():
            of_path = "" if file == raw_dir / path else f"'{file.relative_to(raw_dir)}' is "
            return (
                f"{of_path}a link to '{file.readlink()}', where nothing is: fetch the content "
                "(git-annex: `git annex get`, DVC: `dvc pull`), or copy it here"
            )
    if hint:
        return f"does not exist; {hint}"
    return "no such file below the raw directory, although an annotation lists it"


def _refuse_links_out(raw_dir: Path, path: str) -> str:
    """Looks for links in a path, and follows them if they stay in the raw directory.

    Raises:
        ImageError: they lead out of it.
        OSError: there is no such file.
    """
    file = os.fspath(raw_dir)
    # Each part is looked at, because a folder on the way may be the link that leads out.
    for part in path.split("/"):
        file = f"{file}/{part}"
        if stat.S_ISLNK(os.lstat(file).st_mode):
            return _resolve_inside(raw_dir, path)
    return file


def _resolve_inside(raw_dir: Path, path: str) -> str:
    """Follows the links in a path.

    Raises:
        ImageError: they lead out of the raw directory.
    """
    real, root = os.path.realpath(raw_dir / path), os.path.realpath(raw_dir)
    if os.path.commonpath([real, root]) != root:
        raise ImageError(f"leads out of the raw directory, to {real}", "outside_raw_dir")
    return real
