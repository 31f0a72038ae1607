"""Whether the disk will hold what a run is about to write: asked before its first byte."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Final

import numpy as np

from processing.core.annotations import AnnotationTable
from processing.core.columns import Column
from processing.npz.format import ALIGNMENT
from processing.run.abandoned_run import abandoned_bytes, delete_abandoned_run
from processing.run.output_directory import JOURNAL_NAME, partial_path
from processing.run.plan import PlannedFile

_MEMBERS: Final = 6  # beside the columns: images, offsets of two, metadata, directory, rounding up
_BYTES_AN_IMAGE: Final = 2 * 12 + 16  # in the input cache, old and new; in the journal
_BYTES_A_KEY: Final = 3 * 8  # in the cache of rows: of the file before, and of this one twice


def ensure_space(
    directory: Path,
    files: Sequence[PlannedFile],
    table: AnnotationTable,
    *,
    continued: bool,
    finished: bool,
) -> None:
    """Refuses a run whose output would not fit beside what is there.

    Old files stay until new ones take their names, so their room is not counted as free; what is
    continued is counted. What was set aside is given up where there is no room for both.

    Args:
        directory: where the files go.
        files: the plan.
        table: the annotations.
        continued: whether what an interrupted run has left is continued.
        finished: whether it had made all files, and only names are left to change.

    Raises:
        OSError: ``ENOSPC``, with both numbers.
    """
    needed = _BYTES_AN_IMAGE * len(table)
    if continued:
        needed -= _size(directory / JOURNAL_NAME)
    for file in files:
        partial = partial_path(directory, file.name)
        is_published = finished and not partial.exists()
        needed += 0 if is_published else bytes_needed(file, table)
        needed -= _size(partial) if continued else 0
    free = shutil.disk_usage(directory).free
    if free < needed <= free + abandoned_bytes(directory):
        delete_abandoned_run(directory)
        free = shutil.disk_usage(directory).free
    if needed > free:
        raise OSError(
            errno.ENOSPC,
            f"the output may need {needed:,} bytes, {free:,} are free: "
            f"free some, choose another output_dir, or a smaller image_size",
            str(directory),
        )


def bytes_needed(file: PlannedFile, table: AnnotationTable) -> int:
    """What the file and its part of the journal take at most, list of rejections left out."""
    part = table.take(file.images)
    rows = file.task.most_rows(part)
    values = max(len(part.labels), len(part.points.values))  # of a ragged column
    columns = sum(
        (values if column.ragged else rows) * _value_bytes(column) + 8 * rows * column.ragged
        for column in file.output.columns
    )
    keys = _BYTES_A_KEY * len(file.images)
    padding = 2 * ALIGNMENT * (_MEMBERS + len(file.output.columns))
    return 3 * rows * prod(file.output.image_size) + 2 * columns + keys + padding


def _value_bytes(column: Column) -> int:
    return np.dtype(column.dtype).itemsize * prod(column.row_shape)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
