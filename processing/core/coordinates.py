"""Converts coordinates between stored images, upright photographs and photographs in their files.

A stored image shows a rectangle of the upright photograph, so stored and source coordinates differ
by one scale and one shift per axis. A rectangle is x1, y1, x2, y2 in pixels of the upright source
image: y points down, the corner of the first pixel is (0, 0), and the rectangle may reach beyond
the image. Sizes are height, width. Pure functions, safe from any thread.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Rect = tuple[float, float, float, float]
"""x1, y1, x2, y2. Python numbers: arithmetic on four of them is faster than on an array."""
Size = tuple[int, int]


class Orientation(NamedTuple):
    """The steps that turn a file's image upright: transpose it, then reverse upright axes."""

    transposed: bool
    reversed_x: bool
    reversed_y: bool


ORIENTATIONS: Final = {
    1: Orientation(transposed=False, reversed_x=False, reversed_y=False),
    2: Orientation(transposed=False, reversed_x=True, reversed_y=False),
    3: Orientation(transposed=False, reversed_x=True, reversed_y=True),
    4: Orientation(transposed=False, reversed_x=False, reversed_y=True),
    5: Orientation(transposed=True, reversed_x=False, reversed_y=False),
    6: Orientation(transposed=True, reversed_x=True, reversed_y=False),
    7: Orientation(transposed=True, reversed_x=True, reversed_y=True),
    8: Orientation(transposed=True, reversed_x=False, reversed_y=True),
}
"""The values of the EXIF tag ``Orientation`` (CIPA DC-008, 4.6.5)."""


def source_to_stored(coordinates: ArrayLike, rect: ArrayLike, size: Size) -> NDArray[Any]:
    """Maps pixels of the upright source image to pixels of the stored image.

    Args:
        coordinates: (..., 2) points x, y; (..., 3) points x, y, visibility, which is kept; or
            (..., 4) boxes x1, y1, x2, y2.
        rect: (4,) the rectangle that the stored image shows.
        size: height, width of the stored image.

    Returns:
        A new array of the same shape; of the same dtype if that is a float, float64 otherwise.
    """
    x1, y1, x2, y2 = _corners(rect)
    x_scale, y_scale = size[1] / (x2 - x1), size[0] / (y2 - y1)
    shift = np.array([-x_scale * x1, -y_scale * y1])
    return _map(coordinates, np.array([x_scale, y_scale]), shift)


def stored_to_source(coordinates: ArrayLike, rect: ArrayLike, size: Size) -> NDArray[Any]:
    """Maps pixels of the stored image to pixels of the upright source image.

    The inverse of `source_to_stored`.

    Args:
        coordinates: as in `source_to_stored`.
        rect: (4,) the rectangle that the stored image shows.
        size: height, width of the stored image.

    Returns:
        A new array of the same shape; of the same dtype if that is a float, float64 otherwise.
    """
    x1, y1, x2, y2 = _corners(rect)
    return _map(
        coordinates, np.array([(x2 - x1) / size[1], (y2 - y1) / size[0]]), np.array([x1, y1])
    )


def rows_to_source(pairs: ArrayLike, rects: ArrayLike, size: Size) -> NDArray[np.float64]:
    """Maps pixels of stored images to pixels of their upright source images, for many images.

    Args:
        pairs: (V, 2) points x, y, or (V, k, 2).
        rects: (V, 4) the rectangle that the stored image of each point shows.
        size: height, width of the stored images.

    Returns:
        float64, a new array of the shape of `pairs`.
    """
    stored, corners = np.asarray(pairs, np.float64), np.asarray(rects, np.float64)
    low = corners[:, :2]
    scale = (corners[:, 2:] - low) / (size[1], size[0])
    if stored.ndim == 3:
        low, scale = low[:, None], scale[:, None]
    return stored * scale + low


def stored_to_upright(coordinates: ArrayLike, orientation: int, stored_size: Size) -> NDArray[Any]:
    """Maps pixels of a photograph as its file stores it to pixels of the upright photograph.

    Args:
        coordinates: as in `source_to_stored`. Boxes keep their order: x1 < x2 stays x1 < x2.
        orientation: the EXIF orientation, 1 to 8.
        stored_size: height, width of the photograph in its file.

    Returns:
        A new array of the same shape; of the same dtype if that is a float, float64 otherwise.
    """
    transposed, *reverses = ORIENTATIONS[orientation]
    height, width = stored_size
    extents = (height, width) if transposed else (width, height)
    result = _float_copy(coordinates)
    pairs = _pairs(result)
    if transposed:
        pairs[...] = pairs[..., ::-1]
    for axis, (reverse, extent) in enumerate(zip(reverses, extents, strict=True)):
        if reverse:
            # The second corner comes first, because reversing an axis swaps lower and upper.
            pairs[..., axis] = extent - pairs[..., ::-1, axis]
    return result


def _corners(rect: ArrayLike) -> Rect:
    if isinstance(rect, tuple):  # called for every stored row: an array would double the time
        x1, y1, x2, y2 = rect
    else:
        x1, y1, x2, y2 = np.asarray(rect, dtype=np.float64).tolist()
    return x1, y1, x2, y2


def _map(
    coordinates: ArrayLike, scale: NDArray[np.float64], shift: NDArray[np.float64]
) -> NDArray[Any]:
    result = _float_copy(coordinates)
    pairs = _pairs(result)
    pairs[...] = pairs * scale + shift
    return result


def _float_copy(coordinates: ArrayLike) -> NDArray[Any]:
    given = np.asarray(coordinates)
    dtype = given.dtype if given.dtype.kind == "f" else np.float64
    return np.array(given, dtype=dtype, order="C")  # in C order `_pairs` is a view of it


def _pairs(coordinates: NDArray[Any]) -> NDArray[Any]:
    """Returns a view of the x, y pairs: (..., 1, 2) of points, (..., 2, 2) of boxes."""
    columns = coordinates.shape[-1] if coordinates.ndim else 0
    if columns not in (2, 3, 4):
        raise ValueError(
            f"coordinates of shape {coordinates.shape}: expected (..., 2) or (..., 3) for points,"
            " (..., 4) for boxes"
        )
    if columns == 4:
        return coordinates.reshape(*coordinates.shape[:-1], 2, 2)
    return coordinates[..., None, :2]
