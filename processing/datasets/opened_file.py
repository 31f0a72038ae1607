"""Opening and reading one NPZ file on behalf of `LazyNPZDataset`.

Functions without state. They add to the reader of `processing.npz` what a dataset needs: a remedy
where a limit forbids opening, checksums, and the layout that datasets are compared by.
"""

from __future__ import annotations

import errno
import os
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from processing.core.arguments import check_path
from processing.core.columns import ColumnArray, RaggedArray
from processing.datasets.sample_dataset import Layout
from processing.npz.contents import Contents
from processing.npz.mapped import MappedNPZ

StrPath = str | PathLike[str]


def open_contents(
    path: StrPath, cache_dir: StrPath | None, *, verify: bool
) -> tuple[MappedNPZ, Contents]:
    """Maps a file and reads its directory and headers.

    Args:
        path: the NPZ file.
        cache_dir: directory for members that have to be unpacked; None: next to the file.
        verify: whether to compare all members but the images with their checksums.

    Raises:
        OSError: the file cannot be opened or mapped; names the limit to raise, if there is one.
        NPZFormatError: the file is damaged or is not a dataset.
    """
    try:
        cache = None if cache_dir is None else check_path("cache_dir", cache_dir)
        npz = MappedNPZ(check_path("path", path), cache_dir=cache)
        return npz, Contents.read(npz, verify=verify)
    except OSError as error:
        if error.errno not in _LIMITS:
            raise
        # The system's own text does not tell which limit to raise.
        raise OSError(error.errno, _LIMITS[error.errno], os.fspath(path)) from error


_LIMITS = {
    errno.EMFILE: "too many open files: each data file takes 2 descriptors; raise the limit before "
    "the program starts (`ulimit -n`, in a container `--ulimit nofile=`), or read fewer, larger "
    "files",
    errno.ENOMEM: "cannot be mapped: the whole file has to fit into the address space, but not "
    "into memory; raise the limit of the address space (`ulimit -v`), or split the data among "
    "smaller files",
}
"""What to do if a limit of the process or the system does not allow another open file."""


def read_rows(
    columns: Contents, indices: NDArray[np.intp], images_out: NDArray[Any] | None, *, verify: bool
) -> dict[str, ColumnArray]:
    """Gathers rows, like `Contents.gather`, and compares their images with the checksums if wanted.

    Raises:
        ChecksumError: an image differs from its checksum; names the row.
    """
    rows = columns.gather(indices, images_out=images_out)
    if verify:
        columns.verify_rows(indices, np.asarray(rows["images"]))
    return rows


def read_row(columns: Contents, verify: bool, index: int) -> dict[str, ColumnArray]:
    """Reads one row as a batch of one; the function behind the cache."""
    return read_rows(columns, np.array([index]), None, verify=verify)


def layout_of(columns: Contents, *, return_index: bool) -> Layout:
    """Returns the properties that datasets must share to be combined."""
    row_shapes: list[tuple[str, tuple[int, ...] | str]] = []
    for name, column in columns.annotations.items():
        if isinstance(column, RaggedArray):
            row_shapes.append((name, "ragged"))
        else:
            row_shapes.append((name, column.shape[1:]))
    return Layout(
        columns.task,
        columns.images.shape[1:],
        columns.image_dtype,
        columns.category_names,
        tuple(row_shapes),
        return_index,
    )
