"""An output directory: what may lie in it, who may write to it, and what its files say."""

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
from processing.core.errors import NPZFormatError, Rejection
from processing.core.files import remove_durably, write_durably
from processing.imaging.tasks import TASKS
from processing.npz.contents import Contents
from processing.npz.mapped import MappedNPZ

_LOG = logging.getLogger(__name__)

LOCK_NAME: Final = "processing.lock"
JOURNAL_NAME: Final = "processing.journal"
INPUTS_CACHE_NAME: Final = "processing.inputs.cache"
ROWS_CACHE_NAME: Final = "processing.rows.cache"

FILE_NAMES: Final = tuple(f"{split}_{task}" for split in SPLITS for task in TASKS)
"""Names of all NPZ files that a run may write, without endings."""


def npz_path(directory: Path, name: str) -> Path:
    """Where a file is published."""
    return directory / f"{name}.npz"


def partial_path(directory: Path, name: str) -> Path:
    """Where a file is written, until all files of its run are finished."""
    return directory / f"{name}.npz.partial"


def earlier_path(directory: Path, name: str) -> Path:
    """Where the rows are kept that an abandoned run has written of a file."""
    return directory / f"{name}.npz.earlier"


def task_of(path: Path) -> str:
    """The name of the task that a file is of, whatever its ending."""
    return path.name.partition(".")[0].partition("_")[2]


def rejections_path(npz: Path) -> Path:
    """Where the inputs are listed that `npz` lacks: ``NAME.rejected.jsonl``."""
    return npz.with_suffix(".rejected.jsonl")


_PATHS: Final = (npz_path, partial_path, earlier_path)


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[bool]:
    """Holds the directory's lock, which goes with its process; gives whether it was waited for.

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
                "(Ctrl-C stops this one alone)",
                directory,
            )
            waited = True
            lock.acquire()
    try:
        yield waited
    finally:
        lock.release()


def _all_paths(directory: Path) -> Iterator[Path]:
    """Everything that any run may write, and what is written meanwhile."""
    helpers = (LOCK_NAME, JOURNAL_NAME, INPUTS_CACHE_NAME, ROWS_CACHE_NAME)
    yield from (directory / name for name in helpers)
    for name in FILE_NAMES:
        yield from (path_of(directory, name) for path_of in _PATHS)
        yield rejections_path(npz_path(directory, name))


def refuse_other_kinds(directory: Path) -> None:
    """Makes sure that what has a name of ours is a file.

    Raises:
        FileExistsError: a folder, pipe, socket or device.
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
    """The metadata of a file of ours; empty where there is none, or it is damaged."""
    try:
        return msgspec.json.decode(str(MappedNPZ(npz)["metadata"]), type=dict[str, Any])
    except (FileNotFoundError, NPZFormatError, KeyError, msgspec.DecodeError):
        return {}


def sound_metadata(npz: Path) -> dict[str, Any]:
    """The metadata of a file of ours; empty where there is none, or no dataset can be opened."""
    try:
        return dict(Contents.read(MappedNPZ(npz), will_gather=False).metadata)
    except (FileNotFoundError, NPZFormatError):
        return {}


def write_rejections(npz: Path, rejections: Sequence[Rejection]) -> None:
    """Lists what was left out, one JSON object a line; no list where that is nothing."""
    if rejections:
        lines = [msgspec.json.encode(rejection) + b"\n" for rejection in rejections]
        write_durably(rejections_path(npz), b"".join(lines))
    else:
        remove_durably(rejections_path(npz))


def read_rejections(npz: Path) -> list[Rejection]:
    """What is listed; nothing where there is no list, or it is damaged."""
    try:
        with with_filename(rejections_path(npz)):
            lines = rejections_path(npz).read_bytes().splitlines()
        return [msgspec.json.decode(line, type=Rejection) for line in lines]
    except (FileNotFoundError, msgspec.DecodeError):
        return []


def rejections_crc32(rejections: Iterable[Rejection]) -> int:
    """What tells lists of rejections apart."""
    return crc32(msgspec.json.encode([rejection.identity for rejection in rejections]))


def remove_orphaned_lists(directory: Path) -> None:
    """Removes the lists of files that are not there: a killed run had written them."""
    for npz in (npz_path(directory, name) for name in FILE_NAMES):
        if not npz.exists() and rejections_path(npz).exists():
            remove_durably(rejections_path(npz))


def remove_obsolete(directory: Path, tasks: Iterable[str], planned: Iterable[str]) -> list[str]:
    """Removes files of splits that the data has no longer, whose images are elsewhere now.

    Args:
        directory: the output directory.
        tasks: names of the tasks that were made; files of others stay.
        planned: names of the files that belong there.

    Returns:
        Names of the files removed. Only files of ours are, never one without our metadata.
    """
    ours = {f"{split}_{task}" for split in SPLITS for task in tasks}
    removed = []
    for name in sorted(ours - set(planned)):
        npz = npz_path(directory, name)
        if "recipe" in stored_metadata(npz):
            remove_durably(rejections_path(npz))  # first: nobody would look for it without the file
            npz.unlink()
            removed.append(npz.name)
    return removed
