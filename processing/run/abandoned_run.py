"""AbandonedRun: rows that a killed run had made when its inputs or options changed.

Such a run cannot be continued, but most of its rows are still right. Its journal and partial files
are set aside as ``….earlier`` when the next run begins, and go when that one has published.
Read-only once it is made, safe from several threads.
"""

from __future__ import annotations

import contextlib
import logging
from array import array
from collections import defaultdict
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
from isal.isal_zlib import crc32
from numpy.typing import NDArray

from processing.core.files import NamedFile, sync_directory
from processing.npz.writer import first_member_end
from processing.run.journal import header_of, is_finished, records_of
from processing.run.leftovers import remove_leftovers
from processing.run.output_directory import (
    EARLIER_JOURNAL_NAME,
    FILE_NAMES,
    JOURNAL_NAME,
    earlier_path,
    partial_path,
)

_LOG = logging.getLogger(__name__)


def set_aside(directory: Path) -> None:
    """Makes room for another run; one of two that were abandoned is kept."""
    journal, abandoned = directory / JOURNAL_NAME, directory / EARLIER_JOURNAL_NAME
    if journal.exists():
        if not _is_worth_more(_image_keys(journal), _usable_keys(directory)):
            remove_leftovers(directory)
            return
        delete_abandoned_run(directory)
        journal.replace(abandoned)
        sync_directory(directory)  # without it what is set aside next is of no use
    header = header_of(abandoned)  # also of one whose files a killed run has not all renamed
    for name in FILE_NAMES:
        partial = partial_path(directory, name)
        if header is not None and name in header.outputs and partial.exists():
            partial.replace(earlier_path(directory, name))
    remove_leftovers(directory)  # partial files that no journal speaks of
    sync_directory(directory)


def delete_abandoned_run(directory: Path) -> None:
    """Removes what was set aside, if anything was."""
    for name in FILE_NAMES:
        earlier_path(directory, name).unlink(missing_ok=True)
    (directory / EARLIER_JOURNAL_NAME).unlink(missing_ok=True)


def abandoned_bytes(directory: Path) -> int:
    """What `delete_abandoned_run` would free."""
    files = [directory / EARLIER_JOURNAL_NAME, *(earlier_path(directory, n) for n in FILE_NAMES)]
    return sum(file.stat().st_size for file in files if file.exists())


def _is_worth_more(new: NDArray[np.uint64], old: NDArray[np.uint64]) -> bool:
    """Whether a killed run's rows are of more use than those of one that was killed before it.

    Both have begun with the same images. The share of the older's that the newer has made in the
    same way, among as many as both have, is taken for the share of them that still hold.
    """
    both = np.isin(new, old).sum()
    return len(new) * min(len(new), len(old)) >= both * len(old) and len(new) > 0


def _usable_keys(directory: Path) -> NDArray[np.uint64]:
    """What the run that was set aside has made rows of; nothing where files of it are lost.

    Those of one that had finished all files may be published.
    """
    abandoned = directory / EARLIER_JOURNAL_NAME
    header = header_of(abandoned)
    names = header.outputs if header else ()
    whole = all(earlier_path(directory, name).exists() for name in names) or is_finished(abandoned)
    return _image_keys(abandoned) if whole else np.zeros(0, np.uint64)


def _image_keys(journal: Path) -> NDArray[np.uint64]:
    """What a run has made rows of."""
    keys = [np.array(record.image_keys, np.uint64) for record in records_of(journal)]
    all_keys = np.concatenate([np.zeros(0, np.uint64), *keys])
    rows_of: NDArray[np.uint64] = all_keys[all_keys != 0]  # an image that was left out has none
    return rows_of


class _Rows(NamedTuple):
    """Where the rows of each image are in one file.

    Args:
        file: where they lie.
        row_shape: of an image as it is stored.
        keys: uint64 (N,), ascending: what each image's rows were made of and how.
        firsts: int64 (N,), the first row of each.
        counts: int64 (N,), how many they are.
        crc32: uint32 (R,), of each row's pixels.
    """

    file: Path
    row_shape: tuple[int, int, int]
    keys: NDArray[np.uint64]
    firsts: NDArray[np.int64]
    counts: NDArray[np.int64]
    crc32: NDArray[np.uint32]

    def find(self, key: int) -> slice | None:
        """The rows made of `key`; None if the run has not had it."""
        at = int(np.searchsorted(self.keys, np.uint64(key)))
        if at == len(self.keys) or self.keys[at] != key:
            return None
        return slice(int(self.firsts[at]), int(self.firsts[at] + self.counts[at]))

    def read(self, rows: slice) -> NDArray[np.uint8] | None:
        """uint8 (k, H, W, 3), a copy; None if they are not as they were written."""
        count, row_bytes = rows.stop - rows.start, prod(self.row_shape)
        if not self.file.exists():  # it has been published, or was lost
            return None
        with contextlib.closing(NamedFile(self.file, "rb")) as file:
            file.seek(first_member_end("images", np.uint8, self.row_shape, rows.start))
            content = file.read(count * row_bytes)
        if len(content) < count * row_bytes:
            return None
        images = np.frombuffer(content, np.uint8).reshape(count, *self.row_shape)
        return images if [crc32(image) for image in images] == self.crc32[rows].tolist() else None


class AbandonedRun:
    """The rows of the run that was set aside in an output directory; there may be none.

    Args:
        directory: the output directory.
    """

    def __init__(self, directory: Path) -> None:
        self._files: dict[str, list[_Rows]] = defaultdict(list)
        self._damaged: set[Path] = set()  # said once of each
        header = header_of(directory / EARLIER_JOURNAL_NAME)
        if header is None:
            return
        keys = array("Q")  # a list: five times as much
        counts = {name: array("Q") for name in header.outputs}
        checksums = {name: bytearray() for name in header.outputs}
        for record in records_of(directory / EARLIER_JOURNAL_NAME):
            keys.extend(record.image_keys)
            for name, block in record.blocks.items():
                counts[name].extend(block.image_rows)
                checksums[name] += block.columns["image_crc32"]
        order = np.argsort(np.array(keys, np.uint64))
        ascending = np.array(keys, np.uint64)[order]
        for name, (height, width) in header.outputs.items():
            count = np.array(counts[name], np.int64)
            self._files[name.partition("_")[2]].append(
                _Rows(
                    earlier_path(directory, name),
                    (height, width, 3),
                    ascending,
                    (np.cumsum(count) - count)[order],
                    count[order],
                    np.frombuffer(bytes(checksums[name]), "<u4"),
                )
            )

    def find(self, task: str, path: str, key: int) -> NDArray[np.uint8] | None:
        """The images that the run had made for a task of one photograph.

        Args:
            task: name of the task.
            path: the photograph.
            key: what they were made of and how.

        Returns:
            uint8 (k, H, W, 3), a copy, in the order of the rows, which all lie in one file; None if
            the run had not made them, or they are damaged.
        """
        found = None
        for file in self._files.get(task, ()):
            rows = file.find(key)
            if rows is None:
                return None  # no file of the run has it
            if found is None or rows.stop > rows.start:
                found = file, rows
        if found is None:
            return None
        file, rows = found
        if rows.start == rows.stop:
            return np.empty((0, *file.row_shape), np.uint8)
        images = file.read(rows)
        if images is None and file.file not in self._damaged:
            self._damaged.add(file.file)
            _LOG.warning("%s: rows of %s are lost or damaged and made anew", file.file, path)
        return images
