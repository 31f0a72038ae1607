"""Compares all of an NPZ file with its checksums, and a file of ours with what its format promises.

Reads the file once, in bounded memory whatever its size. Contents are looked at after all checksums
were right: what is found then was written that way.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from isal.isal_zlib import crc32, crc32_combine
from numpy.typing import NDArray

from processing.core.columns import RaggedArray
from processing.core.errors import ChecksumError, NPZFormatError
from processing.npz.contents import Contents
from processing.npz.format import REBUILD
from processing.npz.mapped import CHECK_BYTES

_CHANNELS: Final = 3
_LAST_CHARACTER: Final = 0x10FFFF
_ROUNDING: Final = 0.01
"""Pixels by which a float32 box may leave its image."""


def verify_columns(columns: Contents) -> None:
    """Compares everything in a file with what the file says of it.

    Raises:
        ChecksumError: some bytes differ from what was written; names member and row.
        NPZFormatError: parts of the file contradict each other; names member and row.
    """
    npz = columns.npz
    rows_checked = "image_crc32" in npz and columns.images.flags.c_contiguous
    for name in npz:
        in_place = name == "images" and rows_checked and npz.location(name)[0] == npz.path
        if not in_place:  # else `_verify_images` compares it, reading it once
            npz.verify(name)
    if rows_checked:
        _verify_images(columns)
    npz.verify_layout()
    for name, column in columns.annotations.items():
        if isinstance(column, RaggedArray):
            try:
                RaggedArray(column.values, column.offsets, check=True)
            except ValueError as error:
                raise NPZFormatError(
                    f"{npz.path}: member {name!r}: {error}: the file is damaged; {REBUILD}"
                ) from error
    _verify_paths(columns)
    if "format_version" in columns.metadata:
        _verify_promises(columns)


def _verify_images(columns: Contents) -> None:
    """Reads the bulk once, for the rows' checksums and for the member's."""
    npz, images = columns.npz, columns.images
    row_bytes = images[:1].nbytes
    member = npz.member_bytes("images")
    total = crc32(member[: len(member) - images.nbytes])
    for chunk in _chunks(len(images), max(1, CHECK_BYTES // max(row_bytes, 1))):
        npz.check_size()
        for index, expected in enumerate(npz["image_crc32"][chunk].tolist(), chunk.start):
            found = crc32(images[index])
            if found != expected & 0xFFFFFFFF:  # others may store it signed
                raise columns.damaged_row(index, found, expected)
            total = crc32_combine(total, found, row_bytes)
        npz.release_pages()
    expected = npz.member_crc32("images")
    if total != expected:
        raise ChecksumError(
            f"{npz.path}: member 'images': CRC-32 is {total:08x}, the ZIP directory says "
            f"{expected:08x}, though each row is right: its header is damaged; {REBUILD}"
        )


def _verify_paths(columns: Contents) -> None:
    """A path is four bytes a character, of which not every value is one."""
    paths = np.ascontiguousarray(columns.image_paths)
    width = paths.dtype.itemsize // 4
    codes: NDArray[Any] = (
        paths.view(paths.dtype.byteorder + "u4").reshape(-1, width) if width else paths
    )
    for chunk in _chunks(len(codes) if width else 0, _rows_at_once(paths)):
        _refuse(columns, "image_paths", chunk, (codes[chunk] > _LAST_CHARACTER).any(1), "not text")
        columns.npz.release_pages()


def _verify_promises(columns: Contents) -> None:
    """What `npz_format` says of a file of ours and no checksum shows."""
    npz, metadata, images = columns.npz, columns.metadata, columns.images
    counts = metadata.get("counts", {})
    said = {
        "image_size": (metadata.get("image_size"), list(images.shape[1:3])),
        "counts.rows": (counts.get("rows") if isinstance(counts, dict) else counts, len(images)),
    }
    for name, (written, found) in said.items():
        if written not in (None, found):
            raise NPZFormatError(
                f"{npz.path}: member 'metadata': {name} is {written}, the images have {found}; "
                f"{REBUILD}"
            )
    _verify_kinds(columns)
    for name, column in columns.annotations.items():
        values = column.values if isinstance(column, RaggedArray) else column
        for chunk in _chunks(len(values), _rows_at_once(values)):
            _verify_values(columns, name, chunk, values[chunk])
            npz.release_pages()


def _verify_kinds(columns: Contents) -> None:
    """Images are RGB, labels belong to boxes one by one, and all of them show something."""
    npz, images = columns.npz, columns.images
    wrong = {}
    if images.dtype != np.uint8 or images.shape[3] != _CHANNELS:
        wrong["images"] = f"expected uint8 of 3 channels, found {images.dtype} {images.shape}"
    boxes, labels = (columns.annotations.get(name) for name in ("bboxes", "labels"))
    if (
        isinstance(boxes, RaggedArray)
        and isinstance(labels, RaggedArray)
        and not np.array_equal(boxes.offsets, labels.offsets)
    ):
        wrong["labels_offsets"] = "labels of other boxes than bboxes_offsets says"
    if "source_rects" in npz:
        rects = npz["source_rects"]
        if not (np.isfinite(rects).all() and (rects[:, :2] < rects[:, 2:]).all()):
            wrong["source_rects"] = "not all are rectangles"
    if "source_sizes" in npz and (npz["source_sizes"] < 1).any():
        wrong["source_sizes"] = "not all are sizes"
    for name, said in wrong.items():
        raise NPZFormatError(f"{npz.path}: member {name!r}: {said}; {REBUILD}")


def _verify_values(columns: Contents, name: str, chunk: slice, values: NDArray[Any]) -> None:
    """Labels are categories, all else is finite, and boxes lie inside their images."""
    if name == "labels":
        wrong = (values < 0) | (values >= len(columns.category_names))
        _refuse(columns, name, chunk, wrong, "is no position in category_names")
        return
    finite = np.isfinite(values.reshape(len(values), -1)).all(1)
    _refuse(columns, name, chunk, ~finite, "is not finite")
    if name == "bboxes":
        low, high = values[:, :2], values[:, 2:]
        outside = (low < -_ROUNDING) | (high > _box_limits(columns, chunk)) | (low > high)
        _refuse(columns, name, chunk, outside.any(1), "is no box inside its image")


def _box_limits(columns: Contents, chunk: slice) -> NDArray[np.float64]:
    """Width and height of the images that boxes are in."""
    if columns.task == "teacher":
        sizes = columns.npz.get("source_sizes", np.full((len(columns), 2), np.inf))
        return sizes[chunk, ::-1] + _ROUNDING
    return np.array(columns.images.shape[2:0:-1]) + _ROUNDING


def _rows_at_once(values: NDArray[Any]) -> int:
    """So many that work is done in bounded memory, however long a row is."""
    return max(1, CHECK_BYTES // max(1, values[:1].nbytes))


def _chunks(rows: int, at_once: int) -> Iterator[slice]:
    return (slice(start, min(start + at_once, rows)) for start in range(0, rows, at_once))


def _refuse(columns: Contents, name: str, chunk: slice, wrong: Any, said: str) -> None:
    """Raises an error that names the first row of a chunk with a wrong value, if there is one.

    Args:
        columns: the file.
        name: the member.
        chunk: which of its values were looked at.
        wrong: bool, one for each of them.
        said: what is wrong.
    """
    if not wrong.any():
        return
    row = position = chunk.start + int(np.flatnonzero(wrong)[0])
    column = columns.annotations.get(name, columns.image_paths)
    if isinstance(column, RaggedArray):
        row = int(np.searchsorted(column.offsets, position, side="right")) - 1
        column = column.values
    value = "" if name == "image_paths" else f"{column[position].tolist()!r:.100} "
    raise NPZFormatError(
        f"{columns.npz.path}: member {name!r}, row {row}: {value}{said}; {REBUILD}"
    )
