"""What an earlier run has left in an output directory, and whether it is still what that run wrote.

A file is called ``NAME.npz.partial`` until all of its run are finished. Disks and people change
files between two runs, so what is continued is compared with its checksums first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable
from math import prod
from pathlib import Path

import numpy as np
from isal.isal_zlib import crc32

from processing.core.errors import NPZFormatError
from processing.core.files import NamedFile
from processing.npz.contents import Contents
from processing.npz.mapped import MappedNPZ
from processing.npz.verify import verify_columns
from processing.npz.writer import first_member_end
from processing.run.journal import header_of
from processing.run.output_directory import FILE_NAMES, JOURNAL_NAME, npz_path, partial_path


def holds_rows(partial: Path, image_size: tuple[int, int], row_crc32: Iterable[int]) -> bool:
    """Whether a file begins with image rows of these checksums; one of none need not be there."""
    expected = iter(row_crc32)
    if not partial.exists():
        return next(expected, None) is None
    row_shape = (*image_size, 3)
    with contextlib.closing(NamedFile(partial, "rb")) as file:
        file.seek(first_member_end("images", np.uint8, row_shape, 0))
        return all(crc32(file.read(prod(row_shape))) == checksum for checksum in expected)


def is_whole(directory: Path, name: str, content_id: int) -> bool:
    """Whether a finished file is there, renamed or not, and every byte is as it was written."""
    partial = partial_path(directory, name)
    try:
        npz = MappedNPZ(partial if partial.exists() else npz_path(directory, name))
        if npz.content_id != content_id:
            return False
        verify_columns(Contents.read(npz, will_gather=False))
    except (FileNotFoundError, NPZFormatError):
        return False
    return True


def delete_published_run(directory: Path, names: Collection[str]) -> None:
    """Removes what is of no use any more where files are up to date.

    Args:
        directory: the output directory.
        names: of those files. What a killed run has made of others is kept, to be continued.
    """
    header = header_of(directory / JOURNAL_NAME)
    outputs = header.outputs if header else ()
    if not any(partial_path(directory, name).exists() for name in set(outputs).difference(names)):
        remove_leftovers(directory)


def remove_leftovers(directory: Path) -> None:
    """Removes the journal of a run and all partial files."""
    for name in FILE_NAMES:
        partial_path(directory, name).unlink(missing_ok=True)
    (directory / JOURNAL_NAME).unlink(missing_ok=True)
