"""An output directory: the names of its files, its lock, and the metadata of published files.

The only module that knows the name of a file in an output directory. Besides the published files
and their lists of rejected inputs and dropped instances, a directory may hold:

    processing.lock            held by the process that writes there
    processing.journal         how far a run has come; goes when it has published
    NAME.npz.partial           a file of that run, not finished
    NAME.npz.earlier           rows of an abandoned run, until the next run has published
    processing.inputs.cache    checksums of the input images
    processing.rows.cache      keys of the images of the published files
    processing.notes.jsonl     notes on the annotations
    processing.shards/SHARD/   all of these for the run of one shard, ``train-00003-of-00012``

The directory of a shard is an output directory of its own, but for the published files: these and
their lists are in the directory above, under names that end with the number of the shard.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from filelock import FileLock, Timeout
from isal.isal_zlib import crc32

from processing.core.annotations import SPLITS
from processing.core.error_notes import with_filename
from processing.core.errors import InterferenceError, Note, NPZFormatError, Rejection
from processing.core.files import remove_durably, write_durably, written_durably
from processing.imaging.tasks import TASKS
from processing.npz.contents import Contents
from processing.npz.lists import DROPPED_ENDING, REJECTED_ENDING
from processing.npz.mapped import MappedNPZ
from processing.npz.sets import Shard

_LOG = logging.getLogger(__name__)

LOCK_NAME: Final = "processing.lock"
JOURNAL_NAME: Final = "processing.journal"
INPUTS_CACHE_NAME: Final = "processing.inputs.cache"
ROWS_CACHE_NAME: Final = "processing.rows.cache"
NOTES_NAME: Final = "processing.notes.jsonl"
CACHE_NAMES: Final = (INPUTS_CACHE_NAME, ROWS_CACHE_NAME)

SHARDS_NAME: Final = "processing.shards"
_SHARD_NAME: Final = re.compile(rf"({'|'.join(SPLITS)})(-[0-9]{{5,}}-of-[0-9]{{5,}})")


def shard_directory(directory: Path, split: str, shard: Shard) -> Path:
    """The directory of the run that makes one shard."""
    return directory / SHARDS_NAME / f"{split}{shard.ending}"


def shard_of(directory: Path) -> re.Match[str] | None:
    """Split and ending of the shard that a directory is of; None for any other directory."""
    if directory.parent.name != SHARDS_NAME:
        return None
    return _SHARD_NAME.fullmatch(directory.name)


def file_names(directory: Path) -> tuple[str, ...]:
    """Names of all NPZ files that a run in this directory may write, without endings."""
    shard = shard_of(directory)
    splits = SPLITS if shard is None else (shard[1],)
    return tuple(f"{split}_{task}" for split in splits for task in TASKS)


def npz_path(directory: Path, name: str) -> Path:
    """The published file."""
    shard = shard_of(directory)
    if shard is not None:
        return directory.parent.parent / f"{name}{shard[2]}.npz"
    return directory / f"{name}.npz"


def partial_path(directory: Path, name: str) -> Path:
    """The file while it is written, until all files of its run are finished."""
    return directory / f"{name}.npz.partial"


def earlier_path(directory: Path, name: str) -> Path:
    """The rows of that file that an abandoned run had written."""
    return directory / f"{name}.npz.earlier"


def task_of(path: Path) -> str:
    """The name of the task that a file is of, whatever its ending."""
    return path.name.partition(".")[0].partition("-")[0].partition("_")[2]


def rejections_path(npz: Path) -> Path:
    """The list of inputs that a file lacks."""
    return npz.with_suffix(REJECTED_ENDING)


def dropped_path(npz: Path) -> Path:
    """The list of instances and points that the images of a file lack."""
    return npz.with_suffix(DROPPED_ENDING)


def partial_lists(directory: Path) -> list[Path]:
    """Lists that a killed run had not finished."""
    names = file_names(directory)
    paths = [path for name in names for path in list_paths(npz_path(directory, name))]
    return [path.with_name(f"{path.name}.partial") for path in paths]


def list_paths(npz: Path) -> tuple[Path, Path]:
    """All lists of a file."""
    return rejections_path(npz), dropped_path(npz)


_worked_on: Final[set[tuple[int, str]]] = set()
"""Directories that a processor of this process works in, with the number of the process: a process
that is forked meanwhile does not work there."""
_worked_on_lock: Final = threading.Lock()


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[bool]:
    """Holds the directory's lock. The system releases it when the process ends.

    Yields:
        Whether the lock was held by another process before.

    Raises:
        InterferenceError: another processor of this process works there. Unlike one of another
            process, it is almost always there by mistake: it would replace these files.
        OSError: the file cannot be locked.
    """
    with _noted_as_worked_on(directory), _locked(directory) as waited:
        yield waited


@contextlib.contextmanager
def _noted_as_worked_on(directory: Path) -> Iterator[None]:
    key = os.getpid(), os.path.realpath(directory)  # the same for links and for ``a/../b``
    with _worked_on_lock:
        if key in _worked_on:
            raise InterferenceError(
                f"{directory}: another processor of this process works there at this moment, and "
                "would replace these files: give each processor its own output_dir"
            )
        _worked_on.add(key)
    try:
        yield
    finally:
        with _worked_on_lock:
            _worked_on.discard(key)


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[bool]:
    path = directory / LOCK_NAME
    lock = FileLock(path)
    waited = False
    with with_filename(path):
        try:
            lock.acquire(blocking=False)
        except Timeout:
            _LOG.warning(
                "%s: another process works there; waiting until it is done, as long as that takes "
                "(Ctrl-C stops only this process)",
                directory,
            )
            waited = True
            lock.acquire()  # for as long as it takes: the other process may have days of work
    try:
        yield waited
    finally:
        lock.release()


def stored_metadata(npz: Path) -> dict[str, Any]:
    """The metadata of a file that this package wrote; empty if there is none, or it is damaged."""
    try:
        return msgspec.json.decode(str(MappedNPZ(npz)["metadata"]), type=dict[str, Any])
    except (FileNotFoundError, NPZFormatError, KeyError, msgspec.DecodeError):
        return {}


def sound_metadata(npz: Path) -> dict[str, Any]:
    """The metadata of a file; empty unless a dataset can open the whole file."""
    try:
        return dict(Contents.read(MappedNPZ(npz), will_gather=False).metadata)
    except (FileNotFoundError, NPZFormatError):
        return {}


def write_rejections(npz: Path, rejections: Sequence[Rejection]) -> None:
    """Writes the list of inputs that a file lacks, one JSON object per line; no list if empty."""
    if rejections:
        lines = [msgspec.json.encode(rejection) + b"\n" for rejection in rejections]
        write_durably(rejections_path(npz), b"".join(lines))
    else:
        remove_durably(rejections_path(npz))


def read_rejections(npz: Path) -> list[Rejection]:
    """Reads the list of a file; empty if there is none, or it is damaged."""
    try:
        with with_filename(rejections_path(npz)):
            lines = rejections_path(npz).read_bytes().splitlines()
        return [msgspec.json.decode(line, type=Rejection) for line in lines]
    except (FileNotFoundError, msgspec.DecodeError):
        return []


def write_notes(directory: Path, notes: Sequence[Note]) -> Path | None:
    """Writes the list of notes, one JSON object per line, if its content changed.

    Returns:
        The list; None if there are no notes, and so no list.
    """
    path = directory / NOTES_NAME
    if not notes:
        if path.exists():
            remove_durably(path)
        return None
    # Encoded twice rather than held in memory: there may be a note for each of a million images.
    if differs(path, map(_json_line, notes)):
        with written_durably(path) as file:
            file.writelines(map(_json_line, notes))
    return path


def differs(path: Path, lines: Iterable[bytes]) -> bool:
    """Whether a file's content differs from `lines`; an absent file has no line."""
    try:
        with with_filename(path), path.open("rb") as file:
            return any(file.read(len(line)) != line for line in lines) or bool(file.read(1))
    except FileNotFoundError:
        return any(True for _ in lines)


def _json_line(entry: Any) -> bytes:
    return msgspec.json.encode(entry) + b"\n"


def rejections_crc32(rejections: Iterable[Rejection]) -> int:
    """A checksum that differs between lists with other entries; messages do not count."""
    return crc32(msgspec.json.encode([rejection.identity for rejection in rejections]))
