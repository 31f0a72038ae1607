"""Layout: what the samples of a dataset look like. CacheInfo: the state of its cache."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class CacheInfo(NamedTuple):
    """State of the cache of this process, with the fields of `functools.lru_cache`.

    Example:
        >>> CacheInfo(hits=1, misses=2, maxsize=10, currsize=2).hits
        1
    """

    hits: int
    misses: int
    maxsize: int
    currsize: int


class Layout(NamedTuple):
    """The properties that datasets must have in common to be read as one."""

    task: str
    image_shape: tuple[int, ...]
    image_dtype: np.dtype[Any]
    category_names: tuple[str, ...]
    keypoint_names: tuple[str, ...] | None
    """Empty if the points have no names; None for files of other writers."""
    row_shapes: tuple[tuple[str, tuple[int, ...] | str], ...]
    return_index: bool
