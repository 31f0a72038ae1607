"""Images of any file as RGB pictures, with their sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from processing.core.channels import stored_channel_axis
from processing.core.errors import NPZFormatError
from processing.npz.contents import Contents
from processing.npz.set_contents import SetContents
from processing.report.text import without_directory

_AT_ONCE: Final = 32 << 20
"""Bytes of images that are gathered at a time."""

Image = NDArray[np.uint8]


def stored_size(contents: Contents | SetContents) -> tuple[int, int]:
    """Returns height and width of the stored images."""
    shape = contents.image_shape
    if stored_channel_axis(shape) == 0:
        return shape[1], shape[2]
    return shape[0], shape[1]


def read_images(
    contents: Contents | SetContents, rows: Sequence[int], failures: list[str]
) -> Iterator[tuple[int, Image]]:
    """Yields rows with their images, uint8 (H, W, 3) RGB. Damaged ones are left out.

    Args:
        contents: the file.
        rows: rows to read, in this order.
        failures: gets a message for each damaged image.
    """
    row_bytes = int(np.prod(contents.image_shape)) * contents.image_dtype.itemsize
    step = max(1, min(256, _AT_ONCE // max(1, row_bytes)))
    for start in range(0, len(rows), step):
        chunk = list(rows[start : start + step])
        for row, image in _gather(contents, chunk, failures):
            yield row, as_rgb(image)
        # Pages of a map count as memory of this process, however large the file is.
        for part in {id(part): part for part, _ in map(contents.locate, chunk)}.values():
            part.npz.release_pages()


def _gather(
    contents: Contents | SetContents, rows: list[int], failures: list[str]
) -> Iterator[tuple[int, NDArray[Any]]]:
    images = np.empty((len(rows), *contents.image_shape), contents.image_dtype)
    try:
        indices = np.array(rows, np.intp)
        contents.gather_images(indices, images, verify=contents.has_row_checksums)
    except NPZFormatError as error:
        if len(rows) == 1:
            message = without_directory(str(error), contents.path)
            if message not in failures:  # several pictures may show the same row
                failures.append(message)
            return
        for row in rows:  # one of them is damaged
            yield from _gather(contents, [row], failures)
        return
    yield from zip(rows, images, strict=True)


def as_rgb(image: NDArray[Any]) -> Image:
    """Returns any stored image as uint8 (H, W, 3); a view if it is one already.

    Args:
        image: (H, W, C) or (C, H, W); grey, RGB, or RGB with alpha; integers from 0 to 255,
            fractions from 0 to 1, or any other numbers, which are stretched over all grey values.
    """
    if stored_channel_axis(image.shape) == 0:
        image = image.transpose(1, 2, 0)
    channels = image.shape[2]
    # Of images with other channels, such as those of satellites, the first one is shown.
    image = image[..., :3] if channels in (3, 4) else image[..., :1]
    if image.dtype != np.uint8:
        image = _to_bytes(image)
    rgb: Image = image if image.shape[2] == 3 else np.repeat(image, 3, axis=2)
    return rgb


def _to_bytes(image: NDArray[Any]) -> Image:
    values = np.nan_to_num(image.astype(np.float32))
    low, high = float(values.min()), float(values.max())
    if image.dtype.kind in "fb" and low >= 0 and high <= 1:
        values = values * 255
    elif low < 0 or high > 255:
        values = (values - low) * (255 / max(high - low, 1e-12))
    bounded: Image = np.clip(values + 0.5, 0, 255).astype(np.uint8)
    return bounded
