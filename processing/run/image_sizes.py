"""The sizes of stored images, as the user gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from processing.core.arguments import check_integer
from processing.imaging.tasks import TASKS

MAX_SIDE: Final = 65_535  # of a stored image, in pixels

ImageSize = int | Sequence[int]


def image_sizes(
    image_size: ImageSize | Mapping[str, ImageSize] | None,
) -> dict[str, tuple[int, int]]:
    """Height and width by task name.

    Raises:
        ValueError: neither a positive integer, nor a pair of them, nor a mapping to these.
    """
    defaults = {name: task.default_image_size for name, task in TASKS.items()}
    if not isinstance(image_size, Mapping | None):
        return {name: _size("image_size", image_size) for name in TASKS}
    sizes: dict[str, ImageSize] = {**defaults, **(image_size or {})}
    unknown = set(sizes) - set(TASKS)
    if unknown:
        raise ValueError(f"image_size names {sorted(unknown)}: the tasks are {', '.join(TASKS)}")
    return {name: _size(f"image_size.{name}", sizes[name]) for name in TASKS}


def _size(name: str, value: ImageSize) -> tuple[int, int]:
    pair: list[Any] = [value, value]
    # An array of no dimensions is a number, and bytes are no pair of numbers.
    if isinstance(value, Sequence | np.ndarray) and np.ndim(value) == 1:
        pair = list(value)
    try:
        height, width = (check_integer(name, side, least=1) for side in pair)
    except (TypeError, ValueError):
        height = width = 0
    if not 0 < height <= MAX_SIDE >= width:
        raise ValueError(
            f"{name} must be a side in pixels, 1 to {MAX_SIDE}, or (height, width), got {value!r}"
        )
    return height, width
