"""Checks, before the first byte is written, that the disk will hold the files of a run."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Final

from processing.core.annotations import AnnotationTable
from processing.imaging.photographs import Photographs
from processing.run.earlier_files import delete_earlier, earlier_paths
from processing.run.output_directory import partial_path
from processing.run.plan import PlannedFile

_SMALL_SHARE: Final = 0.05
"""Columns, journal and caches, as a share of the images: 1 to 3 % of the usual sizes."""
_SMALL_BYTES: Final = 64 << 10
"""The same for a file of few images: each of some ten members begins at a new page."""
_JPEG_SHARES: Final = {90: 0.12, 95: 0.19, 98: 0.27, 100: 0.42}
"""Bytes of JPEGs as a share of their pixels', by the quality up to which the share holds. Measured
on photographs; noise takes up to three times as much."""


def ensure_space(
    directory: Path,
    photographs: Photographs,
    files: Sequence[PlannedFile],
    table: AnnotationTable,
    *,
    is_continued: bool,
) -> None:
    """Checks that the files will fit next to those that are there.

    Published files stay until new ones take their names, so their space is not counted as free.
    Rows that were kept of an abandoned run are deleted if there is no space for both. This is an
    estimate: a disk that fills up during the run ends it, and the next run continues.

    Args:
        directory: where the files go.
        photographs: knows the sizes of the images.
        files: those that are still to be written.
        table: the annotations.
        is_continued: whether partial files are continued, whose rows need no more space.

    Raises:
        OSError: ``ENOSPC``, with the bytes needed and the bytes free.
    """
    needed = 0
    for file in files:
        images = _image_bytes(file, table.take(file.images), photographs)
        needed += int(images * (1 + _SMALL_SHARE)) + _SMALL_BYTES
        partial = partial_path(directory, file.name)
        if is_continued and partial.exists():
            needed -= partial.stat().st_size  # its rows are on the disk already
    free = shutil.disk_usage(directory).free
    if needed > free and needed <= free + sum(p.stat().st_size for p in earlier_paths(directory)):
        delete_earlier(directory)
        free = shutil.disk_usage(directory).free
    if needed > free:
        raise OSError(
            errno.ENOSPC,
            f"the output may need {needed:,} bytes, {free:,} are free: "
            f"free some, choose another output_dir, or a smaller image_size",
            str(directory),
        )


def _image_bytes(file: PlannedFile, table: AnnotationTable, photographs: Photographs) -> int:
    """Estimates the bytes of a file's images; `table` has only these."""
    if file.task.may_keep_originals:
        # Processing reports the images that are missing.
        return sum(photographs.size(path) or 0 for path in table.image_paths.tolist())
    pixels = 3 * file.task.most_rows(table) * prod(file.output.image_size)
    encoding = file.output.encoding
    if encoding.is_raw:
        return pixels
    share = next(share for most, share in _JPEG_SHARES.items() if encoding.quality <= most)
    return int(share * pixels)
