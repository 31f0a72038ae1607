"""Files that are whole under their name or absent, and caches that may be lost.

The order of calls is the one that survives a power cut on POSIX file systems: write, fsync, rename,
fsync of the directory.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from isal.isal_zlib import crc32
from numpy.typing import NDArray

from processing.core.error_notes import with_filename
from processing.core.errors import InterferenceError

try:
    import fcntl
except ImportError:  # Windows already keeps other processes from removing an open file
    fcntl = None  # type: ignore[assignment]  # mypy knows it as a module

_CHECKSUM_BYTES: Final = 4

_SYNCS_DIRECTORIES: Final = os.name != "nt"
"""Windows cannot open a directory, and makes names durable by itself."""

_REFUSALS: Final = (
    errno.EINVAL,
    errno.ENOSYS,
    errno.ENOTSUP,
    errno.ENOTTY,
    errno.EOPNOTSUPP,
)
"""Errors of file systems that do not know a call; network file systems know fewer of them."""


def open_exclusively(path: Path) -> IO[bytes]:
    """Creates a file that only this call can have created, for reading and writing.

    Raises:
        FileExistsError: something has that name, be it a link that leads nowhere.
        OSError: the file cannot be created.
    """
    with with_filename(path):
        return path.open("x+b")


def open_own(path: Path) -> IO[bytes]:
    """Opens an existing file for reading and writing, but never what a link of that name leads to.

    Raises:
        OSError: there is no such file, or it is a link (``ELOOP``).
    """
    with with_filename(path):
        return io.open(path, "r+b", opener=_without_links)  # noqa: UP020 - Path.open has no opener


def _without_links(path: str, flags: int) -> int:
    no_links = getattr(os, "O_NOFOLLOW", 0)  # Windows has no such flag
    if not no_links and os.path.islink(path):  # noqa: PTH114 - an opener gets text
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
    return os.open(path, flags | no_links)


def make_directory(directory: Path) -> None:
    """Creates a directory and its missing parents, and makes their names durable."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Makes the names in a directory durable, if its file system has a way to do so."""
    if not _SYNCS_DIRECTORIES:
        return
    with with_filename(directory):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            sync(descriptor)
        except OSError as error:
            if error.errno not in _REFUSALS:
                raise
        finally:
            os.close(descriptor)


def sync_file(file: IO[bytes]) -> None:
    """Makes everything that was written to a file durable."""
    file.flush()
    sync(file.fileno())


def sync(descriptor: int) -> None:
    """Makes everything that was written to an open file or directory durable.

    On macOS, `os.fsync` hands the data to the disk, which may still lose the content of its own
    cache in a power cut. ``F_FULLFSYNC`` waits until the disk has emptied its cache.

    Raises:
        OSError: the disk failed.
    """
    full_sync = getattr(fcntl, "F_FULLFSYNC", None)
    if full_sync is not None:
        try:
            fcntl.fcntl(descriptor, full_sync)
        except OSError as error:
            if error.errno not in _REFUSALS:
                raise
        else:
            return
    os.fsync(descriptor)


def lock_file(file: IO[bytes], path: Path) -> None:
    """Locks an open file against every other process, until it is closed.

    Raises:
        InterferenceError: another process has locked it.
        OSError: the file system has no locks.
    """
    if fcntl is None:
        return  # type: ignore[unreachable]  # mypy runs where the module exists
    try:
        with with_filename(path):
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InterferenceError(
            f"{path}: another process is writing it, although this process holds the lock of that "
            "directory: was a lock file deleted? Wait for that process, or stop it"
        ) from error


def write_durably(path: Path, content: bytes) -> None:
    """Replaces the content of `path` atomically."""
    with written_durably(path) as file:
        file.write(content)


@contextlib.contextmanager
def written_durably(path: Path) -> Iterator[IO[bytes]]:
    """Replaces the content of `path` atomically, through a file next to it, ``NAME.partial``.

    Yields:
        The file to write to. It takes its name when the context ends without an error.
    """
    partial = partial_of(path)
    partial.unlink(missing_ok=True)  # left by a killed process; a link is removed, not followed
    with with_filename(partial), open_exclusively(partial) as file:
        yield file
        sync_file(file)
    partial.replace(path)
    sync_directory(path.parent)


@contextlib.contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """Makes a directory that has all its files under its name, or is absent.

    Yields:
        ``NAME.partial``, a directory to write to. It takes its name when the context ends without
        an error; otherwise it is deleted.

    Raises:
        FileExistsError: something other than an empty directory has the name, or a killed process
            left the partial directory.
        OSError: the directory cannot be made.
    """
    if path.is_symlink() or (path.exists() and not (path.is_dir() and not any(path.iterdir()))):
        raise FileExistsError(
            f"{path}: is not an empty directory: choose another, or delete it first"
        )
    make_directory(path.parent)
    partial = partial_of(path)
    try:
        partial.mkdir()
    except FileExistsError as error:
        remedy = "was left by a killed process, or is being written: delete it if none is running"
        raise FileExistsError(errno.EEXIST, remedy, str(partial)) from error
    try:
        yield partial
        _sync_all(partial)
        if path.exists():
            path.rmdir()  # Windows renames to a free name only
        partial.rename(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)  # the first error is the one to report
        raise
    sync_directory(path.parent)


def _sync_all(directory: Path) -> None:
    """Makes a directory tree durable."""
    # One call: a million small files would take an hour, one after the other. On macOS, it would
    # return before the data is safe.
    if hasattr(os, "sync") and sys.platform != "darwin":
        os.sync()
        return
    for file in directory.rglob("*"):
        if file.is_file() and not file.is_symlink():  # a link leads to a file of the user
            with file.open("r+b") as opened:
                sync_file(opened)


def remove_durably(path: Path) -> None:
    """Removes `path` if it exists, and the partial file of a killed `write_durably`."""
    path.unlink(missing_ok=True)
    partial_of(path).unlink(missing_ok=True)
    sync_directory(path.parent)


def partial_of(path: Path) -> Path:
    """The file that `write_durably` writes before it gets its name."""
    return path.with_name(path.name + ".partial")


def read_cache(path: Path) -> dict[str, NDArray[Any]]:
    """Reads all arrays of a cache file, by name.

    Returns:
        The arrays; empty if there is no such file. A file that cannot be read, or differs from its
        checksum, is removed and counts as absent.
    """
    if not path.exists():
        return {}
    try:
        content = path.read_bytes()
    except OSError:
        content = b""
    if content[:_CHECKSUM_BYTES] != _checksum(content[_CHECKSUM_BYTES:]):
        path.unlink()  # the next run makes a new one
        return {}
    with np.load(io.BytesIO(content[_CHECKSUM_BYTES:]), allow_pickle=False) as stored:
        return dict(stored)


def write_cache(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Replaces a cache file atomically: the CRC-32 of an NPZ archive, then the archive."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    content = buffer.getvalue()
    write_durably(path, _checksum(content) + content)


def _checksum(content: bytes) -> bytes:
    return crc32(content).to_bytes(_CHECKSUM_BYTES, "little")
