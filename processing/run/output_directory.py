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
"""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from filelock import FileLock, Timeout
from isal.isal_zlib import crc32

from processing.core.annotations import SPLITS
from processing.core.error_notes import with_filename
from processing.core.errors import Note, NPZFormatError, Rejection
from processing.core.files import remove_durably, write_durably, written_durably
from processing.imaging.tasks import TASKS
from processing.npz.contents import Contents
from processing.npz.mapped import MappedNPZ

_LOG = logging.getLogger(__name__)

LOCK_NAME: Final = "processing.lock"
JOURNAL_NAME: Final = "processing.journal"
INPUTS_CACHE_NAME: Final = "processing.inputs.cache"
ROWS_CACHE_NAME: Final = "processing.rows.cache"
NOTES_NAME: Final = "processing.notes.jsonl"

FILE_NAMES: Final = tuple(f"{split}_{task}" for split in SPLITS for task in TASKS)
"""Names of all NPZ files that a run may write, without endings."""


def npz_path(directory: Path, name: str) -> Path:
    """The published file."""
    return directory / f"{name}.npz"


def partial_path(directory: Path, name: str) -> Path:
    """The file while it is written, until all files of its run are finished."""
    return directory / f"{name}.npz.partial"


def earlier_path(directory: Path, name: str) -> Path:
    """The rows of that file that an abandoned run had written."""
    return directory / f"{name}.npz.earlier"


def task_of(path: Path) -> str:
    """The name of the task that a file is of, whatever its ending."""
    return path.name.partition(".")[0].partition("_")[2]


def rejections_path(npz: Path) -> Path:
    """The list of inputs that a file lacks."""
    return npz.with_suffix(".rejected.jsonl")


def dropped_path(npz: Path) -> Path:
    """The list of instances and points that the images of a file lack."""
    return npz.with_suffix(".dropped.jsonl")


def partial_lists(directory: Path) -> list[Path]:
    """Lists that a killed run had not finished."""
    paths = [path for name in FILE_NAMES for path in _list_paths(npz_path(directory, name))]
    return [path.with_name(f"{path.name}.partial") for path in paths]


def _list_paths(npz: Path) -> tuple[Path, Path]:
    return rejections_path(npz), dropped_path(npz)


_PATHS: Final = (npz_path, partial_path, earlier_path)


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[bool]:
    """Holds the directory's lock. The system releases it when the process ends.

    Yields:
        Whether the lock was held by another process before.

    Raises:
        OSError: the file cannot be locked.
    """
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


def _all_paths(directory: Path) -> Iterator[Path]:
    """All files that a run may write."""
    helpers = (LOCK_NAME, JOURNAL_NAME, INPUTS_CACHE_NAME, ROWS_CACHE_NAME, NOTES_NAME)
    yield from (directory / name for name in helpers)
    for name in FILE_NAMES:
        yield from (path_of(directory, name) for path_of in _PATHS)
        yield from _list_paths(npz_path(directory, name))


def refuse_other_kinds(directory: Path) -> None:
    """Checks that only regular files have the names that a run writes to.

    Raises:
        FileExistsError: a folder, pipe, socket or device has one.
    """
    for path in _all_paths(directory):
        if path.exists() and not path.is_file():
            raise FileExistsError(
                errno.EEXIST,
                "expected a file of ours, found something else: move it away, or choose another "
                "output_dir",
                str(path),
            )


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


def remove_orphaned_lists(directory: Path) -> None:
    """Deletes lists without their file, which a killed run left."""
    for npz in (npz_path(directory, name) for name in FILE_NAMES):
        for path in _list_paths(npz):
            if not npz.exists() and path.exists():
                remove_durably(path)


def remove_obsolete(directory: Path, tasks: Iterable[str], planned: Iterable[str]) -> list[str]:
    """Deletes files of splits that the data no longer has; their images are in other files now.

    Args:
        directory: the output directory.
        tasks: names of the tasks that were processed; files of other tasks stay.
        planned: names of the files that belong there.

    Returns:
        Names of the deleted files. A file without metadata of this package is never deleted.
    """
    # The images of an obsolete file are in other splits now: training on both would leak.
    ours = {f"{split}_{task}" for split in SPLITS for task in tasks}
    removed = []
    for name in sorted(ours - set(planned)):
        npz = npz_path(directory, name)
        if "recipe" in stored_metadata(npz):
            for path in _list_paths(npz):
                remove_durably(path)  # first: without their file, no run would find them
            npz.unlink()
            removed.append(npz.name)
    return removed
