"""The leftovers of an earlier run in an output directory, and whether they can be used.

A killed run leaves its journal and files ``NAME.npz.partial``. A run of the same inputs and options
continues them. Any other run keeps their rows for `EarlierRows`, as files ``NAME.npz.earlier``,
until it has published its own files. Disks and people change files between two runs, so everything
is compared with its checksums before it is used.
"""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np
from isal.isal_zlib import crc32
from numpy.typing import NDArray

from processing.core.columns import Column
from processing.core.error_notes import with_filename
from processing.core.errors import NPZFormatError
from processing.core.files import sync_directory
from processing.npz.contents import Contents
from processing.npz.mapped import MappedNPZ
from processing.npz.verify import verify_columns
from processing.npz.writer import NPZWriter
from processing.run.dataset_writer import write_columns
from processing.run.earlier_files import (
    IMAGE_KEYS,
    RUN,
    earlier_paths,
    keys_of_earlier,
)
from processing.run.image_member import LENGTHS, ImageMember
from processing.run.journal import (
    Block,
    FlushRecord,
    Journal,
    JournalHeader,
    header_of,
    refuse_used,
)
from processing.run.output_directory import (
    JOURNAL_NAME,
    earlier_path,
    file_names,
    npz_path,
    partial_lists,
    partial_path,
    stored_metadata,
)

_LOG = logging.getLogger(__name__)


def continued_journal(directory: Path, header: JournalHeader) -> Journal | None:
    """Opens the journal of a killed run, if that run can be continued.

    Args:
        directory: the output directory.
        header: of the run that wants to continue.

    Returns:
        The journal, locked; None if there is none of this run, or its files differ from it. The
        images may have changed since: ``journal.header.inputs`` tells.

    Raises:
        InterferenceError: another process has the journal open.
    """
    path = directory / JOURNAL_NAME
    refuse_used(path)
    stored = header_of(path)
    if stored is None or msgspec.structs.replace(stored, inputs=header.inputs) != header:
        return None
    with contextlib.ExitStack() as unless_continued:
        journal = Journal(path, stored)
        unless_continued.callback(journal.close)
        if _matches_its_files(directory, journal):
            unless_continued.pop_all()
            return journal
    _LOG.warning("%s: the files differ from the journal; beginning again", path)
    return None


def _matches_its_files(directory: Path, journal: Journal) -> bool:
    """Whether the run's files hold everything that its journal promises."""
    content_ids = journal.progress.content_ids
    if content_ids is not None:
        names = journal.header.outputs
        return all(_is_whole(directory, name, content_ids.get(name)) for name in names)
    with contextlib.ExitStack() as opened:
        files = {}
        for name, images in journal.header.outputs.items():
            partial = partial_path(directory, name)
            if not journal.progress.rows[name]:
                continue  # a file without durable rows need not exist
            if not partial.exists():
                return False
            opened.enter_context(with_filename(partial))  # closing may fail as well
            file = opened.enter_context(partial.open("rb"))
            with with_filename(partial):
                file.seek(images.end(0, 0))
            files[name] = partial, file, images
        for record in journal.records():
            if isinstance(record, FlushRecord):
                for name, (partial, file, images) in files.items():
                    with with_filename(partial):
                        if not _next_rows_match(file, images, record.blocks[name]):
                            return False
    return True


def _next_rows_match(file: IO[bytes], images: ImageMember, block: Block) -> bool:
    lengths = images.row_lengths(block.rows, block.columns.get(LENGTHS, b"")).tolist()
    checksums = np.frombuffer(block.columns["image_crc32"], "<u4").tolist()
    return all(
        crc32(file.read(length)) == checksum
        for length, checksum in zip(lengths, checksums, strict=True)
    )


def _is_whole(directory: Path, name: str, content_id: int | None) -> bool:
    """Whether a finished file exists, renamed or not, and every byte is as it was written."""
    partial = partial_path(directory, name)
    try:
        npz = MappedNPZ(partial if partial.exists() else npz_path(directory, name))
        if npz.content_id != content_id:
            return False
        verify_columns(Contents.read(npz, will_gather=False))
    except (FileNotFoundError, NPZFormatError):
        return False
    return True


def set_aside(directory: Path) -> None:
    """Moves the rows of an abandoned run out of the way of a new run.

    If two runs were abandoned one after the other, the rows of the run with more reusable rows are
    kept. The function can be interrupted anywhere: calling it again leads to the same files.
    """
    path = directory / JOURNAL_NAME
    header = header_of(path)
    if header is not None:
        with contextlib.closing(Journal(path, header)) as journal:
            if _is_to_be_kept(directory, journal):
                try:
                    _keep_rows(directory, journal)
                except OSError as error:
                    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                        raise
                    # The rows only save work, and deleting them makes room for this run.
                    _LOG.warning("no space to keep the rows of an interrupted run: %s", error)
    remove_leftovers(directory)


def _is_to_be_kept(directory: Path, journal: Journal) -> bool:
    """Whether to keep the rows of an abandoned run; deletes those of the run before it, if so."""
    # Files of the run itself were made before this function was interrupted.
    runs = {path: stored_metadata(path).get(RUN) for path in earlier_paths(directory)}
    of_older = [path for path, run in runs.items() if run != _run_of(journal, path)]
    older_keys = [keys_of_earlier(path) for path in of_older]
    keys = np.array(journal.progress.image_keys, np.uint64)
    if not _is_worth_more(_reusable(keys), _reusable(np.concatenate([keys[:0], *older_keys]))):
        return False
    for path in of_older:
        path.unlink()
    sync_directory(directory)  # before files of the other run take these names
    return True


def _run_of(journal: Journal, earlier: Path) -> list[Any]:
    return [journal.header.key + journal.header.inputs, journal.progress.images_done, earlier.name]


def _reusable(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return np.unique(keys[keys != 0])  # 0: the image was rejected and has no rows


def _is_worth_more(new: NDArray[np.uint64], old: NDArray[np.uint64]) -> bool:
    """Estimates which of two killed runs has more reusable rows: whether it is the newer one.

    Both processed the same prefix of images. The share of the older run's keys that the newer run
    has too, within the shorter prefix, estimates the share of the older run that is still valid.
    """
    both = np.isin(new, old).sum()
    # both / min(new, old) estimates the valid share of the older run, which has `old` rows.
    return len(new) * min(len(new), len(old)) >= both * len(old) and len(new) > 0


def _keep_rows(directory: Path, journal: Journal) -> None:
    """Finishes the partial files of an abandoned run as ``NAME.npz.earlier``, in one pass."""
    progress, writers, columns = journal.progress, {}, {}
    with contextlib.ExitStack() as opened:
        for name, images in journal.header.outputs.items():
            partial, rows = partial_path(directory, name), progress.rows[name]
            end = images.end(rows, progress.encoded_bytes[name])
            if not rows or not partial.exists() or partial.stat().st_size < end:
                continue  # nothing to keep, or already kept, or lost
            writers[name] = opened.enter_context(contextlib.closing(NPZWriter(partial)))
            length = images.length(rows, progress.encoded_bytes[name])
            writers[name].begin(images.name, np.uint8, images.row_shape, rows=length)
            characters = progress.column_bytes[name]["image_paths"] // (4 * rows)
            columns[name] = (Column("image_paths", f"<U{characters}"), Column("image_crc32", "<u4"))
        keys = _reusable(np.array(progress.image_keys, np.uint64))
        write_columns(journal, writers, columns)
        for name, writer in writers.items():
            writer.write(IMAGE_KEYS, keys)
            run = _run_of(journal, earlier_path(directory, name))
            writer.write("metadata", np.array(msgspec.json.encode({RUN: run}).decode()))
            writer.finish()
    for name in writers:
        partial_path(directory, name).replace(earlier_path(directory, name))
    sync_directory(directory)  # the journal, which alone explains a partial file, goes next


def delete_published_run(directory: Path, names: Collection[str]) -> None:
    """Deletes the leftovers of a killed run, unless it was making other files as well.

    Args:
        directory: the output directory.
        names: of files that are up to date. If the killed run made others, it can be continued.
    """
    header = header_of(directory / JOURNAL_NAME)
    outputs = header.outputs if header else ()
    if not any(partial_path(directory, name).exists() for name in set(outputs).difference(names)):
        remove_leftovers(directory)


def remove_leftovers(directory: Path) -> None:
    """Deletes the journal of a run and all partial files."""
    for name in file_names(directory):
        partial_path(directory, name).unlink(missing_ok=True)
    for path in partial_lists(directory):
        path.unlink(missing_ok=True)
    (directory / JOURNAL_NAME).unlink(missing_ok=True)
