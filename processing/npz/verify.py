"""Compares a whole NPZ file with its checksums, and a file of ours with the promises of its format.

Reads the file once, in bounded memory. Values are checked after all checksums: a wrong value was
then written that way.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from isal.isal_zlib import crc32, crc32_combine
from numpy.typing import NDArray

from processing.core.columns import RaggedArray
from processing.core.errors import REBUILD, ChecksumError, NPZFormatError, damaged
from processing.npz.contents import Contents
from processing.npz.encoded_images import EncodedImages
from processing.npz.mapped import CHECK_BYTES

_CHANNELS: Final = 3
_LAST_CHARACTER: Final = 0x10FFFF  # of Unicode
_ROUNDING: Final = 0.01  # pixels that a box may leave its image: float32 rounds


def verify_columns(contents: Contents) -> None:
    """Checks every byte and every value of a file.

    Args:
        contents: the open file.

    Raises:
        ChecksumError: bytes differ from their checksum; names member and row.
        NPZFormatError: members contradict each other, or a value is impossible; names member and
            row.
    """
    contents = contents.whole()  # its space is free again when this function ends
    npz = contents.npz
    stored = contents.stored
    has_row_checksums = "image_crc32" in npz and stored.is_contiguous
    for name in npz:
        # Images in the NPZ file itself are compared below, so that they are read only once.
        is_compared_below = name == stored.member and has_row_checksums and npz.is_in_place(name)
        if not is_compared_below:
            npz.verify(name)
    if isinstance(stored, EncodedImages):
        _verify_offsets(contents, stored.member, stored.rows)
    if has_row_checksums:
        _verify_images(contents)
    npz.verify_layout()
    for name, column in contents.annotations.items():
        if isinstance(column, RaggedArray):
            _verify_offsets(contents, name, column)
    _verify_paths(contents)
    if "format_version" in contents.metadata:  # other programs promise nothing
        _verify_promises(contents)


def _verify_offsets(contents: Contents, name: str, rows: RaggedArray) -> None:
    try:
        RaggedArray(rows.values, rows.offsets, check=True)
    except ValueError as error:
        raise damaged(f"{contents.npz.path}: member {name!r}", str(error)) from error


def _verify_images(contents: Contents) -> None:
    """Compares each image with its checksum, and combines these into the member's checksum."""
    npz, stored = contents.npz, contents.stored
    member = npz.member_bytes(stored.member)
    total = crc32(member[: len(member) - stored.nbytes])  # of the NPY header
    for chunk in _chunks(len(stored), stored.nbytes // max(1, len(stored))):
        npz.check_size()
        for index, expected in enumerate(stored.checksums(chunk) or (), chunk.start):
            row = stored.row(index)
            total = crc32_combine(total, stored.compare(index, row, expected), row.nbytes)
        npz.release_pages()
    expected = npz.entry(stored.member).CRC
    if total != expected:
        raise ChecksumError(
            f"{npz.path}: member {stored.member!r}: CRC-32 is {total:08x}, the ZIP directory says "
            f"{expected:08x}, though each row is right: its header is damaged; {REBUILD}"
        )


def _verify_paths(contents: Contents) -> None:
    """Checks that every path is text: numpy stores a character in 4 bytes, Unicode has fewer."""
    paths = np.ascontiguousarray(contents.image_paths)
    width = paths.dtype.itemsize // 4
    if width == 0:  # all paths are empty
        return
    characters = paths.view(paths.dtype.byteorder + "u4").reshape(-1, width)
    for chunk in _chunks(len(paths), paths.itemsize):
        wrong = (characters[chunk] > _LAST_CHARACTER).any(axis=1)
        _raise_first(contents, "image_paths", chunk, wrong, "not text")
        contents.npz.release_pages()


def _verify_promises(contents: Contents) -> None:
    """Checks the promises of `format.py` that no checksum covers."""
    npz, metadata, rows = contents.npz, contents.metadata, len(contents)
    height_width = list(contents.stored.shape[:2])
    if metadata.get("image_size") not in (None, height_width):
        found = f"image_size is {metadata['image_size']}, the images have {height_width}"
        raise _member_error(contents, "metadata", found)
    counts = metadata.get("counts", {})
    counted = counts.get("rows") if isinstance(counts, dict) else counts
    if counted not in (None, rows):
        found = f"counts.rows is {counted}, there are {rows} images"
        raise _member_error(contents, "metadata", found)
    _verify_members(contents)
    if isinstance(contents.stored, EncodedImages):
        _verify_rows(contents, contents.stored)
    for name, column in contents.annotations.items():
        values = column.values if isinstance(column, RaggedArray) else column
        for chunk in _chunks(len(values), values[:1].nbytes):
            _verify_values(contents, name, chunk, values[chunk])
            npz.release_pages()


def _verify_members(contents: Contents) -> None:
    """Checks that images are RGB, that each box has one label, and the columns of the sources."""
    npz, stored = contents.npz, contents.stored
    if stored.dtype != np.uint8 or stored.shape[2] != _CHANNELS:
        found = f"expected uint8 of 3 channels, found {stored.dtype} of {stored.shape}"
        raise _member_error(contents, stored.member, found)
    boxes, labels = contents.annotations.get("bboxes"), contents.annotations.get("labels")
    if (
        isinstance(boxes, RaggedArray)
        and isinstance(labels, RaggedArray)
        and not np.array_equal(boxes.offsets, labels.offsets)
    ):
        raise _member_error(contents, "labels_offsets", "differs from bboxes_offsets")
    if "source_rects" in npz:
        rects = npz["source_rects"]
        if not (np.isfinite(rects).all() and (rects[:, :2] < rects[:, 2:]).all()):
            raise _member_error(contents, "source_rects", "not all are rectangles")
    if "source_sizes" in npz and (npz["source_sizes"] < 1).any():
        raise _member_error(contents, "source_sizes", "not all are sizes")


def _verify_rows(contents: Contents, stored: EncodedImages) -> None:
    """Checks kind and size of each encoded image. Decoding would take twenty times as long."""
    for chunk in _chunks(len(stored), stored.nbytes // max(1, len(stored))):
        contents.npz.check_size()
        for index in range(chunk.start, chunk.stop):
            stored.check_row(index)
        contents.npz.release_pages()


def _member_error(contents: Contents, name: str, problem: str) -> NPZFormatError:
    return NPZFormatError(f"{contents.npz.path}: member {name!r}: {problem}; {REBUILD}")


def _verify_values(contents: Contents, name: str, chunk: slice, values: NDArray[Any]) -> None:
    """Checks that labels are categories, that numbers are finite, and that boxes are in images."""
    if name == "labels":
        wrong = (values < 0) | (values >= len(contents.category_names))
        _raise_first(contents, name, chunk, wrong, "is no position in category_names")
        return
    finite = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    _raise_first(contents, name, chunk, ~finite, "is not finite")
    if name == "bboxes":
        low, high = values[:, :2], values[:, 2:]
        limits = _width_height(contents, chunk) + _ROUNDING
        outside = (low < -_ROUNDING) | (high > limits) | (low > high)
        _raise_first(contents, name, chunk, outside.any(axis=1), "is no box inside its image")


def _width_height(contents: Contents, chunk: slice) -> NDArray[Any]:
    """Returns width and height of the images that boxes refer to: (2,) or (boxes, 2)."""
    if contents.task != "teacher":
        height, width = contents.stored.shape[:2]
        return np.array([width, height])
    # Teacher boxes are in source images, one box per row.
    if "source_sizes" not in contents.npz:
        return np.array([np.inf, np.inf])
    return contents.npz["source_sizes"][chunk, ::-1]  # stored as height, width


def _chunks(rows: int, row_bytes: int) -> Iterator[slice]:
    """Yields slices of rows that can be checked in bounded memory."""
    step = max(1, CHECK_BYTES // max(1, row_bytes))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def _raise_first(contents: Contents, name: str, chunk: slice, wrong: Any, problem: str) -> None:
    """Raises an error for the first wrong value of a chunk, if there is one.

    Args:
        contents: the file.
        name: the member.
        chunk: the positions that were checked.
        wrong: bool, one per position.
        problem: for the message.
    """
    if not wrong.any():
        return
    row = position = chunk.start + int(np.flatnonzero(wrong)[0])
    column = contents.annotations.get(name, contents.image_paths)
    if isinstance(column, RaggedArray):
        row = int(np.searchsorted(column.offsets, position, side="right")) - 1
        column = column.values
    value = ""
    if name != "image_paths":  # the path cannot be printed
        value = f"{column[position].tolist()!r:.100} "
    raise NPZFormatError(
        f"{contents.npz.path}: member {name!r}, row {row}: {value}{problem}; {REBUILD}"
    )
